"""Languages as the report groups them: all, other than English, and by resource class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from maple import languages
from maple.errors import MapleError

ENGLISH = "eng_Latn"
UNKNOWN = "unknown"
LOW_RESOURCE = frozenset({0, 1, 2})
"""Joshi classes called low-resource in a headline; the MAPLE paper states no split."""

Kind = Literal[
    "all",
    "non-english",
    "english",
    "resource-class",
    "low-resource",
    "high-resource",
    "script",
    "family",
    "region",
]


@dataclass(frozen=True, kw_only=True)
class LanguageFacts:
    """What a table says of a language."""

    code: str
    name: str
    tag: str
    """BCP 47, for ``lang=`` attributes."""
    script: str
    resource_class: int | None
    """Joshi et al. (2020), 0..5; None where unknown."""
    family: str = UNKNOWN
    """Top-level language family; ``unknown`` where no table has the language."""
    region: str = UNKNOWN
    """United Nations subregion."""


@dataclass(frozen=True, kw_only=True)
class LanguageGroup:
    """Languages that a mean is taken over."""

    kind: Kind
    name: str
    """Unique among the groups, for example ``all`` or ``class 2``."""
    languages: tuple[str, ...]


@cache
def facts(code: str) -> LanguageFacts:
    """Returns what is known of a language; a code no table has stands for itself."""
    try:
        found = languages.find(code)
    except MapleError:
        script = code.partition("_")[2]
        return LanguageFacts(code=code, name=code, tag="und", script=script, resource_class=None)
    return LanguageFacts(
        code=code,
        name=found.name,
        tag=found.tag,
        script=found.script,
        resource_class=found.resource_class,
        family=found.family,
        region=found.region,
    )


def language_groups(codes: Iterable[str]) -> list[LanguageGroup]:
    """Returns the groups that have a language: the whole first, then classes in order.

    English counts in ``all`` and in its class; ``non-english``, ``low-resource`` and
    ``high-resource`` leave it out, because English is the retention check, and so do scripts,
    families and regions: it would stand for "Latin script" or "Northern America" by itself.
    """
    return list(_groups_of(tuple(sorted(set(codes)))))


@cache
def _groups_of(codes: tuple[str, ...]) -> tuple[LanguageGroup, ...]:
    classes = {code: facts(code).resource_class for code in codes}
    foreign = [code for code in codes if code != ENGLISH]
    known = sorted({c for c in classes.values() if c is not None})
    groups: list[tuple[Kind, str, list[str]]] = [
        ("all", "all", list(codes)),
        ("non-english", "non-english", foreign),
        ("english", "english", [code for code in codes if code == ENGLISH]),
        *(("resource-class", f"class {k}", _of(codes, classes, {k})) for k in known),
        ("resource-class", "class unknown", [c for c in codes if classes[c] is None]),
        ("low-resource", "low-resource", _of(foreign, classes, LOW_RESOURCE)),
        ("high-resource", "high-resource", _of(foreign, classes, {*known} - LOW_RESOURCE)),
        *_alike("script", foreign, {code: facts(code).script for code in foreign}),
        *_alike("family", foreign, {code: facts(code).family for code in foreign}),
        *_alike("region", foreign, {code: facts(code).region for code in foreign}),
    ]
    return tuple(
        LanguageGroup(kind=kind, name=name, languages=tuple(members))
        for kind, name, members in groups
        if members
    )


def _alike(
    kind: Kind, codes: Sequence[str], values: Mapping[str, str]
) -> list[tuple[Kind, str, list[str]]]:
    """Groups of languages that have a fact in common, named ``script Latn``."""
    return [
        (kind, f"{kind} {value or UNKNOWN}", [code for code in codes if values[code] == value])
        for value in sorted(set(values.values()))
    ]


def _of(codes: Iterable[str], classes: dict[str, int | None], wanted: Iterable[int]) -> list[str]:
    return [code for code in codes if classes[code] in set(wanted)]

"""One table of languages: codes, names, family, script, region and resource class.

The canonical code is FLORES-200's: ISO 639-3, an underscore, ISO 15924 (``swh_Latn``). The facts
stand in ``languages.tsv`` beside this file, one row a language, and each column has one source:

- ``code``: FLORES-200 (NLLB Team 2022, arXiv 2207.04672), all 204 of it; the romanised variants
  of Belebele (arXiv 2308.16884); ``qve_Latn`` for XCOPA's Quechua; ``srp_Latn``, ``uzn_Cyrl`` and
  ``pcm_Latn`` for XLSum; and seven languages that CLDR has and these do not.
- ``name``, ``tag``: Unicode CLDR by way of Babel 2.18; FLORES-200's name where CLDR has none or
  where it tells two varieties apart. The tag is BCP 47, the script left out where it is the only
  one here or the usual one.
- ``aliases``: the names used by XLSum, Bactrian-X, the Hub and ISO 639-2, and withdrawn codes
  (``iw``, ``in``). A macrolanguage's code means its most used member: ``ar`` is ``arb_Arab``.
- ``family``: the top-level family in Glottolog 5, entered by hand; creoles stand with their
  lexifier's family.
- ``region``: the United Nations M49 subregion of the territory in CLDR's likely subtags, so
  English is Northern American and Portuguese South American; of the variety's home where CLDR
  names none. Hawaiian is Polynesian here, though its territory is the United States.
- ``resource_class``: Joshi et al. 2020 (https://aclanthology.org/2020.acl-main.560), matched by
  language name in their ``lang2tax`` table, as mirrored in MaLA-LM/LangResourceAtlas (whose added
  codes are not used: some are wrong). 0 is the least resourced, 5 the most. Of two spellings the
  higher class counts (haitian 2, haitian creole 0). A class belongs to a language, so its scripts
  share it; a macrolanguage's class goes to its members, except that an Arabic variety has one
  only where it is listed itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from maple.errors import CatalogError, unknown_name

_RIGHT_TO_LEFT = frozenset({"Adlm", "Arab", "Hebr", "Nkoo", "Syrc", "Thaa"})
_WITHOUT_SPACES = frozenset({"Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"})


@dataclass(frozen=True, kw_only=True)
class Language:
    """One written language, the unit that everything is trained on, scored and reported by."""

    code: str
    """Canonical code: ``swh_Latn``."""
    name: str
    """English name: ``Swahili``."""
    tag: str
    """BCP 47 tag, unique in the table: ``sw``, ``zh-Hant``."""
    aliases: tuple[str, ...]
    """Other names that ``find`` understands."""
    family: str
    """Top-level language family: ``Atlantic-Congo``."""
    region: str
    """United Nations M49 subregion: ``Eastern Africa``."""
    resource_class: int | None
    """0 (least resourced) to 5; None where the taxonomy does not list the language."""

    @property
    def script(self) -> str:
        """ISO 15924 code of the script: ``Latn``."""
        return self.code[4:]

    @property
    def is_right_to_left(self) -> bool:
        """Whether the script runs from right to left."""
        return self.script in _RIGHT_TO_LEFT

    @property
    def writes_without_spaces(self) -> bool:
        """Whether words are written without white space between them."""
        return self.script in _WITHOUT_SPACES


@cache
def all_languages() -> tuple[Language, ...]:
    """Every language of the table, sorted by code."""
    table = Path(__file__).with_name("languages.tsv").read_text(encoding="utf-8")
    return tuple(_parse(line) for line in table.splitlines()[1:])


def find(alias: str) -> Language:
    """Returns the language that a code or name stands for.

    Args:
        alias: a canonical code, BCP 47 tag, ISO 639 code or name, in any case, with spaces,
            hyphens or underscores: ``swh_Latn``, ``sw``, ``swa``, ``Swahili``, ``zh-Hant``,
            ``chinese_traditional``.

    Raises:
        CatalogError: no language goes by that name; suggests near ones.
    """
    index = _index()
    found = index.get(_normalise(alias))
    if found is None:
        raise CatalogError(_unknown(alias, index))
    return found


def upstream_name(code: str, names: Mapping[str, str], owner: str) -> str:
    """Returns what a data set or benchmark calls a language.

    Args:
        code: canonical code.
        names: canonical code -> upstream name, an entry's ``info.languages``.
        owner: the entry's name, for the message.

    Raises:
        CatalogError: the entry does not have that language; names those it has.
    """
    if code not in names:
        raise CatalogError(unknown_name(f"language of {owner}", code, names))
    return names[code]


def _parse(line: str) -> Language:
    code, name, tag, aliases, family, region, resource_class = line.split("\t")
    return Language(
        code=code,
        name=name,
        tag=tag,
        aliases=tuple(a for a in aliases.split(", ") if a),
        family=family,
        region=region,
        resource_class=int(resource_class) if resource_class else None,
    )


def _normalise(alias: str) -> str:
    return alias.strip().lower().replace("_", "-").replace(" ", "-")


def _keys(language: Language) -> set[str]:
    """Everything ``find`` understands as this language, normalised."""
    bare, _, explicit_script = language.tag.partition("-")
    short = {language.code[:3], bare, *(a for a in language.aliases if len(a) <= 3)}
    keys = {f"{s}-{language.script}" for s in short} | {language.tag, language.name}
    if not explicit_script:
        keys |= short
    return {_normalise(k) for k in keys | set(language.aliases)}


@cache
def _index() -> dict[str, Language]:
    return {key: language for language in all_languages() for key in _keys(language)}


def _unknown(alias: str, index: Mapping[str, Language]) -> str:
    # errors.unknown_name would list a thousand aliases.
    near = difflib.get_close_matches(_normalise(alias), index, n=3, cutoff=0.7)
    hint = " or ".join(dict.fromkeys(f"{k!r} ({index[k].code})" for k in near))
    question = f" Did you mean {hint}?" if hint else ""
    return f"no language {alias!r}.{question} `maple list languages` prints all of them."

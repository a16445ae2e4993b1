"""The facts of the world, their split, and pairings that are not facts.

A *pairing* joins a subject with any value of a relation; the one that CLDR states is the *fact*.
Two thirds of what a passage says is false in the world outside, so that reading is measured and
not memory. A pairing is either open (it may appear in training text) or held out (only benchmarks
use it), and that is settled by its name alone.
"""

import pickle
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from babel import localedata
from babel.core import get_global
from babel.languages import get_territory_language_info

from maple.atlas.frames import read_table
from maple.atlas.names import Names, NameTables, load_names

Split = Literal["train", "validation", "test"]

SUBJECT_KIND = {
    "currency": "territory",
    "language": "territory",
    "spoken": "territory",
    "region": "territory",
    "city": "city",
    "script": "language",
    "week": "territory",
}
VALUE_KIND = {
    "currency": "currency",
    "language": "language",
    "spoken": "language",
    "region": "region",
    "city": "territory",
    "script": "script",
    "week": "day",
}

_HELD_OUT_ONE_IN = 4
_HIGH_ONLY_ONE_IN = 3
_FEWEST_SPEAKERS = 3.0
"""Percent of a territory's people who must speak a language that is said to be spoken there."""
_LATIN_LANGUAGES = 24
_DAY_SPLITS: Mapping[Split, tuple[int, ...]] = {
    "train": (0, 1, 3, 5),
    "validation": (4,),
    "test": (2, 6),
}
_MONTH_SPLITS: Mapping[Split, tuple[int, ...]] = {
    "train": (0, 2, 4, 6, 7, 9, 11),
    "validation": (3,),
    "test": (1, 5, 8, 10),
}


@dataclass(frozen=True)
class Pairing:
    """A subject and a value under a relation, by id: ('currency', 'KE', 'KES')."""

    relation: str
    subject: str
    value: str


@dataclass(frozen=True)
class World:
    """All facts, and which subjects belong to which split."""

    names: NameTables
    facts: Mapping[str, Mapping[str, str]]
    """Relation -> subject -> value."""
    values: Mapping[str, tuple[str, ...]]
    """Relation -> the values in use."""
    subjects: Mapping[Split, Mapping[str, tuple[str, ...]]]
    """Split -> relation -> subjects."""
    _among: dict[tuple[tuple[Split, ...], str], tuple[str, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def among(self, splits: tuple[Split, ...], relation: str) -> tuple[str, ...]:
        """Returns the subjects of a relation in any of the splits."""
        key = (splits, relation)
        if key not in self._among:
            self._among[key] = tuple(s for split in splits for s in self.subjects[split][relation])
        return self._among[key]

    def is_held_out(self, pairing: Pairing) -> bool:
        """Returns whether only benchmarks may state this pairing."""
        if self.facts[pairing.relation].get(pairing.subject) == pairing.value:
            return pairing.subject not in self.subjects["train"][pairing.relation]
        name = f"{pairing.relation}/{pairing.subject}/{pairing.value}"
        return zlib.crc32(name.encode()) % _HELD_OUT_ONE_IN == 0

    def is_high_only(self, pairing: Pairing) -> bool:
        """Returns whether only text in languages of classes 4 and 5 states this fact; False for
        what is no fact of the train split.
        """
        if (
            self.facts[pairing.relation].get(pairing.subject) != pairing.value
            or pairing.subject not in self.subjects["train"][pairing.relation]
        ):
            return False
        name = f"high/{pairing.relation}/{pairing.subject}"
        return zlib.crc32(name.encode()) % _HIGH_ONLY_ONE_IN == 0

    def fact(self, relation: str, subject: str) -> Pairing:
        """Returns what CLDR states of a subject."""
        return Pairing(relation, subject, self.facts[relation][subject])


def order_split(calendar: str, split: Split) -> tuple[int, ...]:
    """Returns the positions in the week or year whose successor belongs to a split; 0 is Monday or
    January.
    """
    return (_DAY_SPLITS if calendar == "day" else _MONTH_SPLITS)[split]


@cache
def load_world() -> World:
    """Returns the world; the same in every process."""
    names = load_names()
    facts = _facts(names)
    halves = _split_subjects(facts)
    values = {relation: tuple(sorted(set(table.values()))) for relation, table in facts.items()}
    return World(
        names=names,
        facts=facts,
        # Weeks begin on four of the days; a pairing may say any.
        values={**values, "week": tuple(sorted(names.kinds["day"]))},
        subjects={
            split: {
                relation: tuple(
                    s for s in facts[relation] if halves[_owner(relation, s, facts)] == split
                )
                for relation in facts
            }
            for split in ("train", "validation", "test")
        },
    )


def _facts(names: NameTables) -> dict[str, dict[str, str]]:
    kinds = names.kinds
    regions = {t: r for r, members in read_table("regions.toml").items() for t in members.split()}
    currencies = {t: _currency(t) for t in kinds["territory"]}
    languages = {t: _language(t) for t in kinds["territory"]}
    territories = [
        t
        for t in sorted(kinds["territory"])
        if currencies[t] in kinds["currency"]
        and languages[t] in kinds["language"]
        and regions.get(t) in kinds["region"]
    ]
    others = {t: _other_language(t, languages[t], kinds["language"]) for t in territories}
    return {
        "currency": {t: currencies[t] for t in territories},
        "language": {t: languages[t] for t in territories},
        "spoken": {t: language for t, language in others.items() if language},
        "region": {t: regions[t] for t in territories},
        "city": _cities(kinds["city"], kinds["territory"], territories),
        "script": _scripts(kinds, sorted(set(languages.values()))),
        "week": {t: str(day) for t in territories if (day := _week_start(t)) is not None},
    }


def _currency(territory: str) -> str:
    rows = get_global("territory_currencies").get(territory, ())
    tender = [code for code, _, end, is_tender in rows if is_tender and end is None]
    return str(tender[0]) if tender else ""


def _language(territory: str) -> str:
    table = get_territory_language_info(territory)
    ranked = sorted(
        (info["official_status"] is None, -float(info["population_percent"] or 0), language)
        for language, info in table.items()
    )
    return ranked[0][2] if ranked else ""


def _other_language(territory: str, main: str, named: Names) -> str:
    """Returns the language that most people speak next to the main one, or nothing."""
    ranked = sorted(
        (-float(info["population_percent"] or 0), language)
        for language, info in get_territory_language_info(territory).items()
        if language != main and language in named
    )
    return ranked[0][1] if ranked and -ranked[0][0] >= _FEWEST_SPEAKERS else ""


@cache
def _territory_locales() -> Mapping[str, str]:
    """Returns, for each territory, the first locale that is of it."""
    locales: dict[str, str] = {}
    for name in sorted(localedata.locale_identifiers()):
        territory = name.rsplit("_", 1)[-1]
        if "_" in name and len(territory) == 2:
            locales.setdefault(territory, name)
    return locales


def _week_start(territory: str) -> int | None:
    """Returns the weekday that a week begins on, 0 for Monday, or None where Babel has no locale of
    the territory.
    """
    locale = _territory_locales().get(territory)
    if locale is None:
        return None
    table = pickle.loads(Path(localedata.resolve_locale_filename(locale)).read_bytes())
    # Where a territory does as most of the world does, its file says nothing: Monday.
    return int(table["week_data"].get("first_day", 0))


def _cities(cities: Names, territory_names: Names, territories: Sequence[str]) -> dict[str, str]:
    """Returns at most two cities a territory, none named like its territory in any language."""
    zones = get_global("territory_zones")
    table: dict[str, str] = {}
    for territory in territories:
        named = [zone for zone in sorted(zones.get(territory, ())) if zone in cities]
        other = [
            z
            for z in named
            if not any(_overlap(cities[z][c], n) for c, n in territory_names[territory].items())
        ]
        table.update(dict.fromkeys(other[:2], territory))
    return table


def _overlap(first: str, second: str) -> bool:
    return first.casefold() in second.casefold() or second.casefold() in first.casefold()


def _scripts(kinds: Mapping[str, Names], languages: Sequence[str]) -> dict[str, str]:
    likely = get_global("likely_subtags")
    table = {}
    latin = 0
    for language in languages:
        script = likely.get(language, "__").split("_")[1]
        latin += script == "Latn"
        if (
            language in kinds["language"]
            and script in kinds["script"]
            and (script != "Latn" or latin <= _LATIN_LANGUAGES)
        ):
            table[language] = script
    return table


def _split_subjects(facts: Mapping[str, Mapping[str, str]]) -> dict[str, Split]:
    """Splits the owners of facts: 56% train, 14% validation, 30% test."""
    halves: dict[str, Split] = {}
    for relation in ("currency", "script"):
        owners = sorted(facts[relation])
        random.Random(f"atlas/split/{relation}").shuffle(owners)
        for place, owner in enumerate(owners):
            share = place / len(owners)
            halves[_key(relation, owner)] = (
                "train" if share < 0.56 else "validation" if share < 0.7 else "test"
            )
    return halves


def _owner(relation: str, subject: str, facts: Mapping[str, Mapping[str, str]]) -> str:
    """A city goes where its territory goes, so that no fact leaks by way of the other."""
    return _key(relation, facts["city"][subject] if relation == "city" else subject)


def _key(relation: str, owner: str) -> str:
    return f"script/{owner}" if relation == "script" else owner

"""The names of territories, currencies, languages, cities, regions and scripts in every language,
from CLDR.
"""

import pickle
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from babel import localedata
from babel.core import get_global

from maple.atlas.frames import LANGUAGES, load_frames

Names = Mapping[str, Mapping[str, str]]
"""Thing id -> language code -> name."""

_UNWANTED = "()[]&,/·（）.،"


@dataclass(frozen=True)
class NameTables:
    """The names of every kind of thing, and of the days and months in order."""

    kinds: Mapping[str, Names]
    """Kind (territory, currency, language, city, region, script, day) -> names."""
    days: Mapping[str, tuple[str, ...]]
    """Language -> seven names, Monday first."""
    months: Mapping[str, tuple[str, ...]]
    """Language -> twelve names."""


@cache
def load_names() -> NameTables:
    """Returns the names that every language has, each unique within its kind and language."""
    raw = {code: _raw(code) for code in LANGUAGES}
    kinds = {
        "territory": _shared(raw, "territories", _is_territory),
        "currency": _shared(raw, "currency_names", lambda key: len(key) == 3),
        "language": _shared(raw, "languages", lambda key: len(key) in (2, 3)),
        "region": _shared(raw, "territories", str.isdigit),
        "script": _shared(raw, "scripts", lambda key: len(key) == 4),
        "city": _unique({zone: _city(raw, zone) for zone in _zones()}),
    }
    days = {code: _ordered(_form(table["days"], code), range(7)) for code, table in raw.items()}
    kinds["day"] = {str(place): {code: days[code][place] for code in days} for place in range(7)}
    return NameTables(
        kinds=kinds,
        days=days,
        months={
            code: _ordered(_form(table["months"], code), range(1, 13))
            for code, table in raw.items()
        },
    )


def _raw(code: str) -> Mapping[str, Any]:
    # Babel's file, not its load(): the cache of load() forgets whether inherited data was merged,
    # and an alias (the stand-alone months of most locales) is resolved inside a shared table, so
    # that what one locale is called depends on which locale the process read first.
    path = localedata.resolve_locale_filename(load_frames(code).locale)
    table: Mapping[str, Any] = pickle.loads(Path(path).read_bytes())
    return table


def _is_territory(key: str) -> bool:
    return len(key) == 2 and key.isalpha()


def _shared(raw: Mapping[str, Mapping[str, Any]], table: str, wanted: Any) -> Names:
    keys = sorted(key for key in raw["eng_Latn"][table] if wanted(key))
    return _unique({key: {code: raw[code][table].get(key) for code in raw} for key in keys})


def _zones() -> list[str]:
    zones: Mapping[str, Iterable[str]] = get_global("territory_zones")
    return sorted({zone for group in zones.values() for zone in group if zone.count("/") == 1})


def _city(raw: Mapping[str, Mapping[str, Any]], zone: str) -> dict[str, str | None]:
    return {code: _exemplar(code, raw[code], zone) for code in raw}


def _exemplar(code: str, table: Mapping[str, Any], zone: str) -> str | None:
    city = table.get("time_zones", {}).get(zone, {}).get("city")
    if city is None and code.endswith("_Latn"):
        # CLDR's own rule for a missing exemplar city: the last part of the zone's id.
        return zone.rsplit("/", 1)[1].replace("_", " ")
    return None if city is None else _nfc(city).removeprefix(load_frames(code).city_prefix)


def _form(table: Mapping[str, Any], code: str) -> Mapping[str, Mapping[int, str]]:
    """Returns names in the nominative: stand-alone ones where the language asks for them and CLDR
    states them, or those of a whole date.
    """
    chosen = table.get(load_frames(code).date_form)
    form: Mapping[str, Mapping[int, str]] = (
        chosen if isinstance(chosen, dict) and "wide" in chosen else table["format"]
    )
    return form


def _ordered(form: Mapping[str, Mapping[int, str]], keys: range) -> tuple[str, ...]:
    return tuple(_nfc(form["wide"][key]) for key in keys)


def _unique(table: Mapping[str, Mapping[str, str | None]]) -> Names:
    """Keeps the things whose names are plain, present and unambiguous in every language."""
    kept: dict[str, dict[str, str]] = {}
    taken: set[tuple[str, str]] = set()
    for key, by_language in table.items():
        names = {code: _nfc(name or "") for code, name in by_language.items()}
        keys = {(code, name.casefold()) for code, name in names.items()}
        if all(_is_plain(name) for name in names.values()) and not keys & taken:
            kept[key] = names
            taken |= keys
    return kept


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_plain(name: str) -> bool:
    return (
        bool(name)
        and len(name.split()) <= 4
        and not any(mark in name for mark in _UNWANTED)
        and " - " not in name
    )

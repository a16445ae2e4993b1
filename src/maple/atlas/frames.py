"""The sentence frames of each language, read from one TOML file a language.

A new language is a new file in `languages/`; no code changes. `{s}` and `{v}` in a frame stand for
the names of a fact's subject and value.
"""

import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

SHORT_CODES = {
    "eng_Latn": "en",
    "spa_Latn": "es",
    "deu_Latn": "de",
    "fra_Latn": "fr",
    "zho_Hans": "zh",
    "jpn_Jpan": "ja",
    "arb_Arab": "ar",
    "por_Latn": "pt",
    "ita_Latn": "it",
    "rus_Cyrl": "ru",
    "kor_Hang": "ko",
    "pes_Arab": "fa",
    "hin_Deva": "hi",
    "vie_Latn": "vi",
    "tur_Latn": "tr",
    "fin_Latn": "fi",
    "hun_Latn": "hu",
    "heb_Hebr": "he",
    "ben_Beng": "bn",
    "tam_Taml": "ta",
    "urd_Arab": "ur",
    "tha_Thai": "th",
    "ind_Latn": "id",
    "est_Latn": "et",
    "ell_Grek": "el",
    "bul_Cyrl": "bg",
    "swh_Latn": "sw",
    "yor_Latn": "yo",
    "hau_Latn": "ha",
    "amh_Ethi": "am",
    "tel_Telu": "te",
    "khm_Khmr": "km",
    "mya_Mymr": "my",
    "sin_Sinh": "si",
    "som_Latn": "so",
    "ibo_Latn": "ig",
    "quy_Latn": "qu",
    "pcm_Latn": "pcm",
}
"""Canonical code to the two-letter code of the upstream file names."""

LANGUAGES: tuple[str, ...] = tuple(SHORT_CODES)

RELATIONS = ("currency", "language", "spoken", "city", "region", "script", "week")
"""Relations between named things; day and month order have frames of their own."""


@dataclass(frozen=True)
class RelationFrames:
    """How a language says and asks one relation."""

    statements: tuple[str, ...]
    """Sentences without their final stop, each holding `{s}` and `{v}`."""
    questions: tuple[str, ...]
    """Questions for the value, each holding `{s}`."""
    inverse: str
    """A question for the subject, holding `{v}`."""


@dataclass(frozen=True)
class LanguageFrames:
    """All wording of one language."""

    code: str
    locale: str
    resource_class: int
    stop: str
    """Mark at the end of a sentence; empty where the script has none."""
    space: str
    """What stands between two sentences; empty in Chinese."""
    pause: str
    """Mark between two clauses; empty in Thai."""
    comma: str
    """Separator of a list."""
    date_form: str
    """CLDR's form of days and months that is nominative: `format`, or `stand-alone` in Finnish,
    Greek, Persian and Russian.
    """
    city_prefix: str
    """Word for "city" that CLDR puts before some cities and our frames say themselves; mostly
    empty.
    """
    words: dict[str, str]
    relations: dict[str, RelationFrames]
    travel: dict[str, str]
    story: dict[str, str]
    """`headline`, holding `{s}`, `{r}` (region), `{l}` (language) and `{c}` (currency)."""
    order: dict[str, dict[str, str]]
    """Frames of the relations `day` and `month`."""
    instructions: dict[str, tuple[str, ...]]


@cache
def load_frames(code: str) -> LanguageFrames:
    """Returns the frames of a language.

    Args:
        code: Canonical code, such as `swh_Latn`.

    Raises:
        FileNotFoundError: Atlas has no frames for this language.
    """
    table = _nfc(read_table(f"{code}.toml"))
    return LanguageFrames(
        code=code,
        locale=table["locale"],
        resource_class=table["resource_class"],
        stop=table["stop"],
        space=table["space"],
        pause=table["pause"],
        comma=table["comma"],
        date_form=table.get("date_form", "format"),
        city_prefix=table.get("city_prefix", ""),
        words=table["words"],
        relations={name: _relation(table[name]) for name in RELATIONS},
        travel=table["travel"],
        story=table["story"],
        order={name: table[name] for name in ("day", "month")},
        instructions={name: _several(text) for name, text in table["instructions"].items()},
    )


def read_table(name: str) -> dict[str, Any]:
    """Returns a TOML file of the folder `languages/`."""
    return tomllib.loads((files(__package__) / "languages" / name).read_text("utf-8"))


def _relation(table: dict[str, Any]) -> RelationFrames:
    return RelationFrames(tuple(table["statements"]), tuple(table["questions"]), table["inverse"])


def _several(text: str | list[str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def _nfc(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_nfc(item) for item in value]
    if isinstance(value, dict):
        return {key: _nfc(item) for key, item in value.items()}
    return value

"""Words of an answer in any language, for the F1 that stands beside a benchmark's official one.

An official normaliser splits at white space, so an answer in Thai or Japanese is one token and its
F1 is an exact match. Here a script that is written without spaces is cut by what suits it:

    Thai                    pythainlp's newmm, a dictionary and maximal matching
    Japanese                fugashi (MeCab) with unidic-lite
    Chinese                 characters
    Khmer, Lao, Myanmar,    extended grapheme clusters (Unicode UAX 29): a letter with its marks
    Tibetan and others
    everything else         white space

Before that a text is put in lower case, full-width forms become plain ones and punctuation goes:
where words are cut by white space it leaves nothing behind, elsewhere it separates. Articles stay
in every language, so that no language is treated better than another. A score of this kind depends
on the segmenter's version: ``describe`` names it, to be stored with the scores.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from maple import languages

if TYPE_CHECKING:
    import regex

Cut = Callable[[str], list[str]]

_EXTRA = {"Thai": "pythainlp", "Jpan": "fugashi"}
_CHARACTERS = {"Hans", "Hant"}
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u30fc]"


def segment(text: str, language: str) -> list[str]:
    """Cuts a text into lower-case words without punctuation.

    ``("The U.S., 2024", "eng_Latn")`` -> ``["the", "us", "2024"]``; ``("北京2024", "zho_Hans")`` ->
    ``["北", "京", "2024"]``.

    Args:
        text: an answer.
        language: canonical code.

    Raises:
        CatalogError: no such language.
    """
    cut, separator = _cut_of(language)
    plain = text.lower()
    if not text.isascii():
        plain = unicodedata.normalize("NFC", text.translate(_narrower()).lower())
    return cut(_punctuation().sub(separator, plain))


def describe(language: str) -> str:
    """Names what cuts a language's texts, with its version: ``pythainlp 5.4.0 newmm``.

    Where the extra ``segment`` is not installed the name says so, as the scores then differ.

    Raises:
        CatalogError: no such language.
    """
    script = languages.find(language).script
    if not languages.find(language).writes_without_spaces:
        return "white space"
    if script in _CHARACTERS:
        return "characters"
    if script not in _EXTRA:
        return f"grapheme clusters, regex {version('regex')}"
    if _extra_cut(script) is None:
        return f"grapheme clusters: {_EXTRA[script]} is not installed"
    if script == "Thai":
        return f"pythainlp {version('pythainlp')} newmm"
    return f"fugashi {version('fugashi')} unidic-lite {version('unidic-lite')}"


@cache
def _cut_of(language: str) -> tuple[Cut, str]:
    """How a language is cut, and what its punctuation becomes."""
    found = languages.find(language)
    if not found.writes_without_spaces:
        return str.split, ""
    return _extra_cut(found.script) or _clusters, " "


@cache
def _extra_cut(script: str) -> Cut | None:
    """The dictionary segmenter of a script; None where there is none, or it is not installed."""
    try:
        if script == "Thai":
            return _thai()
        return _japanese() if script == "Jpan" else None
    except ImportError:
        return None


def _thai() -> Cut:
    with _writing_nothing():
        from pythainlp.tokenize.newmm import segment as newmm

    def cut(text: str) -> list[str]:
        return [word for part in text.split() for word in newmm(part)]

    return cut


def _japanese() -> Cut:
    import fugashi
    import unidic_lite

    # fugashi alone would take the large unidic where that is installed too, and cut otherwise.
    tagger = fugashi.GenericTagger(f'-r "{os.devnull}" -d "{unidic_lite.DICDIR}"')

    def cut(text: str) -> list[str]:
        return [node.surface for part in text.split() for node in tagger(part)]

    return cut


def _clusters(text: str) -> list[str]:
    found: list[str] = _cluster_pattern().findall(text)
    return found


@cache
def _cluster_pattern() -> regex.Pattern[str]:
    import regex

    # A foreign word or a number inside stays whole.
    return regex.compile(rf"(?:(?!\s|{_UNSPACED})\X)+|(?!\s)\X")


@cache
def _punctuation() -> regex.Pattern[str]:
    import regex

    # Of the symbols only ASCII's, as in MLQA's and SQuAD's normalisers.
    return regex.compile(r"[\p{P}$+<=>^`|~]")


@cache
def _narrower() -> dict[int, str]:
    """Full-width and half-width forms -> plain ones; NFKC would take Thai vowels apart as well."""
    found = {}
    for code in (0x3000, *range(0xFF01, 0xFFEF)):
        kind, *parts = unicodedata.decomposition(chr(code)).split() or [""]
        if kind in {"<wide>", "<narrow>"}:
            found[code] = chr(int(parts[0], 16))
    return found


@contextmanager
def _writing_nothing() -> Iterator[None]:
    """Keeps pythainlp from making a folder in the home directory while it is imported."""
    names = ("PYTHAINLP_READ_ONLY", "PYTHAINLP_READ_MODE")
    if any(name in os.environ for name in names):
        yield
        return
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]

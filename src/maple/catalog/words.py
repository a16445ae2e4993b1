"""Words of any script, for scores that count words which two texts have in common."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

# Of scripts written without spaces a word is one letter and the marks on it, as in MLQA's Chinese:
# a dictionary would make a score depend on its version. Japan's long mark belongs to no script.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u30fc]"
_LETTER = rf"(?=[\p{{L}}\p{{N}}]){_UNSPACED}\p{{M}}*"
# A joiner (U+200C, U+200D) stands inside words: Persian verbs, Sinhala conjuncts.
_WORD = rf"(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d])+"


def words(text: str) -> list[str]:
    """Splits a text into lower-case words: no stemming, no punctuation, no symbols.

    ``"Je, 3 ng'ombe?"`` -> ``["je", "3", "ng", "ombe"]``; ``"ที่นี่ OK"`` -> ``["ที่", "นี่", "ok"]``.
    """
    found: list[str] = _pattern().findall(unicodedata.normalize("NFC", text).lower())
    return found


@cache
def _pattern() -> regex.Pattern[str]:
    import regex

    return regex.compile(f"{_LETTER}|{_WORD}")

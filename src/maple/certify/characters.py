"""Checks of the text's characters: normal form, broken ones, and the language's own script."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from maple.certify.certificate import Check
from maple.certify.reading import EXAMPLES, Reading, share, shown

if TYPE_CHECKING:
    import regex

_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Hang": ("Hangul", "Han"),
}
"""Scripts of Unicode that write those of ISO 15924; the others have the same name."""
LOWEST_SHARE = 0.8
"""Share of letters in the language's script below which it is said: names and formulas are few."""


def character_checks(reading: Reading) -> Iterator[Check]:
    """Yields normal form, characters and script."""
    texts = {text for sample in reading.samples for text in reading.texts(sample)}
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    yield _normal_form(reading)
    yield _broken(reading, counts)
    yield _script(reading, counts)


def _normal_form(reading: Reading) -> Check:
    other = [
        sample.id
        for sample in reading.samples
        if not all(unicodedata.is_normalized("NFC", text) for text in reading.texts(sample))
    ]
    n_items = len(reading.samples)
    return Check(
        name="NFC",
        status="yellow" if other else "green",
        figure=f"{len(other):,} not" if other else "all",
        message=f"Items not in Unicode's normal form C: {len(other):,} of {n_items:,}."
        if other
        else "Every item is in Unicode's normal form C.",
        examples=tuple(other[:EXAMPLES]),
    )


def _broken(reading: Reading, counts: Counter[str]) -> Check:
    kinds: dict[str, set[str]] = {}
    for character in counts:
        kind = _kind(character)
        if kind:
            kinds.setdefault(kind, set()).add(character)
    found = {kind: _items_with(reading, characters) for kind, characters in kinds.items()}
    if not found:
        message = "No lone surrogates, replacement characters, control characters or marks."
        return Check(name="characters", status="green", figure="clean", message=message)
    told = "; ".join(f"{kind}: {len(ids):,}" for kind, ids in sorted(found.items()))
    is_red = "lone surrogate" in found
    return Check(
        name="characters",
        status="red" if is_red else "yellow",
        figure=f"{len(set().union(*found.values())):,} items",
        message=f"Items with a {told}.",
        examples=tuple(f"{kind}: {', '.join(ids[:EXAMPLES])}" for kind, ids in found.items()),
    )


def _kind(character: str) -> str | None:
    if character == "\ufffd":
        return "replacement character (U+FFFD)"
    if character == "\ufeff":
        return "byte order mark (U+FEFF)"
    category = unicodedata.category(character)
    if category == "Cs":
        return "lone surrogate"
    if category == "Cc" and character not in "\t\n\r":
        return "control character"
    return None


def _items_with(reading: Reading, characters: set[str]) -> list[str]:
    return [
        sample.id
        for sample in reading.samples
        if any(c in text for text in reading.texts(sample) for c in characters)
    ]


def _script(reading: Reading, counts: Counter[str]) -> Check:
    script = reading.language.script
    own, letters = _script_pattern(script), _letter_pattern()
    others: Counter[str] = Counter()
    n_own = 0
    for character, count in counts.items():
        if own.match(character):
            n_own += count
        elif letters.match(character):
            others[character] += count
    n_letters = n_own + others.total()
    if not n_letters:
        message = "The items hold no letters."
        return Check(name="script", status="yellow", figure="-", message=message)
    is_low = n_own / n_letters < LOWEST_SHARE
    common = " ".join(character for character, _ in others.most_common(12))
    return Check(
        name="script",
        status="yellow" if is_low else "green",
        figure=share(n_own, n_letters),
        message=f"{share(n_own, n_letters)} of the letters are in the language's script, {script}"
        f"{'; that is few: is this file in that language?' if is_low else '.'}",
        examples=(f"others: {shown(common)}",) if common else (),
    )


@cache
def _script_pattern(script: str) -> regex.Pattern[str]:
    import regex

    names = "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS.get(script, (script,)))
    return regex.compile(rf"(?=\p{{L}})[{names}]")


@cache
def _letter_pattern() -> regex.Pattern[str]:
    import regex

    # A letter of no script of its own, as the long mark of kana, says nothing of a script.
    return regex.compile(r"(?=\p{L})[^\p{Script=Common}\p{Script=Inherited}]")

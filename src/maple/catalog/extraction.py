"""Which of the listed answers a generated text names, in any script.

    "B", "(b)", "Answer: B.", "정답: ② ...", "答案是Ｃ。", "-choice2 : ...", "उत्तर: ख"  -> an index
    "I am not sure", "A or C"                                                       -> None

A text that names none, or several and none of them last after a colon, is not guessed at: the
caller counts it. Rules are tried in order, the first that names exactly one answer decides:

    1. the whole text is an answer, or an answer's mark
    2. it begins with a mark, closed by punctuation, the line's end or the answer's own text
    3. it begins with an answer's text
    4. a mark stands after a colon, or ends the text
    5. one mark, and no other, stands anywhere on its own
    6. one answer's text, and no other's, stands anywhere
    7. it is the beginning of one answer's text: generation stopped at its limit
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from maple.catalog.contracts import Choice

if TYPE_CHECKING:
    import regex

_FEWEST_CHARACTERS_OF_A_BEGINNING = 8
# First letters of the orders that list answers; each row is the first, second, ... answer.
_NATIVE_LETTERS = (
    "ABCDEF",
    "АБВГДЕ",
    "ΑΒΓΔΕΖ",
    "אבגדהו",
    "ابجده",
    "कखगघङ",
    "কখগঘঙ",
    "કખગઘઙ",
    "ਕਖਗਘਙ",
    "కఖగఘఙ",
    "ಕಖಗಘಙ",
    "കഖഗഘങ",
    "កខគឃង",
    "ກຂຄງຈ",
    "ကခဂဃင",
    "กขคงจ",
    "අආඇඈඉ",
    "அஆஇஈஉ",
    "가나다라마",
    "ㄱㄴㄷㄹㅁ",
    "アイウエオ",
    "甲乙丙丁戊",
    "一二三四五",
    "აბგდე",
    "ԱԲԳԴԵ",
    "ሀለሐመሠ",
)
# Cyrillic В and С look like Latin B and C and are the third and the nineteenth letter: a text with
# one of them may mean either, so В names nothing, while С names what it looks like.
_LOOKALIKES = {"С": 2, "В": None}
# "not right" holds "right"; in a script without spaces only the character before tells.
_NEGATIONS = frozenset("不非未没沒無")
_INVISIBLE = dict.fromkeys(
    [0xFEFF, 0x200B, 0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
_OPEN = r"[\s\p{P}\p{S}]*"


def extract_choice(text: str, choices: Sequence[Choice]) -> int | None:
    """Returns the index of the answer that a generated text names.

    Args:
        text: what was generated.
        choices: the answers in the prompt's order.

    Returns:
        None where no answer is named, or more than one: an extraction failure.
    """
    answer = _normalise(text)
    if not answer:
        return None
    texts = [tuple(t for t in map(_bare, choice.texts) if t) for choice in choices]
    marks = _marks(choices)
    for rule in (_whole, _leading_mark, _leading_text, _announced_mark, _lone_mark, _lone_text):
        named = rule(answer, marks, texts)
        if len(named) == 1:
            return named.pop()
    return _beginning(answer, texts)


Texts = Sequence[tuple[str, ...]]
Marks = dict[str, int]


def _whole(answer: str, marks: Marks, texts: Texts) -> set[int]:
    bare = _bare(answer)
    named = {index for index, own in enumerate(texts) if bare in own}
    if named or not bare:
        return named
    index = _meant(marks, _pattern(rf"^{_OPEN}|{_OPEN}$").sub("", answer))
    return set() if index is None else {index}


def _leading_mark(answer: str, marks: Marks, texts: Texts) -> set[int]:
    found = _pattern(rf"^{_OPEN}({_any(marks)})", ignore_case=True).match(answer) if marks else None
    if found is None:
        return set()
    mark, rest = found[1], answer[found.end() :]
    index = _meant(marks, mark)
    if index is None:
        return set()
    is_own = any(_bare(rest).startswith(own[:20]) for own in texts[index])
    is_named = is_own or (_is_closed(mark, rest) and not _goes_through(answer, marks))
    return {index} if is_named else set()


def _goes_through(answer: str, marks: Marks) -> bool:
    """Whether the first line takes the answers one after the other: "A: no. B: yes."."""
    line = answer.partition("\n")[0]
    taken = _pattern(rf"(?<![\p{{L}}\p{{N}}])({_any(marks)})[:)]").findall(line)
    return len({marks[mark] for mark in taken}) > 1


def _is_closed(mark: str, rest: str) -> bool:
    """Whether a mark ends where it ends, and is not the beginning of "A man", "1990" or "3.5"."""
    if _pattern(r"[.,:]\p{N}|['’-]\p{L}").match(rest):
        return False
    if mark.isascii() and mark.isupper():
        # No language has a word B, C or D; any Latin letter stands apart from another script.
        follows = r"\s" if mark in "BCDF" else r"\s*(?!\p{Latin})\p{L}"
        if _pattern(follows).match(rest):
            return True
    return _pattern(r" *(?:$|\n|[\p{P}\p{S}])").match(rest) is not None


def _leading_text(answer: str, marks: Marks, texts: Texts) -> set[int]:
    return _longest(
        (index, own)
        for index, own in _pairs(texts)
        if _pattern(rf"^{_OPEN}{_word(own)}").match(_fold(answer))
    )


def _announced_mark(answer: str, marks: Marks, texts: Texts) -> set[int]:
    if not marks:
        return set()
    colon = r"[:=]\s*[\p{Ps}\p{Pi}*\"']*"
    announced = [
        found
        for found in _pattern(rf"{colon}({_any(marks)}){_END}").finditer(answer)
        if not _is_article(answer, found)
    ]
    named = {marks[found[1]] for found in announced}
    if len(named) == 1:
        return named
    *_, last = (part for part in _pattern(r"[.!?。।\n]").split(answer) if part.strip())
    return _lone_mark(last, marks, texts)


def _lone_mark(answer: str, marks: Marks, texts: Texts) -> set[int]:
    found = list(_alone(answer, marks)) if marks else []
    # An article is a mark only where it stands beside others: then nothing is clear.
    return set() if all(_is_article(answer, m) for m in found) else {marks[m[1]] for m in found}


def _alone(text: str, marks: Marks) -> Iterable[regex.Match[str]]:
    """Marks that are no part of a word or number; Latin ones may stand between letters of Han."""
    start = r"(?<![\p{Latin}\p{N}])(?<!\p{N}[.,:])"
    for found in _pattern(rf"{start}({_any(marks)}){_END}").finditer(text):
        around = text[: found.start()][-1:] + text[found.end() :][:1]
        if found[1].isascii() or not any(unicodedata.category(c)[0] in "LMN" for c in around):
            yield found


def _lone_text(answer: str, marks: Marks, texts: Texts) -> set[int]:
    folded = _fold(answer)
    spans = [
        (found.start(), found.end(), index)
        for index, own in _pairs(texts)
        for found in _pattern(_word(own)).finditer(folded)
        if folded[: found.start()][-1:] not in _NEGATIONS
    ]
    # "true" inside "not true at all" where the latter is an answer of its own does not count.
    return {
        index
        for start, end, index in spans
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b, _ in spans)
    }


def _beginning(answer: str, texts: Texts) -> int | None:
    bare = _bare(answer)
    if len(bare) < _FEWEST_CHARACTERS_OF_A_BEGINNING:
        return None
    named = {index for index, own in _pairs(texts) if own.startswith(bare)}
    return named.pop() if len(named) == 1 else None


def _longest(found: Iterable[tuple[int, str]]) -> set[int]:
    pairs = list(found)
    longest = max((len(own) for _, own in pairs), default=0)
    return {index for index, own in pairs if len(own) == longest}


def _pairs(texts: Texts) -> Iterable[tuple[int, str]]:
    return ((index, own) for index, owns in enumerate(texts) for own in owns)


def _marks(choices: Sequence[Choice]) -> Marks:
    """Every spelling of the listed marks, upper case, and what it stands for."""
    if not all(choice.mark for choice in choices):
        return {}
    spellings: dict[str, int | None] = {}
    for letters in _NATIVE_LETTERS:
        spellings |= {letter: i for i, letter in enumerate(letters)}
    spellings |= {str(i + 1): i for i in range(len(choices))}
    spellings |= _LOOKALIKES
    spellings |= {choice.mark: i for i, choice in enumerate(choices)}
    return {mark: i for mark, i in spellings.items() if i is not None and i < len(choices)}


def _any(marks: Marks) -> str:
    return "|".join(marks)


def _meant(marks: Marks, mark: str) -> int | None:
    """What a mark in either case stands for; a script without cases is not raised."""
    return marks.get(mark, marks.get(mark.upper()))


def _is_article(answer: str, found: regex.Match[str]) -> bool:
    """Whether an "A" may be the word: "A man"."""
    return found[1] == "A" and bool(_pattern(r"\s+\p{L}").match(answer, found.end()))


_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Hangul}]"
_END = r"(?![\p{Latin}\p{N}\p{M}]|[.,:]\p{N})"


def _word(text: str) -> str:
    """A pattern for a text as whole words; in a script without spaces, for the text as it is."""
    import regex

    start = "" if _pattern(_UNSPACED).match(text[0]) else r"(?<![\p{L}\p{N}\p{M}])"
    end = "" if _pattern(_UNSPACED).match(text[-1]) else r"(?![\p{L}\p{N}\p{M}])"
    return f"{start}{regex.escape(text, literal_spaces=True)}{end}"


@cache
def _pattern(pattern: str, *, ignore_case: bool = False) -> regex.Pattern[str]:
    import regex

    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


def _normalise(text: str) -> str:
    """Full-width and presentation forms, native digits and invisible marks made plain."""
    plain = unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    plain = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in plain)
    # Alef carries a hamza where it lists answers.
    return plain.replace("أ", "ا").strip()


def _bare(text: str) -> str:
    """A text in small letters, without the punctuation around it."""
    return str(_pattern(rf"^{_OPEN}|{_OPEN}$").sub("", _fold(_normalise(text))))


def _fold(text: str) -> str:
    """Small letters; the Turkish i with and without its dot are one."""
    return text.casefold().replace("\u0307", "").replace("ı", "i")

"""What can be wrong with a generated text, told without its score.

    never_stopped    the token limit ended it
    empty            nothing but white space
    copied_prompt    it repeats the prompt instead of answering
    wrong_language   another script, or another language, than was asked for
    not_extracted    it names none of the choices (only where there are choices)

True means found wrong. Thresholds and their error rates on real text, language by language, are in
``docs/output_checks.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import regex

from maple import languages

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

COPY_COLUMNS = 40
"""Columns from which a span of the prompt is a copy of it and no short answer."""
COPY_SHARE = 0.8
"""Share of an answer that one span of the prompt must cover."""
SPAN_COLUMNS = 120
"""The same where the gold is a span of the prompt: under 2% of real answers are as long."""
SPAN_FACTOR = 3
"""There a copy is this many times as long as the gold, too."""
OPENING_COLUMNS = 80
"""An answer that repeats so much of the prompt's beginning is a copy, whatever follows."""
SCRIPT_COLUMNS = 4
"""Letters, in columns, below which no script is judged: units and initials."""
SCRIPT_SHARE = 0.3
"""Least share of letters in the language's own scripts."""
IDENTIFIER_COLUMNS = 20
"""Letters, in columns, from which the identifier is asked: shorter texts are mostly names."""
EXPECTED_BELOW = 0.05
"""Probability of the language asked for below which a text is in another one ..."""
OTHER_ABOVE = 0.3
"""... if some other language has this one; names and formulas have no clear language."""
ENGLISH_ABOVE = 0.5
"""Probability of English that tells it from a language that the identifier does not know."""
_READ = 1000
"""Characters that are judged; cost grows with them, certainty hardly."""

_SCRIPTS = {
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
}
"""ISO 15924 codes that stand for more than one script, or not for a script of Unicode."""
_LABELS = {
    "fuv_Latn": "fuv", "grn_Latn": "gug", "kik_Latn": "kik", "nob_Latn": "no", "prs_Arab": "fa",
    "qve_Latn": "qu", "run_Latn": "rw", "srp_Latn": "sr", "zho_Hant": "zh",
}  # fmt: skip
"""The identifier's name of a language where it is not our tag; Rundi is read as Kinyarwanda."""
_ALIKE = (
    {"ar", "ary", "arz"}, {"bcl", "tl"}, {"bs", "hr", "sr"}, {"da", "nn", "no"}, {"en", "pcm"},
    {"id", "ms"}, {"wuu", "yue", "zh"},
)  # fmt: skip
"""Labels that the identifier confuses on real text: any of them will do for any other."""
_ENGLISH_WORDS = frozenset({"eng_Latn", "pcm_Latn", "tpi_Latn"})
"""Languages whose words are English: not told from it."""

_WIDE = regex.compile(r"[\p{sc=Hani}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}\p{sc=Bopo}]+")
_LETTERS = regex.compile(r"[\p{L}--\p{sc=Zyyy}]+", regex.V1)
_BLANK = regex.compile(r"[\s\p{Cc}\p{Cf}]*")
_NOT_PROSE = regex.compile(r"```.*?(?:```|\Z)|\w+://\S+", regex.DOTALL)
_INITIALS = regex.compile(r"\b\p{Lu}[\p{Lu}\p{Nd}]{0,5}\b")


def check_output(
    text: str,
    *,
    language: str,
    finish: str,
    context: str,
    gold: Sequence[str],
    was_extracted: bool,
    has_choices: bool,
) -> dict[str, bool]:
    """Returns what is wrong with a generated text, by check.

    Args:
        text: what was generated, its stop string cut off.
        language: canonical code of the language that the answer should be in.
        finish: ``stop`` or ``length``.
        context: the prompt as the model was shown it.
        gold: every accepted answer; of a choice, what it says, or its index.
        was_extracted: whether the text names one of the choices.
        has_choices: whether there are choices to name.
    """
    found = {
        "never_stopped": finish == "length",
        "empty": _BLANK.fullmatch(text) is not None,
        "copied_prompt": False,
        "wrong_language": False,
    }
    if has_choices:
        found["not_extracted"] = not was_extracted
    if not found["empty"]:
        answer, prompt = _on_one_line(text), _on_one_line(context)
        found_choice = has_choices and was_extracted
        found["copied_prompt"] = is_copy(
            answer, prompt, gold=() if has_choices else gold, names_choice=found_choice
        )
        # A name may be quoted as the prompt writes it, in whatever script that is.
        is_quoted = columns(answer) < COPY_COLUMNS and answer in prompt
        found["wrong_language"] = (
            not is_quoted
            and is_wrong_language(text, language)
            and not _may_be_foreign(gold, language, has_choices=has_choices)
        )
    return found


def is_copy(answer: str, prompt: str, *, gold: Sequence[str], names_choice: bool) -> bool:
    """Whether an answer repeats the prompt; both with single spaces for white space.

    A span of a passage is what a reading task asks for, and a choice may be quoted in full. So
    a span counts from 40 columns; where the gold is itself a span, from 120 and three times the
    gold's length; where the answer names a choice, only if it starts as the prompt does.

    Args:
        answer: the generated text.
        prompt: what the model was shown.
        gold: every accepted answer; none of a choice, which may be quoted anyway.
        names_choice: whether the answer names one of the choices.
    """
    references = [line for reference in gold if (line := _on_one_line(reference))]
    if any(answer in reference for reference in references):
        return False
    opening = _first_columns(prompt, OPENING_COLUMNS)
    if columns(opening) >= COPY_COLUMNS and answer.startswith(opening):
        return True
    spans = [columns(reference) for reference in references if reference in prompt]
    fewest = max(SPAN_COLUMNS, SPAN_FACTOR * max(spans) + 1) if spans else COPY_COLUMNS
    if names_choice or columns(answer) < fewest:
        return False
    size = max(1, round(COPY_SHARE * len(answer)))
    windows = (answer[start : start + size] for start in range(len(answer) - size + 1))
    return any(window in prompt for window in windows)


def is_wrong_language(text: str, language: str) -> bool:
    """Whether a text is clearly not in a language: by its script, then by the identifier.

    Numbers, initials, links and code are not judged. False wherever it cannot be told.

    Args:
        text: any text.
        language: canonical code: ``swh_Latn``.
    """
    prose = _INITIALS.sub(" ", _NOT_PROSE.sub(" ", text[:_READ]))
    letters = _columns_of(_LETTERS, prose)
    if letters < SCRIPT_COLUMNS:
        return False
    if _columns_of(_own_letters(language), prose) < SCRIPT_SHARE * letters:
        return True
    return letters >= IDENTIFIER_COLUMNS and _is_identified_as_other(prose, language)


def columns(text: str) -> int:
    """Width of a text where Chinese, Japanese and Korean characters count two, others one."""
    return len(text) + sum(map(len, _WIDE.findall(text)))


def describe() -> str:
    """Names the language identifier and its version, for the record."""
    return f"py3langid {version('py3langid')}"


def _may_be_foreign(gold: Sequence[str], language: str, *, has_choices: bool) -> bool:
    """Whether a right answer is itself in another language: a name, a title."""
    foreign = [is_wrong_language(reference, language) for reference in gold]
    # A label may be named in English too, which does not make English the language to answer in.
    return bool(foreign) and (all(foreign) if has_choices else any(foreign))


def _is_identified_as_other(text: str, language: str) -> bool:
    identifier, own = _identifier(), _own_labels(language)
    chances: dict[str, float] = dict(identifier.rank(text))
    if not own:
        return language not in _ENGLISH_WORDS and chances["en"] >= ENGLISH_ABOVE
    expected = sum(chances[label] for label in own)
    return expected < EXPECTED_BELOW and max(chances.values()) >= OTHER_ABOVE


@cache
def _identifier() -> LanguageIdentifier:
    # Half a second and, once loaded, 60 MB: only where a text is judged.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _own_labels(language: str) -> frozenset[str]:
    """The identifier's labels that will do for a language; none where it does not know it."""
    label = _LABELS.get(language, languages.find(language).tag)
    if label not in _identifier().labels:
        return frozenset()
    return frozenset(next((alike for alike in _ALIKE if label in alike), {label}))


@cache
def _own_letters(language: str) -> regex.Pattern[str]:
    script = languages.find(language).script
    names = "".join(rf"\p{{sc={name}}}" for name in _SCRIPTS.get(script, (script,)))
    return regex.compile(rf"[\p{{L}}&&[{names}]]+", regex.V1)


def _columns_of(pattern: regex.Pattern[str], text: str) -> int:
    return columns("".join(pattern.findall(text)))


def _first_columns(text: str, width: int) -> str:
    """The beginning of a text, a little under ``width`` columns where it is wide."""
    head = text[:width]
    return head if columns(head) <= width else head[: width // 2]


def _on_one_line(text: str) -> str:
    return " ".join(text.split())

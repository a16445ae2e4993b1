"""A split in one language as it was read, and which of its fields are text of that language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from maple.catalog.contracts import GenerationRequest, RankingRequest, Request, Sample, Task
from maple.languages import Language
from maple.study import PromptSettings

_CODE = re.compile(r"[!-~]*")
PASSAGE = "context"
"""The field that answers are spans of."""
_PASSAGE_LANGUAGE = "language"
"""The field that says which language the passage is in, where a task has pairs of them."""
EXAMPLES = 3
"""Items that a check names at most."""


@dataclass(frozen=True)
class Worded:
    """Every item in one prompt form."""

    settings: PromptSettings
    requests: Sequence[Request]


@dataclass
class Reading:
    """The items of a split in one language, worded in each prompt form that has words."""

    name: str
    task: Task
    language: Language
    split: str
    samples: tuple[Sample, ...]
    paths: tuple[Path, ...] = ()
    worded: dict[str, Worded] = field(default_factory=dict)
    """By the form's name, the forms that worded every item; the default form first."""

    @property
    def main(self) -> Worded | None:
        """The default prompt form; any other where that has no words; None where none has."""
        return next(iter(self.worded.values()), None)

    @property
    def is_choice(self) -> bool:
        """Whether an item is a choice of options, ranked or named by a generated text."""
        return self.main is not None and n_options(self.main.requests[0]) > 0

    @cached_property
    def text_fields(self) -> tuple[str, ...]:
        """Names of the fields that hold language, not a code such as ``cause`` or ``deu_Latn``.

        A field is a code where each of its values is one run of ASCII letters, digits and marks.
        """
        names = dict.fromkeys(name for sample in self.samples for name in sample.fields)
        return tuple(
            name
            for name in names
            if not all(_CODE.fullmatch(sample.fields.get(name, "")) for sample in self.samples)
        )

    def texts(self, sample: Sample) -> tuple[str, ...]:
        """What of an item is text in its language: fields and, unless it is a choice, gold."""
        if sample.fields.get(_PASSAGE_LANGUAGE, self.language.code) != self.language.code:
            # MLQA's pairs: the passage, and so its spans, are in another language.
            return tuple(sample.fields[name] for name in self.text_fields if name != PASSAGE)
        fields = tuple(sample.fields.get(name, "") for name in self.text_fields)
        return fields if self.is_choice else (*fields, *sample.gold)

    def content(self, sample: Sample) -> tuple[str, ...]:
        """Every field of an item, in order: what makes two items the same one."""
        return tuple(sample.fields.values())


def n_options(request: Request) -> int:
    """Options of a choice; 0 for a request that any text may answer."""
    if isinstance(request, RankingRequest):
        return len(request.continuations)
    return len(request.choices)


def option_texts(request: Request) -> tuple[str, ...]:
    """What each option says, where there are any."""
    if isinstance(request, GenerationRequest):
        return tuple(choice.texts[0] if choice.texts else choice.mark for choice in request.choices)
    return request.continuations


def gold_index(sample: Sample) -> int | None:
    """The index of the right option; None where the gold is not one."""
    if len(sample.gold) == 1 and sample.gold[0].isascii() and sample.gold[0].isdigit():
        return int(sample.gold[0])
    return None


def share(part: int, whole: int) -> str:
    """``97.3%``; never rounded up to 100 nor down to 0."""
    if not whole:
        return "-"
    if 0 < part < whole:
        return f"{min(99.9, max(0.1, 100 * part / whole)):.1f}%"
    return f"{100 * part // whole}%"


def shown(text: str, limit: int = 120) -> str:
    """The start of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"

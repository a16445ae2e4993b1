"""``annotations.json``: AlpacaEval's own layout, which its tools and ours both read.

{"instruction": ..., "output_1": <reference>, "generator_1": ..., "dataset": ...,
 "output_2": <model>, "generator_2": ..., "annotator": "weighted_alpaca_eval_gpt4_turbo",
 "preference": 1.0 (reference) to 2.0 (model), 1.5 a draw, null unparsable,
 "raw_completion": ..., "is_switched": model shown first}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.errors import DataError
from maple.files.fields import place, text_field
from maple.files.read import read_rows
from maple.judge.outputs import Output, Pair, write_json
from maple.judge.protocols import Protocol
from maple.judge.verdicts import VerdictCache, verdict_key

DRAW = 1.5


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One pair and which of its answers was preferred."""

    pair: Pair
    annotator: str
    preference: float | None
    """1 the reference's to 2 the model's; None: the judge stated none that can be read."""
    raw: Any = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def annotate(
    pairs: Sequence[Pair],
    protocol: Protocol,
    *,
    judge: str,
    annotator: str,
    cache: VerdictCache,
) -> list[Annotation]:
    """Returns the pairs with their verdicts, those alone that have one, in the same order."""
    return list(_annotated(pairs, protocol, judge, annotator, cache))


def _annotated(
    pairs: Sequence[Pair], protocol: Protocol, judge: str, annotator: str, cache: VerdictCache
) -> Iterator[Annotation]:
    for pair in pairs:
        if pair.is_same:
            yield Annotation(pair=pair, annotator=annotator, preference=DRAW)
            continue
        verdict = cache.get(verdict_key(protocol, judge, pair))
        if verdict is None:
            continue
        shown = verdict.preference
        yield Annotation(
            pair=pair,
            annotator=annotator,
            preference=3 - shown if pair.is_switched and shown is not None else shown,
            raw=verdict.raw,
            prompt_tokens=verdict.prompt_tokens,
            completion_tokens=verdict.completion_tokens,
        )


def write_annotations(path: Path, annotations: Sequence[Annotation]) -> None:
    """Writes annotations in AlpacaEval's layout, in one step.

    Raises:
        StoreError: the file cannot be written.
    """
    write_json(path, [_row(annotation) for annotation in annotations])


def _row(annotation: Annotation) -> dict[str, Any]:
    reference, model = annotation.pair.reference, annotation.pair.model
    return {
        "instruction": annotation.pair.instruction,
        "output_1": reference.output,
        "generator_1": reference.generator,
        "dataset": model.dataset or reference.dataset,
        "output_2": model.output,
        "generator_2": model.generator,
        "annotator": annotation.annotator,
        "preference": annotation.preference,
        "raw_completion": annotation.raw,
        "is_switched": annotation.pair.is_switched,
        "prompt_tokens": annotation.prompt_tokens,
        "completion_tokens": annotation.completion_tokens,
    }


def read_annotations(path: Path) -> list[Annotation]:
    """Reads published or our own annotations, in the file's order.

    Raises:
        DataError: a row that lacks a field or whose preference is no number; names file and row.
    """
    return [_annotation(row, path, line) for line, row in read_rows(path)]


def _annotation(row: Mapping[str, Any], path: Path, line: int) -> Annotation:
    instruction = text_field(row, "instruction", path, line)
    dataset = text_field(row, "dataset", path, line, optional=True)
    first, second = (
        Output(
            instruction=instruction,
            output=text_field(row, f"output_{n}", path, line),
            generator=text_field(row, f"generator_{n}", path, line),
            dataset=dataset,
        )
        for n in (1, 2)
    )
    return Annotation(
        pair=Pair(reference=first, model=second),
        annotator=text_field(row, "annotator", path, line, optional=True),
        preference=_preference(row, path, line),
        raw=row.get("raw_completion", row.get("preference_raw_completion")),
    )


def _preference(row: Mapping[str, Any], path: Path, line: int) -> float | None:
    value = row.get("preference")
    if "preference" not in row or isinstance(value, bool | str | list | dict):
        raise DataError(
            f"{place(path, line)}: field 'preference' is {value!r:.40}; it must be a number from 1 "
            "(the reference) to 2 (the model), 0 or 1.5 for a draw, or null. Is this an "
            "annotations.json of AlpacaEval?"
        )
    if value is None or math.isnan(value):
        return None
    number = float(value)
    # AlpacaEval's first version wrote a draw as 0.
    if number and not 1 <= number <= 2:
        raise DataError(
            f"{place(path, line)}: preference {number} is neither 0 nor from 1 to 2. "
            "Correct the row, or set it to null."
        )
    return number or DRAW

"""The finished answers to one mode, read in one scan: scores, further metrics and checks.

    evaluation   sample   score   metrics                 checks
        0           3      0.5    {f1: 0.5, em: 0}        {empty: false}
        0           1      1.0    {f1: 1.0, em: 1}        {empty: false}

A store of millions of rows is tens of thousands of files, and opening them is most of the work. So
each is opened once. What many of them have alike, the names of samples, metrics and checks, is
recognised by its bytes and looked at once. Whole languages are read at a time; never are all rows
held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maple.analysis.columns import Maps, Named, Samples, floats, whole
from maple.analysis.modes import Mode
from maple.errors import StoreError
from maple.store.read import Store, StoredEvaluation

ROWS_AT_ONCE = 250_000
_COLUMNS = ("sample_id", "score", "metrics", "checks")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Rows of whole, finished evaluations of one mode, no sample twice, in any order."""

    mode: Mode
    evaluations: tuple[StoredEvaluation, ...]
    """Those with every row that their ``done`` states."""
    evaluation: NDArray[np.int64]
    """(rows,) position among the evaluations."""
    sample_ids: tuple[str, ...]
    """The distinct samples, sorted."""
    sample: NDArray[np.int64]
    """(rows,) position among the sample ids."""
    score: NDArray[np.float64]
    """(rows,) in 0..1, or NaN."""
    metrics: tuple[Named, ...]
    """By name."""
    checks: tuple[Named, ...]


def language_blocks(mode: Mode) -> list[list[StoredEvaluation]]:
    """Returns a mode's finished evaluations, those of a language together, in blocks to be read.

    A block has as many languages as have ``ROWS_AT_ONCE`` rows, at least one.
    """
    by_language: dict[str, list[StoredEvaluation]] = {}
    for evaluation in sorted(mode.evaluations.values(), key=lambda e: (e.language, e.eval_id)):
        if evaluation.is_done:
            by_language.setdefault(evaluation.language, []).append(evaluation)
    blocks: list[list[StoredEvaluation]] = []
    room = 0
    for evaluations in by_language.values():
        rows = sum(e.n_samples for e in evaluations)
        if not blocks or rows > room:
            blocks.append([])
            room = ROWS_AT_ONCE
        blocks[-1] += evaluations
        room -= rows
    return blocks


def read_block(store: Store, mode: Mode, evaluations: Sequence[StoredEvaluation]) -> Answers:
    """Reads the answers of finished evaluations of a mode.

    An evaluation that holds fewer rows than its ``done`` states is not finished, and left out.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    samples, metrics, checks = Samples(), Maps(), Maps()
    complete: list[StoredEvaluation] = []
    codes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    scores: list[NDArray[np.float64]] = [np.empty(0)]
    for evaluation in evaluations:
        stored = store.stored_rows(_COLUMNS, evaluation.eval_id)
        rows, sample = _first_of_each(samples, stored, evaluation.eval_id)
        score = _scores(rows, evaluation.eval_id)
        if sample.size < evaluation.n_samples:
            continue
        complete.append(evaluation)
        codes.append(sample)
        scores.append(score)
        metrics.add(rows["metrics"])
        checks.add(rows["checks"])
    names, place = samples.sort()
    return Answers(
        mode=mode,
        evaluations=tuple(complete),
        evaluation=np.repeat(np.arange(len(complete)), [score.size for score in scores[1:]]),
        sample_ids=names,
        sample=place[np.concatenate(codes)],
        score=np.concatenate(scores),
        metrics=metrics.by_name(),
        checks=checks.by_name(),
    )


def read_answers(store: Store, mode: Mode) -> Iterator[Answers]:
    """Yields the finished answers to a mode, each language whole in one of them.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    for evaluations in language_blocks(mode):
        yield read_block(store, mode, evaluations)


def _first_of_each(
    samples: Samples, rows: pa.Table, eval_id: str
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows and their samples' numbers; of a sample stored twice the first by file name."""
    if rows["sample_id"].null_count:
        raise StoreError(f"evals/{eval_id}: a row without sample_id (docs/results_format.md).")
    sample, is_distinct = samples.number(rows["sample_id"])
    if is_distinct:
        return rows, sample
    first = np.sort(np.unique(sample, return_index=True)[1])
    return rows.take(pa.array(first)), sample[first]


def _scores(rows: pa.Table, eval_id: str) -> NDArray[np.float64]:
    score = floats(whole(rows["score"]))
    with np.errstate(invalid="ignore"):
        outside = np.flatnonzero((score < 0) | (score > 1))
    if outside.size:
        first = int(outside[0])
        where = f"evals/{eval_id}, sample {rows['sample_id'][first]}"
        raise StoreError(f"{where}: score {score[first]} is outside 0..1 (docs/results_format.md).")
    return score

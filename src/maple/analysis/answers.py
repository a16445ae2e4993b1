"""The finished answers to one mode, read in one scan: scores, further metrics and checks.

    evaluation   sample   score   metrics                 checks
        0           3      0.5    {f1: 0.5, em: 0}        {empty: false}
        0           1      1.0    {f1: 1.0, em: 1}        {empty: false}

A store of millions of rows is tens of thousands of files, and opening them is most of the work. So
the parts are opened once, whole languages at a time, the next block while the last is worked on.
Never are all rows held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maple.analysis.modes import Mode
from maple.errors import StoreError
from maple.store.read import Store, StoredEvaluation

ROWS_AT_ONCE = 1_000_000
_COLUMNS = ("eval_id", "sample_id", "score", "metrics", "checks")


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a map column holds under one name."""

    name: str
    row: NDArray[np.int64] | None
    """(entries,) the rows that have the name; None where every row has it."""
    value: NDArray[np.float64]
    """(entries,) the numbers; 0 or 1 for a check."""

    def of(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Returns what a column, an entry per row, holds in the rows that have the name."""
        return rows if self.row is None else rows[self.row]


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


def read_answers(store: Store, mode: Mode) -> Iterator[Answers]:
    """Yields the finished answers to a mode, each language whole in one of them.

    An evaluation that holds fewer rows than its ``done`` states is not finished, and left out.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    done = [e for e in mode.evaluations.values() if e.is_done]
    blocks = [[e for e in done if e.language in languages] for languages in _blocks(done)]
    with ThreadPoolExecutor(1) as reader:
        coming: Future[pa.Table] | None = None
        for wanted, later in zip_longest(blocks, blocks[1:]):
            rows = _rows(store, wanted) if coming is None else coming.result()
            coming = None if later is None else reader.submit(_rows, store, later)
            yield _answers(store, mode, wanted, rows)


def _rows(store: Store, evaluations: Sequence[StoredEvaluation]) -> pa.Table:
    return store.stored_rows(_COLUMNS, eval_ids=[e.eval_id for e in evaluations])


def _blocks(evaluations: Sequence[StoredEvaluation]) -> list[set[str]]:
    """Languages to read together: as many as have ``ROWS_AT_ONCE`` rows, at least one."""
    blocks: list[set[str]] = []
    room = 0
    for language in sorted({e.language for e in evaluations}):
        rows = sum(e.n_samples for e in evaluations if e.language == language)
        if not blocks or rows > room:
            blocks.append(set())
            room = ROWS_AT_ONCE
        blocks[-1].add(language)
        room -= rows
    return blocks


def _answers(
    store: Store, mode: Mode, wanted: Sequence[StoredEvaluation], rows: pa.Table
) -> Answers:
    known = {e.eval_id: e for e in wanted}
    ids, evaluation = _encode(rows, "eval_id")
    samples, sample = _encode(rows, "sample_id")
    place = evaluation * max(1, len(samples)) + sample
    if np.bincount(place).max(initial=0) > 1:
        rows = store.query(f"SELECT {', '.join(_COLUMNS)} FROM samples", eval_ids=known)
        ids, evaluation = _encode(rows, "eval_id")
        samples, sample = _encode(rows, "sample_id")
    score = _scores(rows)
    counts = np.bincount(evaluation, minlength=len(ids))
    found = [known.get(i) for i in ids]
    whole = [e for e, n in zip(found, counts, strict=True) if e and n >= e.n_samples]
    if len(whole) < len(ids):
        position = {e.eval_id: i for i, e in enumerate(whole)}
        renumbered = np.array([position.get(i, -1) for i in ids], np.int64)[evaluation]
        is_kept = renumbered >= 0
        rows, evaluation = rows.filter(pa.array(is_kept)), renumbered[is_kept]
        sample, score = sample[is_kept], score[is_kept]
    return Answers(
        mode=mode,
        evaluations=tuple(whole),
        evaluation=evaluation,
        sample_ids=tuple(samples),
        sample=sample,
        score=score,
        metrics=_by_name(rows["metrics"]),
        checks=_by_name(rows["checks"]),
    )


def _encode(rows: pa.Table, column: str) -> tuple[list[str], NDArray[np.int64]]:
    """Returns the distinct texts of a column, sorted, and per row the position among them.

    Rows come in any order; sorted, the sums over them are the same to the last bit every time.

    Raises:
        StoreError: a row has none.
    """
    whole = rows[column].combine_chunks()
    if whole.null_count:
        first = whole.is_null().index(True).as_py()
        where = f"evals/{rows['eval_id'][first]}, sample {rows['sample_id'][first]}"
        raise StoreError(f"{where}: a row without {column} (docs/results_format.md).")
    encoded = whole.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    position = _positions(names)
    return sorted(names), position[encoded.indices.to_numpy()]


def _positions(names: Sequence[str]) -> NDArray[np.int64]:
    """Where each name stands once they are sorted."""
    position = np.empty(len(names), dtype=np.int64)
    position[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return position


def _by_name(column: pa.ChunkedArray) -> tuple[Named, ...]:
    """Parts a map column by name; parts of an older Maple have none, which reads as no entry."""
    maps = column.combine_chunks()
    if maps.null_count:
        maps = maps.fill_null(pa.scalar([], maps.type))
    lengths = np.diff(maps.offsets.to_numpy())
    # Between the first and the last offset: a sliced array still holds its whole children.
    first, last = (maps.offsets[i].as_py() for i in (0, len(maps)))
    keys = maps.keys.slice(first, last - first).dictionary_encode()
    names, key = keys.dictionary.to_pylist(), keys.indices.to_numpy()
    value = maps.items.slice(first, last - first).to_numpy(zero_copy_only=False)
    found = _alike(lengths, names, key, value) or _apart(lengths, names, key, value)
    return tuple(sorted(found, key=lambda named: named.name))


def _alike(
    lengths: NDArray[np.int32], names: Sequence[str], key: NDArray[np.int32], value: NDArray[Any]
) -> list[Named]:
    """Parts entries of which every row has the same names in the same order, as nearly always."""
    k = len(names)
    if k == 0 or not (lengths == k).all() or not (key.reshape(-1, k) == key[:k]).all():
        return []
    columns = value.reshape(-1, k)
    return [
        Named(name=names[i], row=None, value=columns[:, place].astype(np.float64))
        for place, i in enumerate(key[:k].tolist())
    ]


def _apart(
    lengths: NDArray[np.int32], names: Sequence[str], key: NDArray[np.int32], value: NDArray[Any]
) -> list[Named]:
    row = np.repeat(np.arange(lengths.size), lengths)
    return [
        Named(name=name, row=row[key == i], value=value[key == i].astype(np.float64))
        for i, name in enumerate(names)
    ]


def _scores(rows: pa.Table) -> NDArray[np.float64]:
    score: NDArray[np.float64] = rows["score"].to_numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        outside = np.flatnonzero((score < 0) | (score > 1))
    if outside.size:
        first = int(outside[0])
        where = f"evals/{rows['eval_id'][first]}, sample {rows['sample_id'][first]}"
        raise StoreError(f"{where}: score {score[first]} is outside 0..1 (docs/results_format.md).")
    return score

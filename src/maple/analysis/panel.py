"""The scores of one task: per language a matrix of runs by test items.

    scores["swh_Latn"]   item 0   item 1   item 2        items["swh_Latn"]
    run a                   1.0      0.0      1.0        number of each column over all
    run b                   1.0      NaN      0.0        languages: parallel items share one

NaN marks an item that a run has not answered. Only finished evaluations are here: unfinished ones
hold the batches that came first, which were sorted by length and are no random sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maple.analysis.means import LanguageValues
from maple.analysis.modes import Mode
from maple.errors import StoreError
from maple.store.read import Store


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Every finished answer to one mode of one task."""

    mode: Mode
    run_ids: tuple[str, ...]
    """Runs with at least one finished evaluation, in the order of the matrices' rows."""
    scores: Mapping[str, NDArray[np.float64]]
    """Language -> (runs, items of the language), in 0..1 or NaN."""
    items: Mapping[str, NDArray[np.int64]]
    """Language -> (items of the language,) number of the item within the task."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages with at least one answer, sorted."""
        return tuple(self.scores)

    def contrast(self, language: str, weights: Mapping[str, float]) -> LanguageValues | None:
        """Returns ``sum_r w_r score_r`` for each item that all those runs answered.

        Args:
            language: a canonical code.
            weights: run id -> weight; ``{run: 1, base: -1}`` pairs a run with its base.

        Returns:
            None where one of the runs has no answer, or they share no item.
        """
        matrix = self.scores.get(language)
        if matrix is None or not weights or not set(weights) <= set(self.run_ids):
            return None
        rows = [self.run_ids.index(run) for run in weights]
        values = np.fromiter(weights.values(), float) @ matrix[rows]
        is_shared = ~np.isnan(values)
        if not is_shared.any():
            return None
        return LanguageValues(
            language=language, items=self.items[language][is_shared], values=values[is_shared]
        )

    def contrasts(
        self, languages: Sequence[str], weights: Mapping[str, float]
    ) -> list[LanguageValues]:
        """Returns the contrast in each of the languages that has one."""
        found = [self.contrast(language, weights) for language in languages]
        return [values for values in found if values is not None]


def load_panel(store: Store, mode: Mode, run_order: Sequence[str]) -> Panel:
    """Reads the finished evaluations of a mode into memory: 8 bytes per sample.

    An evaluation that holds fewer rows than its ``done`` states is not finished.

    Args:
        store: where the rows are.
        mode: what was asked.
        run_order: every run id, in the order that the panel's runs shall have.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    done = {e.eval_id: e for e in mode.evaluations.values() if e.is_done}
    rows = store.query("SELECT eval_id, sample_id, score FROM samples", eval_ids=set(done))
    ids, evaluation = _encode(rows["eval_id"])
    _, item = _encode(rows["sample_id"])
    score = _scores(rows)
    n_rows = np.bincount(evaluation, minlength=len(ids))
    whole = [done[i] if n >= done[i].n_samples else None for i, n in zip(ids, n_rows, strict=True)]
    answered = {e.run_id for e in whole if e}
    runs = tuple(run for run in run_order if run in answered)
    run_rows = np.array([runs.index(e.run_id) if e else -1 for e in whole], np.int64)[evaluation]
    scores: dict[str, NDArray[np.float64]] = {}
    items: dict[str, NDArray[np.int64]] = {}
    for language in sorted({e.language for e in whole if e}):
        is_in = np.array([e is not None and e.language == language for e in whole])[evaluation]
        columns, column = np.unique(item[is_in], return_inverse=True)
        matrix = np.full((len(runs), columns.size), np.nan)
        matrix[run_rows[is_in], column] = score[is_in]
        scores[language], items[language] = matrix, columns
    return Panel(mode=mode, run_ids=runs, scores=scores, items=items)


def _encode(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Returns the distinct texts of a column, sorted, and per row the position among them.

    Rows come in any order; sorted, the sums over them are the same to the last bit every time.
    """
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    position = np.empty(len(names), dtype=np.int64)
    position[order] = np.arange(len(names))
    return [names[i] for i in order], position[encoded.indices.to_numpy()]


def _scores(rows: pa.Table) -> NDArray[np.float64]:
    score: NDArray[np.float64] = rows["score"].to_numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        outside = np.flatnonzero((score < 0) | (score > 1))
    if outside.size:
        first = int(outside[0])
        where = f"evals/{rows['eval_id'][first]}, sample {rows['sample_id'][first]}"
        raise StoreError(f"{where}: score {score[first]} is outside 0..1 (docs/results_format.md).")
    return score

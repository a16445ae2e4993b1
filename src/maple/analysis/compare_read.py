"""The two sides of a comparison, and the samples that both answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maple.analysis.configurations import configuration_label, find_configurations, run_labels
from maple.analysis.means import LanguageValues
from maple.analysis.modes import Mode, find_modes
from maple.errors import StoreError, UsageError
from maple.store.read import Store, StoredEvaluation, StoredRun
from maple.study.spec import canonical_json

_ROWS = """
    SELECT eval_id, sample_id, score, prompt_hash, array_to_string(gold, '\x1f') AS gold
    FROM samples
"""
_Cell = tuple[str, str]
_Asked = tuple[Mode, tuple[StoredEvaluation, ...]]
"""A way of asking, and what each of the runs answered."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A store whose runs and evaluations are read once, however many pairs are compared."""

    store: Store

    @cached_property
    def runs(self) -> list[StoredRun]:
        """Runs of which something is stored."""
        return [run for run in self.store.runs() if run.status != "missing"]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Short, unique text by run id."""
        return run_labels(self.runs)

    @cached_property
    def configurations(self) -> dict[str, tuple[StoredRun, ...]]:
        """By run id: the runs that differ from a trained one by their seed alone, it among them."""
        found = find_configurations(self.runs)
        return {run.run_id: c.runs for c in found for run in c.runs}

    @cached_property
    def evaluations(self) -> dict[str, list[StoredEvaluation]]:
        """By run id, finished or not."""
        found: dict[str, list[StoredEvaluation]] = defaultdict(list)
        for evaluation in self.store.evaluations():
            found[evaluation.run_id].append(evaluation)
        return found

    @property
    def scored(self) -> list[StoredRun]:
        """Runs with a finished evaluation."""
        return [r for r in self.runs if any(e.is_done for e in self.evaluations.get(r.run_id, ()))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One run of one store, or several that differ by their seed alone."""

    opened: Opened
    runs: tuple[StoredRun, ...]
    store_name: str = ""
    """Put before the label where two stores are compared."""

    @property
    def run(self) -> StoredRun:
        """The first of the runs."""
        return self.runs[0]

    @property
    def label(self) -> str:
        """The run's short label; of several, what they have in common and how many they are."""
        labels = self.opened.labels
        if len(self.runs) == 1:
            return labels[self.run.run_id]
        return f"{configuration_label(self.run, labels)} ({len(self.runs)} seeds)"

    @property
    def name(self) -> str:
        """How it is called: the label, after the store's name where there is one."""
        return f"{self.store_name}: {self.label}" if self.store_name else self.label

    @cached_property
    def weights(self) -> list[float]:
        """Of each run in the mean over seeds; none of an untouched base, which has no seed."""
        return [] if self.run.cell.is_base else [1 / len(self.runs)] * len(self.runs)

    def stored(self) -> list[StoredEvaluation]:
        """Returns all evaluations of the runs, finished or not."""
        return [e for run in self.runs for e in self.opened.evaluations.get(run.run_id, ())]

    def evaluations(self) -> dict[_Cell, list[_Asked]]:
        """Returns what every run has finished by task and language, one per way of asking."""
        modes, _ = find_modes(self.stored(), self.runs)
        found: dict[_Cell, list[_Asked]] = {}
        for mode in modes:
            for language in dict.fromkeys(language for _, language in mode.evaluations):
                own = [mode.evaluations.get((run.run_id, language)) for run in self.runs]
                done = tuple(e for e in own if e is not None and e.is_done)
                if len(done) == len(self.runs):
                    found.setdefault((mode.task, language), []).append((mode, done))
        return found

    def unshared(self) -> list[str]:
        """Returns task and language of cells that some of the seeds have finished, not all."""
        some = {(e.task, e.language) for e in self.stored() if e.is_done}
        return [" ".join(cell) for cell in sorted(some - self.evaluations().keys())]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedCell:
    """One task in one language on the samples both sides answered."""

    task: str
    language: str
    values: LanguageValues
    """B minus A per sample, each the mean of its seeds."""
    deviations: tuple[tuple[LanguageValues, ...], ...]
    """Of A, of B, and of what is pooled with them: each seed minus the mean of its seeds; of a
    single run nothing."""
    settings: Mapping[str, Any]
    """How A was asked."""
    scores_a: NDArray[np.float64]
    """(samples,) the mean of its seeds."""
    scores_b: NDArray[np.float64]
    mode_differences: tuple[str, ...]
    same_prompts: float
    n_other_gold: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedCells:
    """What two sides can be compared on."""

    paired: tuple[PairedCell, ...]
    only_a: tuple[str, ...]
    """Task and language of cells that A alone has finished, or that share no sample."""
    only_b: tuple[str, ...]


def find_runs(opened: Opened, wanted: str) -> tuple[StoredRun, ...]:
    """Returns the run of a store that an id or a label names, or the beginning of one.

    A name that several runs have is good where they differ by their seed alone: those that have
    answers are then returned.

    Raises:
        UsageError: none or several are called so; the message lists them.
    """
    runs, labels = opened.runs, opened.labels
    names = {run.run_id: (run.run_id, run.cell.label, labels[run.run_id]) for run in runs}
    found = [run for run in runs if wanted in names[run.run_id]]
    found = found or [run for run in runs if configuration_label(run, labels) == wanted]
    if wanted and not found:
        found = [r for r in runs if any(name.startswith(wanted) for name in names[r.run_id])]
    if len(found) == 1:
        return (found[0],)
    seeds = opened.configurations.get(found[0].run_id, ()) if found else ()
    if found and all(run in seeds for run in found):
        return tuple(run for run in found if run in opened.scored) or tuple(found)
    listing = "; ".join(f"{run.run_id} ({labels[run.run_id]})" for run in found or runs)
    where = opened.store.directory
    if found:
        raise UsageError(f"{where}: {wanted!r} names several runs: {listing}. Name one by its id.")
    raise UsageError(f"{where}: no run {wanted!r}. These are: {listing or 'none'}.")


def match_runs(a: Opened, b: Opened) -> list[tuple[StoredRun, StoredRun]]:
    """Returns the pairs of runs that two stores are compared by.

    Runs of the same id are pairs; where there is none, runs with the same cell; and where each
    store has one run with answers, these two.

    Raises:
        UsageError: nothing pairs them; says how to name runs.
    """
    left, right = a.scored, b.scored
    by_id = {run.run_id: run for run in right}
    pairs = [(run, by_id[run.run_id]) for run in left if run.run_id in by_id]
    if not pairs:
        by_cell = {_cell_key(run): run for run in right}
        pairs = [(r, by_cell[_cell_key(r)]) for r in left if _cell_key(r) in by_cell]
    if not pairs and len(left) == len(right) == 1:
        pairs = [(left[0], right[0])]
    if not pairs:
        one, two = a.store.directory, b.store.directory
        raise UsageError(
            f"{one} ({len(left)} scored runs) and {two} ({len(right)}) have no run in common, by "
            f"id or by settings. Name the runs: maple compare {one}:RUN {two}:RUN."
        )
    return pairs


def _cell_key(run: StoredRun) -> str:
    c = run.cell
    where = {"model": c.model, "quantization": c.quantization, "mixture": c.mixture}
    what = {"method": c.method, "parameters": dict(c.parameters), "seed": c.seed}
    return canonical_json(where | what)


def paired_cells(a: Side, b: Side) -> PairedCells:
    """Returns the cells with shared samples, and what A or B alone has finished.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    left, right = a.evaluations(), b.evaluations()
    chosen = {key: _same_mode(left[key], right[key]) for key in sorted(left.keys() & right.keys())}
    rows_a = read_rows(a.opened.store, [e for pair in chosen.values() for e in pair[0][1]])
    rows_b = read_rows(b.opened.store, [e for pair in chosen.values() for e in pair[1][1]])
    items: dict[str, int] = {}
    cells = []
    for key, ((mode_a, of_a), (mode_b, of_b)) in chosen.items():
        settings = mode_a.settings, mode_b.settings
        left_rows = [rows_a.get(e.eval_id, {}) for e in of_a]
        right_rows = [rows_b.get(e.eval_id, {}) for e in of_b]
        cell = _pair(key, left_rows, right_rows, settings, items)
        if cell is not None:
            cells.append(cell)
    paired = {(cell.task, cell.language) for cell in cells}
    return PairedCells(
        paired=tuple(cells),
        only_a=tuple(" ".join(key) for key in sorted(left.keys() - paired)),
        only_b=tuple(" ".join(key) for key in sorted(right.keys() - paired)),
    )


def _same_mode(left: Sequence[_Asked], right: Sequence[_Asked]) -> tuple[_Asked, _Asked]:
    """Two evaluations that were asked alike where there are such, else those least unlike."""
    pairs = [(x, y) for x in left for y in right]
    return min(
        pairs,
        key=lambda p: (
            len(_told(p[0][0].settings, p[1][0].settings)),
            -min(e.n_samples for _, evaluations in p for e in evaluations),
        ),
    )


def _told(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    left, right = _flat(a), _flat(b)
    keys = sorted({*left, *right})
    return tuple(
        f"{key} {left.get(key)} against {right.get(key)}"
        for key in keys
        if left.get(key) != right.get(key)
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    return {key: value for key, value in flat.items() if value is not None}


Row = tuple[float, str, str]
"""Score, prompt hash, gold."""


def read_rows(store: Store, evaluations: Sequence[StoredEvaluation]) -> dict[str, dict[str, Row]]:
    """Returns rows by evaluation and sample, of evaluations that are whole.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    if not evaluations:
        return {}
    table: pa.Table = store.query(_ROWS, eval_ids={e.eval_id for e in evaluations})
    found: dict[str, dict[str, Row]] = {}
    columns = [table[name].to_pylist() for name in table.column_names]
    for eval_id, sample, score, prompt, gold in zip(*columns, strict=True):
        if score is None or np.isnan(score):
            continue
        if not 0 <= score <= 1:
            raise StoreError(
                f"evals/{eval_id}, sample {sample}: score {score} is outside 0..1 "
                "(docs/results_format.md)."
            )
        found.setdefault(eval_id, {})[sample] = (score, prompt, gold)
    whole = {e.eval_id for e in evaluations if len(found.get(e.eval_id, ())) >= e.n_samples}
    return {key: rows for key, rows in found.items() if key in whole}


def _pair(
    key: _Cell,
    left: Sequence[Mapping[str, Row]],
    right: Sequence[Mapping[str, Row]],
    settings: tuple[Mapping[str, Any], Mapping[str, Any]],
    items: dict[str, int],
) -> PairedCell | None:
    every = [*left, *right]
    shared = sorted(set(every[0]).intersection(*every[1:]))
    # The same id with other gold is another sample: another split, or edited data.
    kept = [s for s in shared if len({rows[s][2] for rows in every}) == 1]
    if not kept:
        return None
    # Within a task the same id in two languages is the same item; across tasks it is not.
    numbers = np.array([items.setdefault(f"{key[0]} {sample}", len(items)) for sample in kept])
    scores = [np.array([[rows[s][0] for s in kept] for rows in side]) for side in (left, right)]
    a, b = (side.mean(axis=0) for side in scores)
    return PairedCell(
        task=key[0],
        language=key[1],
        values=LanguageValues(language=key[1], items=numbers, values=b - a),
        deviations=tuple(from_mean(key[1], numbers, side) for side in scores),
        settings=settings[0],
        scores_a=a,
        scores_b=b,
        mode_differences=_told(*settings),
        same_prompts=float(np.mean([len({rows[s][1] for rows in every}) == 1 for s in kept])),
        n_other_gold=len(shared) - len(kept),
    )


def from_mean(
    language: str, items: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[LanguageValues, ...]:
    """Returns each seed minus the mean of the seeds; nothing for a single one.

    Args:
        language: of the answers.
        items: (n,) number of each item.
        scores: (seeds, n).
    """
    if len(scores) < 2:
        return ()
    deviations = scores - scores.mean(axis=0)
    return tuple(LanguageValues(language=language, items=items, values=d) for d in deviations)

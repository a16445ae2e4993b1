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

from maple.analysis.configurations import run_labels
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
    """One run of one store."""

    opened: Opened
    run: StoredRun
    store_name: str = ""
    """Put before the label where two stores are compared."""

    @property
    def label(self) -> str:
        """The run's short label."""
        return self.opened.labels[self.run.run_id]

    @property
    def name(self) -> str:
        """How it is called: the label, after the store's name where there is one."""
        return f"{self.store_name}: {self.label}" if self.store_name else self.label

    def evaluations(self) -> dict[_Cell, list[tuple[Mode, StoredEvaluation]]]:
        """Returns the run's finished evaluations by task and language, one per way of asking."""
        modes, _ = find_modes(self.opened.evaluations.get(self.run.run_id, ()), [self.run])
        found: dict[_Cell, list[tuple[Mode, StoredEvaluation]]] = {}
        for mode in modes:
            for (_, language), evaluation in mode.evaluations.items():
                if evaluation.is_done:
                    found.setdefault((mode.task, language), []).append((mode, evaluation))
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedCell:
    """One task in one language on the samples both sides answered."""

    task: str
    language: str
    values: LanguageValues
    """B minus A per sample."""
    scores_a: NDArray[np.float64]
    scores_b: NDArray[np.float64]
    mode_differences: tuple[str, ...]
    same_prompts: float
    n_other_gold: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedCells:
    """What two runs can be compared on."""

    paired: tuple[PairedCell, ...]
    only_a: tuple[str, ...]
    """Task and language of cells that A alone has finished, or that share no sample."""
    only_b: tuple[str, ...]


def find_run(opened: Opened, wanted: str) -> StoredRun:
    """Returns the run of a store that an id or a label names, or the beginning of one.

    Raises:
        UsageError: none or several are called so; the message lists them.
    """
    runs, labels = opened.runs, opened.labels
    names = {run.run_id: (run.run_id, run.cell.label, labels[run.run_id]) for run in runs}
    exact = [run for run in runs if wanted in names[run.run_id]]
    begun = [r for r in runs if any(name.startswith(wanted) for name in names[r.run_id])]
    found = exact or (begun if wanted else [])
    if len(found) == 1:
        return found[0]
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
    rows_a = _read(a.opened.store, [pair[0][1] for pair in chosen.values()])
    rows_b = _read(b.opened.store, [pair[1][1] for pair in chosen.values()])
    items: dict[str, int] = {}
    cells = []
    for key, ((mode_a, of_a), (mode_b, of_b)) in chosen.items():
        told = _told(mode_a.settings, mode_b.settings)
        rows = rows_a.get(of_a.eval_id, {}), rows_b.get(of_b.eval_id, {})
        cell = _pair(key, *rows, told, items)
        if cell is not None:
            cells.append(cell)
    paired = {(cell.task, cell.language) for cell in cells}
    return PairedCells(
        paired=tuple(cells),
        only_a=tuple(" ".join(key) for key in sorted(left.keys() - paired)),
        only_b=tuple(" ".join(key) for key in sorted(right.keys() - paired)),
    )


_Asked = tuple[Mode, StoredEvaluation]


def _same_mode(left: Sequence[_Asked], right: Sequence[_Asked]) -> tuple[_Asked, _Asked]:
    """Two evaluations that were asked alike where there are such, else those least unlike."""
    pairs = [(x, y) for x in left for y in right]
    return min(
        pairs,
        key=lambda p: (
            len(_told(p[0][0].settings, p[1][0].settings)),
            -min(p[0][1].n_samples, p[1][1].n_samples),
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


_Row = tuple[float, str, str]
"""Score, prompt hash, gold."""


def _read(store: Store, evaluations: Sequence[StoredEvaluation]) -> dict[str, dict[str, _Row]]:
    """Rows by evaluation and sample; of evaluations that are whole."""
    if not evaluations:
        return {}
    table: pa.Table = store.query(_ROWS, eval_ids={e.eval_id for e in evaluations})
    found: dict[str, dict[str, _Row]] = {}
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
    left: Mapping[str, _Row],
    right: Mapping[str, _Row],
    told: tuple[str, ...],
    items: dict[str, int],
) -> PairedCell | None:
    shared = sorted(left.keys() & right.keys())
    # The same id with other gold is another sample: another split, or edited data.
    kept = [s for s in shared if left[s][2] == right[s][2]]
    if not kept:
        return None
    a = np.array([left[s][0] for s in kept])
    b = np.array([right[s][0] for s in kept])
    # Within a task the same id in two languages is the same item; across tasks it is not.
    numbers = [items.setdefault(f"{key[0]} {sample}", len(items)) for sample in kept]
    return PairedCell(
        task=key[0],
        language=key[1],
        values=LanguageValues(language=key[1], items=np.array(numbers), values=b - a),
        scores_a=a,
        scores_b=b,
        mode_differences=told,
        same_prompts=float(np.mean([left[s][1] == right[s][1] for s in kept])),
        n_other_gold=len(shared) - len(kept),
    )

"""Two runs, configurations or stores, on the samples that both answered: what differs.

    A and B, each a run or the seeds of a configuration -> cells (task x language) that all finished
    -> their shared samples, paired -> a difference a cell -> means over languages and tasks

A difference is B minus A. ``docs/recommend.md`` states the rules.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from maple.analysis.compare_read import PairedCell, PairedCells, Side, paired_cells
from maple.analysis.compare_seeds import over_languages, over_tasks, pool_seeds
from maple.analysis.compare_settings import Setting, differing
from maple.analysis.intervals import benjamini_hochberg, holm
from maple.analysis.means import Mean, SeedSpread
from maple.analysis.paired import Test, cell_tests
from maple.analysis.parts import notes_on_parts
from maple.analysis.power import minimum_detectable
from maple.errors import StoreError

ALL_TASKS = "mean over tasks"
Verdict = Literal["B higher", "A higher", "tied"]
_STUDENT: Test = "student"
ALPHA = 0.05
"""Holm's p below this is called a difference."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """B minus A on one task in one language, or as a mean over them."""

    task: str
    """The task's name; ``ALL_TASKS`` for the mean over tasks."""
    language: str | None
    """None for a mean over languages."""
    n: int
    """Shared samples."""
    n_languages: int
    score_a: float
    score_b: float
    """Mean scores over the shared samples, 0..1."""
    difference: float
    """With the limits of its 95% interval, each cell by itself."""
    low: float
    high: float
    p: float
    """Two-sided, of ``test``."""
    test: Test
    """Of two runs McNemar's where all scores of a cell are 0 or 1, sign flips where few samples
    differ, else Student's; of means, and where seeds are averaged, Student's."""
    p_holm: float
    """Adjusted over the cells, or over the means."""
    p_bh: float
    """The same by Benjamini and Hochberg: the rate of false discoveries."""
    wins_a: int
    wins_b: int
    """Samples on which one scores higher; the others are equal."""
    detectable: float
    """The smallest true difference seen in four studies of five, one comparison at a time."""
    mode_differences: tuple[str, ...] = ()
    """How the two were asked differently: prompt, split, decoding, task version."""
    same_prompts: float = 1.0
    """Share of the shared samples for which both were shown the same text."""
    n_other_gold: int = 0
    """Samples of the same id that were left out, their right answers differing."""

    @property
    def is_told(self) -> bool:
        """Whether the difference is told from 0 after Holm's adjustment."""
        return self.p_holm < ALPHA

    @property
    def verdict(self) -> Verdict:
        """Which is higher after Holm's adjustment; ``tied`` says that it cannot be told."""
        if not self.is_told:
            return "tied"
        return "B higher" if self.difference > 0 else "A higher"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs compared, or two configurations."""

    store_a: str
    """Name of the store; empty where both runs are of one."""
    store_b: str
    label_a: str
    """The run's short label, or the configuration's."""
    label_b: str
    run_a: str
    """The run's id; of a configuration its first run's."""
    run_b: str
    runs_a: tuple[str, ...]
    """Ids of all its runs: one per seed."""
    runs_b: tuple[str, ...]
    seed_deviation: float | None
    """Standard deviation between seeds in the mean over tasks; None where neither has two."""
    cells: tuple[Difference, ...]
    """Task x language."""
    means: tuple[Difference, ...]
    """Per task over its languages, and last over tasks."""
    settings: tuple[Setting, ...]
    """What differs between the two specifications and environments."""
    only_a: tuple[str, ...]
    """Cells that A alone has finished."""
    only_b: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def overall(self) -> Difference:
        """The mean over all that both have."""
        return self.means[-1]

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        found = asdict(self)
        for key, rows in (("cells", self.cells), ("means", self.means)):
            found[key] = [asdict(row) | {"verdict": row.verdict} for row in rows]
        return found


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Pairs of runs compared together: every p-value is adjusted over all of them."""

    pairs: tuple[Comparison, ...]
    without: tuple[str, ...]
    """Pairs that share no finished sample."""

    @property
    def multiplicity(self) -> str:
        """What the p-values are adjusted over, in words."""
        n_cells = sum(len(pair.cells) for pair in self.pairs)
        n_tasks = sum(len(pair.means) - 1 for pair in self.pairs)
        alone = "stands by itself" if len(self.pairs) == 1 else f"over {len(self.pairs)} pairs"
        return (
            f"p-values are adjusted (Holm; Benjamini and Hochberg) over {n_cells} cells of a task "
            f"and a language, and over {n_tasks} means of a task; the mean over tasks {alone}"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "comparisons": [pair.as_json() for pair in self.pairs],
            "multiplicity": self.multiplicity,
            "without_shared_samples": list(self.without),
        }


def compare(pairs: Sequence[tuple[Side, Side]]) -> Comparisons:
    """Returns the paired comparison of some pairs of runs.

    Args:
        pairs: the run that is compared with, and the run whose difference is stated.

    Raises:
        StoreError: no pair shares a sample, or a part of a store cannot be read.
    """
    found, without, alone = [], [], ""
    for a, b in pairs:
        cells = paired_cells(a, b)
        if cells.paired:
            found.append(_compared(a, b, cells))
            continue
        without.append(f"{a.name} and {b.name}")
        has = [", ".join(only[:6]) or "nothing" for only in (cells.only_a, cells.only_b)]
        why = f"{without[0]} have no finished sample in common: A has {has[0]}, B has {has[1]}"
        alone = alone or why
    if not found:
        raise StoreError(f"{alone}. Score both on the same tasks, languages and split.")
    return Comparisons(pairs=_adjusted(found), without=tuple(without))


def _compared(a: Side, b: Side, cells: PairedCells) -> Comparison:
    """A comparison whose p-values are not adjusted yet."""
    paired = pool_seeds(a, b, cells.paired)
    rows = [_cell(cell, a, b) for cell in paired]
    means, spread = _means(paired, rows, a, b)
    return Comparison(
        store_a=a.store_name,
        store_b=b.store_name,
        label_a=a.label,
        label_b=b.label,
        run_a=a.run.run_id,
        run_b=b.run.run_id,
        runs_a=tuple(run.run_id for run in a.runs),
        runs_b=tuple(run.run_id for run in b.runs),
        seed_deviation=max(0.0, spread.variance) ** 0.5 if spread.df else None,
        cells=tuple(rows),
        means=tuple(means),
        settings=tuple(_settings(a, b)),
        only_a=cells.only_a,
        only_b=cells.only_b,
        notes=tuple(_notes(a, b, rows, spread)),
    )


def _adjusted(found: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjusts over all cells, over all means of a task, and over all means over tasks."""
    cells = iter(_adjust([row for pair in found for row in pair.cells]))
    tasks = iter(_adjust([row for pair in found for row in pair.means[:-1]]))
    overall = iter(_adjust([pair.overall for pair in found]))
    return tuple(
        dataclasses.replace(
            pair,
            cells=tuple(next(cells) for _ in pair.cells),
            means=(*(next(tasks) for _ in pair.means[:-1]), next(overall)),
        )
        for pair in found
    )


def _settings(a: Side, b: Side) -> list[Setting]:
    """What differs; the seed of one of several runs says nothing."""
    is_one = len(a.runs) == len(b.runs) == 1
    return [s for s in differing(a.run, b.run) if is_one or (s.source, s.key) != ("spec", "seed")]


def _cell(cell: PairedCell, a: Side, b: Side) -> Difference:
    values, scores = cell.values.values, (cell.scores_a, cell.scores_b)
    wins_a, wins_b = int((values < 0).sum()), int((values > 0).sum())
    seeded = over_languages([cell])
    mean = seeded.over_seeds(a, b)
    p, test = mean.p, _STUDENT
    if not seeded.spread.df:
        (found,) = cell_tests(cell.scores_b[None], cell.scores_a[None])
        p, test = found or (p, test)
    row = _difference(cell.task, cell.language, mean, scores)
    return dataclasses.replace(
        row,
        p=p,
        test=test,
        wins_a=wins_a,
        wins_b=wins_b,
        mode_differences=cell.mode_differences,
        same_prompts=cell.same_prompts,
        n_other_gold=cell.n_other_gold,
    )


def _difference(
    task: str,
    language: str | None,
    mean: Mean,
    scores: tuple[np.ndarray[Any, np.dtype[np.float64]], ...],
) -> Difference:
    interval = mean.interval
    return Difference(
        task=task,
        language=language,
        n=mean.n_samples,
        n_languages=mean.n_languages,
        score_a=float(scores[0].mean()),
        score_b=float(scores[1].mean()),
        difference=mean.value,
        low=interval.low,
        high=interval.high,
        p=mean.p,
        test="student",
        p_holm=mean.p,
        p_bh=mean.p,
        wins_a=0,
        wins_b=0,
        detectable=minimum_detectable(mean.variance**0.5, mean.df),
    )


def _adjust(rows: Sequence[Difference]) -> list[Difference]:
    p_values = [row.p for row in rows]
    return [
        dataclasses.replace(row, p_holm=p_holm, p_bh=p_bh)
        for row, p_holm, p_bh in zip(
            rows, holm(p_values), benjamini_hochberg(p_values), strict=True
        )
    ]


def _means(
    cells: Sequence[PairedCell], rows: Sequence[Difference], a: Side, b: Side
) -> tuple[list[Difference], SeedSpread]:
    """Per task over its languages; last, over tasks, with the spread of seeds in that."""
    by_task: dict[str, list[int]] = defaultdict(list)
    for i, cell in enumerate(cells):
        by_task[cell.task].append(i)
    parts = {task: over_languages([cells[i] for i in places]) for task, places in by_task.items()}
    per_task = [
        _summed(task, parts[task].over_seeds(a, b), [rows[i] for i in places])
        for task, places in by_task.items()
    ]
    whole = over_tasks(list(parts.values()))
    return [*per_task, _summed(ALL_TASKS, whole.over_seeds(a, b), per_task)], whole.spread


def _summed(task: str, mean: Mean, rows: Sequence[Difference]) -> Difference:
    scores = (np.array([r.score_a for r in rows]), np.array([r.score_b for r in rows]))
    weights = np.array([row.n for row in rows], float)
    return dataclasses.replace(
        _difference(task, None, mean, scores),
        wins_a=sum(row.wins_a for row in rows),
        wins_b=sum(row.wins_b for row in rows),
        mode_differences=tuple(dict.fromkeys(d for row in rows for d in row.mode_differences)),
        same_prompts=float(weights @ [row.same_prompts for row in rows] / weights.sum()),
        n_other_gold=sum(row.n_other_gold for row in rows),
    )


def _on_parts(side: Side) -> list[str]:
    return notes_on_parts(side.name, side.stored(), whole=side.evaluations())


def _on_seeds(a: Side, b: Side, spread: SeedSpread) -> list[str]:
    notes = [
        f"{side.name}: not every seed has finished {', '.join(cells)}: not compared"
        for side in (a, b)
        if len(side.runs) > 1 and (cells := side.unshared())
    ]
    if spread.df:
        deviation = 100 * max(0.0, spread.variance) ** 0.5
        notes.append(
            f"seeds are a random factor: {deviation:.1f} points between seeds in the mean over "
            f"tasks, with {spread.df:g} degrees of freedom, pooled over the configurations that "
            "have several"
        )
    elif a.weights or b.weights:
        notes.append(
            "two runs, not two configurations: what another seed would give is not in the intervals"
        )
    return notes


def _notes(a: Side, b: Side, rows: Sequence[Difference], spread: SeedSpread) -> list[str]:
    notes = [note for side in (a, b) for note in _on_parts(side)]
    modes = dict.fromkeys(d for row in rows for d in row.mode_differences)
    if modes:
        notes.append(
            f"asked differently ({'; '.join(modes)}): a difference may be the prompt's, not the "
            "model's"
        )
    shown = [row for row in rows if row.same_prompts < 1]
    if shown and not modes:
        notes.append(f"{len(shown)} of {len(rows)} cells have samples that were worded differently")
    dropped = sum(row.n_other_gold for row in rows)
    if dropped:
        notes.append(f"{dropped} samples of the same id have other right answers: left out")
    return notes + _on_seeds(a, b, spread)

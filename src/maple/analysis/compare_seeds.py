"""Differences of two configurations: the items' variance, and that of other seeds besides.

difference    B minus A per sample, each the mean of its seeds -> variance over items
deviations    each seed minus the mean of its seeds -> variance between seeds, pooled

Two configurations of two seeds tell next to nothing of how far seeds lie apart. So the other
configurations of their stores are asked too, as wherever a variance between seeds is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from maple.analysis.compare_read import PairedCell, Side, from_mean, read_rows
from maple.analysis.means import (
    LanguageValues,
    Mean,
    SeedSpread,
    add_seed_variance,
    mean_over_languages,
    mean_over_tasks,
    seed_spread,
)

_Part = TypeVar("_Part")

MOST_OTHERS = 12
"""Further configurations that are read: their seeds bring degrees of freedom enough."""


def pool_seeds(a: Side, b: Side, cells: Sequence[PairedCell]) -> tuple[PairedCell, ...]:
    """Returns the cells with the deviations of other configurations' seeds added.

    Only those count that were asked all the cells in the same way. Two single runs are left as they
    are: they are compared as runs.

    Args:
        a: what is compared with.
        b: whose difference is stated.
        cells: what both have.

    Raises:
        StoreError: a part of a store cannot be read.
    """
    if len(a.runs) == len(b.runs) == 1:
        return tuple(cells)
    others: list[list[tuple[LanguageValues, ...]]] = []
    for side in _others(a, b):
        if len(others) < MOST_OTHERS and (found := _deviations(side, cells)):
            others.append(found)
    return tuple(
        dataclasses.replace(cell, deviations=(*cell.deviations, *(found[i] for found in others)))
        for i, cell in enumerate(cells)
    )


def _others(a: Side, b: Side) -> Iterator[Side]:
    """The configurations of both stores that have two scored seeds, but these two."""
    known = {run.run_id for run in (*a.runs, *b.runs)}
    for opened in dict.fromkeys((a.opened, b.opened)):
        scored = {run.run_id for run in opened.scored}
        by_first = {runs[0].run_id: runs for runs in opened.configurations.values()}
        for runs in by_first.values():
            kept = tuple(run for run in runs if run.run_id in scored)
            if len(kept) > 1 and not known & {run.run_id for run in runs}:
                yield Side(opened=opened, runs=kept)


def _deviations(side: Side, cells: Sequence[PairedCell]) -> list[tuple[LanguageValues, ...]]:
    """Per cell, on the samples that all its seeds answered; nothing where it lacks a cell."""
    asked = side.evaluations()
    chosen = [
        next((e for m, e in asked.get((c.task, c.language), ()) if m.settings == c.settings), ())
        for c in cells
    ]
    if not all(chosen):
        return []
    rows = read_rows(side.opened.store, [e for evaluations in chosen for e in evaluations])
    items: dict[str, int] = {}
    found = []
    for cell, evaluations in zip(cells, chosen, strict=True):
        answers = [rows.get(e.eval_id, {}) for e in evaluations]
        kept = sorted(set(answers[0]).intersection(*answers[1:]))
        if not kept:
            return []
        numbers = np.array([items.setdefault(f"{cell.task} {s}", len(items)) for s in kept])
        scores = np.array([[own[s][0] for s in kept] for own in answers])
        found.append(from_mean(cell.language, numbers, scores))
    return found


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """A difference, and how far the seeds on both sides lie from their means."""

    mean: Mean
    """Its variance over items alone."""
    deviations: tuple[tuple[Mean, ...], ...]

    @property
    def spread(self) -> SeedSpread:
        """Between seeds; without degrees of freedom where each side is a single run."""
        return seed_spread(self.deviations)

    def over_seeds(self, a: Side, b: Side) -> Mean:
        """Returns the difference with the variance that other seeds would bring in.

        Where no side has two seeds that is unknown, and left out.
        """
        return add_seed_variance(self.mean, self.spread, [*a.weights, *b.weights])


def over_languages(cells: Sequence[PairedCell]) -> Seeded:
    """Returns the mean over the languages of one task, each counting once.

    Args:
        cells: one per language, at least one.
    """
    return Seeded(
        mean=mean_over_languages([cell.values for cell in cells]),
        deviations=_by_seed([cell.deviations for cell in cells], mean_over_languages),
    )


def over_tasks(parts: Sequence[Seeded]) -> Seeded:
    """Returns the mean over tasks, each counting once.

    Args:
        parts: one per task, at least one.
    """
    return Seeded(
        mean=mean_over_tasks([part.mean for part in parts]),
        deviations=_by_seed([part.deviations for part in parts], mean_over_tasks),
    )


def _by_seed(
    parts: Sequence[tuple[tuple[_Part, ...], ...]], mean: Callable[[list[_Part]], Mean]
) -> tuple[tuple[Mean, ...], ...]:
    """The mean over parts of each seed of each side, which all parts have alike."""
    return tuple(
        tuple(mean(list(of_seed)) for of_seed in zip(*side, strict=True))
        for side in zip(*parts, strict=True)
    )

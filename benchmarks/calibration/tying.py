"""Tied runs on simulated studies: the best is kept, what lies behind is told from it."""

from __future__ import annotations

import numpy as np

from benchmarks.calibration.tally import Study
from benchmarks.calibration.world import World
from maple.analysis.configurations import find_configurations
from maple.analysis.effects import ALL_TASKS
from maple.analysis.groups import ENGLISH, language_groups
from maple.analysis.ties import Tie, contenders, tied_runs

POWER_AT = 0.02
"""Power is of true distances of at least this much, two points."""


def check_ties(world: World, study: Study) -> None:
    """Notes whether the truly best one shares a letter with the first, and who does not."""
    codes = [c for c in world.languages if c != ENGLISH]
    worth = world.without_seed[:, :, world.columns(codes)].mean(axis=(1, 2))
    ties = _ties(world)
    best = ties[int(np.argmax([worth[world.position(t.run_id)] for t in ties]))]
    study.note(
        "recommended by the table: the best one is tied with the first", best.is_tied_with_best
    )
    for tie in ties:
        behind = worth[world.position(best.run_id)] - worth[world.position(tie.run_id)]
        if behind >= POWER_AT:
            found = not tie.is_tied_with_best
            study.note("power: 2 points or more behind the best, told from the first, Holm", found)


def has_winner(world: World) -> bool:
    """Returns whether anything is told from the best of all."""
    return not all(tie.is_tied_with_best for tie in _ties(world))


def _ties(world: World) -> list[Tie]:
    group = next(g for g in language_groups(world.languages) if g.kind == "non-english")
    field = contenders(world.runs, find_configurations(world.runs))
    untouched = {run.run_id for run in world.runs if run.cell.is_base}
    return tied_runs(ALL_TASKS, [(panel, group) for panel in world.panels], field, untouched)

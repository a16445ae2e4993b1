"""Every estimate of a store: task by task, then over all tasks, then what the factors change.

each task       scores, means, deltas, curves, ties      a process each
all tasks       effects, ties of means, references       another process
factors         slopes, models, scaling                  meanwhile here
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maple.analysis.configurations import Configuration, find_configurations
from maple.analysis.curves import CurvePoint, curve_points
from maple.analysis.deltas import Base, Delta, adjust, group_deltas, language_deltas
from maple.analysis.effects import ALL_TASKS, GROUPS, Effect, find_effects, run_effects
from maple.analysis.factors import Factors, find_factors
from maple.analysis.groups import LanguageGroup, language_groups
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel
from maple.analysis.processes import Processes
from maple.analysis.reading import light_panel
from maple.analysis.reference_gaps import ReferenceGap, reference_gaps
from maple.analysis.references import published
from maple.analysis.scores import MeanScore, Score, mean_scores, score_cells
from maple.analysis.ties import Asked, Tie, contenders, tied_runs
from maple.store.read import Store, StoredRun


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Every number with an interval; scores and deltas in 0..1 and -1..1."""

    scores: tuple[Score, ...]
    means: tuple[MeanScore, ...]
    deltas: tuple[Delta, ...]
    """Per language."""
    mean_deltas: tuple[Delta, ...]
    """Per group of languages; ``p_holm`` over runs and tasks of the group."""
    run_effects: tuple[Delta, ...]
    """Per run, as a mean over tasks."""
    effects: tuple[Effect, ...]
    curves: tuple[CurvePoint, ...]
    tied_groups: tuple[Tie, ...] = ()
    """Per task and group of languages, and for means over tasks: who cannot be told from whom."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What estimates need to know beside the scores."""

    runs: tuple[StoredRun, ...]
    bases: Mapping[str, Base]
    languages: Mapping[str, tuple[str, ...]]
    """By the task's label."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that is estimated."""

    estimates: Estimates
    reference_gaps: tuple[ReferenceGap, ...]
    factors: Factors


def estimate(
    store: Store,
    modes: Sequence[Mode],
    panels: Sequence[Panel],
    study: Study,
    processes: Processes,
) -> Found:
    """Computes every estimate.

    Args:
        store: where the rows are; a few are read for the features of languages.
        modes: what was asked.
        panels: the answers, a panel per mode.
        study: runs, bases and planned languages.
        processes: the tasks are theirs, and what is made of all of them together.

    Raises:
        StoreError: a part of the store cannot be read.
    """
    light = [light_panel(panel) for panel in panels]
    over_all = processes.submit(_over_tasks, light, study)
    tasks = [processes.submit(_by_task, panel, _answered(panels, study), study) for panel in light]
    factors = find_factors(store, modes, panels, study.languages, study.runs)
    by_task = [task.result() for task in tasks]
    run_deltas, effects, ties, references = over_all.result()
    mean_deltas = [d for e in by_task for d in e.mean_deltas]
    groups = dict.fromkeys(d.group for d in mean_deltas)
    estimates = Estimates(
        scores=tuple(s for e in by_task for s in e.scores),
        means=tuple(m for e in by_task for m in e.means),
        deltas=tuple(d for e in by_task for d in e.deltas),
        mean_deltas=tuple(
            d for group in groups for d in adjust([d for d in mean_deltas if d.group == group])
        ),
        run_effects=tuple(run_deltas),
        effects=tuple(effects),
        curves=tuple(c for e in by_task for c in e.curves),
        tied_groups=(*(t for e in by_task for t in e.tied_groups), *ties),
    )
    return Found(estimates=estimates, reference_gaps=tuple(references), factors=factors)


_COMPARED = ("all", "non-english", "english", "resource-class", "low-resource", "high-resource")
"""Kinds of groups in which every pair of runs is compared."""


def _answered(panels: Sequence[Panel], study: Study) -> list[Configuration]:
    """The configurations of the runs that have an answer to anything."""
    answered = {run_id for panel in panels for run_id in panel.run_ids}
    return find_configurations([run for run in study.runs if run.run_id in answered])


def _untouched(study: Study) -> set[str]:
    return {run.run_id for run in study.runs if run.cell.is_base}


def _compared(panel: Panel, study: Study) -> list[LanguageGroup]:
    groups = language_groups(study.languages[panel.mode.label])
    return [group for group in groups if group.kind in _COMPARED]


def _by_task(panel: Panel, configurations: Sequence[Configuration], study: Study) -> Estimates:
    groups = language_groups(study.languages[panel.mode.label])
    shown = [g for g in groups if g.kind in ("all", "non-english", "resource-class")]
    field = contenders(study.runs, configurations)
    return Estimates(
        scores=tuple(score_cells(panel)),
        means=tuple(mean_scores(panel, groups)),
        deltas=tuple(language_deltas(panel, study.bases)),
        mean_deltas=tuple(group_deltas(panel, study.bases, groups)),
        run_effects=(),
        effects=(),
        curves=tuple(curve_points(panel, configurations, study.bases, shown)),
        tied_groups=tuple(
            tie
            for group in _compared(panel, study)
            for tie in tied_runs(panel.mode.label, [(panel, group)], field, _untouched(study))
        ),
    )


def _over_tasks(
    panels: Sequence[Panel], study: Study
) -> tuple[list[Delta], list[Effect], list[Tie], list[ReferenceGap]]:
    configurations, references = _answered(panels, study), published()
    return (
        run_effects(panels, study.languages, study.bases),
        find_effects(panels, study.languages, configurations, study.bases),
        _ties_of_means(panels, configurations, study),
        [
            gap
            for panel in panels
            for gap in reference_gaps(
                panel,
                study.languages[panel.mode.label],
                study.runs,
                study.bases,
                references,
                others=panels,
            )
        ],
    )


def _ties_of_means(
    panels: Sequence[Panel], configurations: Sequence[Configuration], study: Study
) -> list[Tie]:
    """Ties of the means over the tasks that have the group."""
    field = contenders(study.runs, configurations)
    asked: dict[str, list[Asked]] = {}
    for panel in panels:
        for group in _compared(panel, study):
            asked.setdefault(group.name, []).append((panel, group))
    return [
        tie
        for name in GROUPS
        if len(asked.get(name, ())) > 1
        for tie in tied_runs(ALL_TASKS, asked[name], field, _untouched(study))
    ]

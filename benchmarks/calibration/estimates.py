"""Scores, means, changes, gaps and forgetting: does each interval hold the parameter drawn?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.calibration.tally import Study
from benchmarks.calibration.world import World
from maple.analysis.contrasts import group_means
from maple.analysis.deltas import Delta, find_bases, group_deltas, language_deltas
from maple.analysis.effects import run_effects
from maple.analysis.forgetting import ledger_of
from maple.analysis.groups import ENGLISH, LanguageGroup, language_groups
from maple.analysis.means import mean_over_tasks
from maple.analysis.panel import Panel
from maple.analysis.recommend_evidence import Evidence
from maple.analysis.reference_gaps import ReferenceGap, reference_gaps
from maple.analysis.references import Reference
from maple.analysis.scores import mean_scores, score_cells

ALPHA = 0.05
POWER_AT = 0.02
"""Power is of true changes of at least this much, two points."""
PAIRS = 20
TASKS = (0, 1, 2)
"""Tasks whose single cells are asked about: parallel, separate, and graded items."""
_KINDS = ("non-english", "low-resource", "high-resource", "resource-class")
FORGOTTEN_IN = 3
"""Languages of the ledger besides English: it is asked language by language."""


def check_scores(world: World, study: Study) -> None:
    """Notes the intervals of cells and of means over languages, of these very adapters."""
    groups = _groups(world)
    for task in TASKS:
        panel = world.panels[task]
        column = {code: i for i, code in enumerate(world.languages)}
        for score in score_cells(panel):
            truth = world.expected[world.position(score.run_id), task, column[score.language]]
            study.note_interval("score, one language", score.low, score.high, float(truth))
        members = {g.name: world.columns(g.languages) for g in groups}
        for mean in mean_scores(panel, groups):
            of = world.expected[world.position(mean.run_id), task, members[mean.group]]
            study.note_interval("score, mean of a group", mean.low, mean.high, float(of.mean()))


def check_deltas(world: World, study: Study) -> None:
    """Notes the intervals of changes from the base, and which of two points are found."""
    bases, groups = find_bases(world.runs), _groups(world)
    members = {g.name: g.languages for g in language_groups(world.languages)}
    for task in TASKS:
        panel = world.panels[task]
        for delta in language_deltas(panel, bases):
            truth = truth_of_delta(world, delta, task, [delta.group])
            study.note_interval("delta to base, one language", delta.low, delta.high, truth)
            if abs(truth) >= POWER_AT:
                found = delta.p_holm < ALPHA and delta.delta * truth > 0
                study.note("power: delta of 2 points or more, one language, Holm", found)
        for delta in group_deltas(panel, bases, groups):
            truth = truth_of_delta(world, delta, task, members[delta.group])
            study.note_interval("delta to base, mean of a group", delta.low, delta.high, truth)
    for delta in run_effects(world.panels, world.planned, bases):
        truth = truth_of_delta(world, delta, None, members[delta.group])
        study.note_interval("delta to base, mean over tasks", delta.low, delta.high, truth)
        if abs(truth) >= POWER_AT and delta.group == "non-english":
            found = delta.p_holm < ALPHA and delta.delta * truth > 0
            study.note("power: delta of 2 points or more, mean over tasks, Holm", found)


def truth_of_delta(world: World, delta: Delta, task: int | None, codes: Sequence[str]) -> float:
    """Returns the expected change of this very adapter; over all tasks where none is named."""
    return _change(world, delta.run_id, delta.base_run_id, task, codes)


def check_pairs(world: World, study: Study, rng: np.random.Generator) -> None:
    """Notes the intervals of differences between runs drawn at random."""
    trained = [r.run_id for r in world.runs if not r.cell.is_base]
    group = next(g for g in language_groups(world.languages) if g.kind == "non-english")
    pairs = [tuple(map(str, rng.choice(trained, 2, replace=False))) for _ in range(PAIRS)]
    contrasts = [{a: 1.0, b: -1.0} for a, b in pairs]
    by_task = [group_means(panel, contrasts, [group]) for panel in world.panels]
    for i, (a, b) in enumerate(pairs):
        means = [of_task[i][0] for of_task in by_task]
        interval = mean_over_tasks([m for m in means if m is not None]).interval
        truth = _change(world, a, b, None, group.languages)
        name = "difference of two runs, mean over tasks"
        study.note_interval(name, interval.low, interval.high, truth)


def check_gaps(world: World, study: Study) -> None:
    """Notes the shares of the gap closed to another model of the study and to published scores."""
    reference = world.runs[-1]
    runs, bases = world.runs, find_bases(world.runs)
    for task, panel in enumerate(world.panels):
        levels = world.expected[world.position(reference.run_id), task]
        published = Reference(
            name="published",
            source="",
            task=panel.mode.task,
            metric="accuracy",
            asked={},
            scores=dict(zip(world.languages, map(float, levels), strict=True)),
        )
        members = {g.name: g.languages for g in language_groups(world.languages)}
        for gap in reference_gaps(panel, world.languages, runs, bases, [published]):
            _note_gap(world, study, gap, task, members.get(gap.group, (gap.group,)))


def _note_gap(
    world: World, study: Study, gap: ReferenceGap, task: int, codes: Sequence[str]
) -> None:
    """An interval without limits holds everything: it is counted as holding, and apart."""
    where = "one language" if len(codes) == 1 else "mean of a group"
    name = f"gap closed, {gap.kind} reference, {where}"
    reference = world.runs[-1].run_id
    distance = _change(world, reference, gap.base_run_id, task, codes)
    truth = _change(world, gap.run_id, gap.base_run_id, task, codes) / distance
    study.note(f"power: {name}, has limits", gap.low is not None)
    if gap.low is not None and gap.high is not None:
        study.note_interval(name, gap.low, gap.high, truth)


def check_forgetting(world: World, study: Study) -> None:
    """Notes the ledger's changes and its trade-offs, as means over all seeds there could be."""
    codes = [ENGLISH, *[c for c in world.languages if c != ENGLISH][:FORGOTTEN_IN]]
    panels = tuple(_cut(panel, codes) for panel in world.panels[:2])
    labels = tuple(panel.mode.label for panel in panels)
    evidence = Evidence(runs=world.runs, panels=panels, evaluated=dict.fromkeys(codes, labels))
    ledger = ledger_of(evidence)
    bases = {c.configuration: c.base_run_id for c in ledger.changes}
    for change in ledger.changes:
        tasks = [labels.index(change.task)] if change.task in labels else [0, 1]
        truth = _typical(world, change.run_ids[0], change.base_run_id, tasks, [change.group])
        where = "one task" if change.task in labels else "mean over tasks"
        name = f"forgetting, change in one language, {where}"
        study.note_interval(name, change.change.low, change.change.high, truth)
    for point in ledger.trade_offs:
        run, base = point.run_ids[0], bases[point.configuration]
        truth = _typical(world, run, base, [0, 1], codes[1:])
        study.note_interval("forgetting, gain", point.gain.low, point.gain.high, truth)
        if point.english is not None:
            truth = _typical(world, run, base, [0, 1], [ENGLISH])
            name = "forgetting, change in English"
            study.note_interval(name, point.english.low, point.english.high, truth)


def _groups(world: World) -> list[LanguageGroup]:
    return [g for g in language_groups(world.languages) if g.kind in _KINDS]


def _change(world: World, run: str, base: str, task: int | None, codes: Sequence[str]) -> float:
    columns = world.columns(codes)
    tasks = slice(None) if task is None else slice(task, task + 1)
    of_run, of_base = (world.expected[world.position(r)][tasks, columns] for r in (run, base))
    return float((of_run - of_base).mean())


def _typical(
    world: World, run: str, base: str, tasks: Sequence[int], codes: Sequence[str]
) -> float:
    """The change of a configuration over all seeds that could have been drawn."""
    cut = world.without_seed[:, tasks][:, :, world.columns(codes)]
    return float((cut[world.position(run)] - cut[world.position(base)]).mean())


def _cut(panel: Panel, codes: Sequence[str]) -> Panel:
    return dataclasses.replace(
        panel,
        scores={c: panel.scores[c] for c in codes},
        items={c: panel.items[c] for c in codes},
    )

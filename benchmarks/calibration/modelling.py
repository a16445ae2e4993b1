"""Effects, slopes and the mixed model: do their intervals hold the parameters drawn?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.calibration.tally import Study
from benchmarks.calibration.world import World
from maple.analysis.configurations import find_configurations
from maple.analysis.deltas import find_bases
from maple.analysis.effects import ALL_TASKS, Effect, find_effects
from maple.analysis.groups import language_groups
from maple.analysis.mixed import MixedFit, fit_mixed
from maple.analysis.slopes import LOW_MINUS_HIGH, Slope, find_slopes

ALPHA = 0.05
NOISE = "noise"
"""A covariate that has nothing to do with any score."""


def check_effects(world: World, study: Study, label: str) -> None:
    """Notes the intervals of tuning and of the highest minus the lowest rank and bits."""
    configurations = find_configurations(world.runs)
    members = {g.name: g.languages for g in language_groups(world.languages)}
    bases = find_bases(world.runs)
    for effect in find_effects(world.panels, world.planned, configurations, bases):
        kind = "mean over tasks" if effect.task == ALL_TASKS else "one task"
        truth = _truth_of_effect(world, effect, members[effect.group])
        name = f"{label}highest - lowest rank or bits, {kind}"
        if effect.factor == "tuning":
            name = f"{label}tuning effect, {kind}"
        study.note_interval(name, effect.low, effect.high, truth)


def _truth_of_effect(world: World, effect: Effect, codes: Sequence[str]) -> float:
    columns, tasks = world.columns(codes), _tasks(world, effect.task)
    s = world.settings
    if effect.factor == "rank":
        doublings = np.log2(max(s.ranks) / min(s.ranks))
        return float(world.rank_slopes[tasks][:, columns].mean() * doublings)
    if effect.factor == "bits":
        doublings = np.log2(max(s.bits) / min(s.bits))
        return float(world.bit_slopes[tasks][:, columns].mean() * doublings)
    own = [i for i, r in enumerate(world.runs) if r.cell.model == world.runs[0].cell.model]
    trained = [i for i in own if not world.runs[i].cell.is_base]
    untuned = [i for i in own if world.runs[i].cell.is_base]
    cut = world.without_seed[:, tasks][:, :, columns]
    return float(cut[trained].mean() - cut[untuned].mean())


def _tasks(world: World, label: str) -> list[int]:
    labels = [panel.mode.label for panel in world.panels]
    return list(range(len(labels))) if label == ALL_TASKS else [labels.index(label)]


def check_slopes(world: World, study: Study, label: str) -> None:
    """Notes both intervals of every slope on rank and bits."""
    for slope in find_slopes(world.panels, world.planned, find_configurations(world.runs)):
        if slope.factor == "parameters":  # the rank's in another unit: the same interval
            continue
        kind = "mean over tasks" if slope.task == ALL_TASKS else "one task"
        if slope.group == LOW_MINUS_HIGH:
            kind = f"low - high, {kind}"
        truth, elsewhere = _truth_of_slope(world, slope)
        factor = "rank or bits" if label else slope.factor
        study.note_interval(f"{label}slope on {factor}, {kind}", slope.low, slope.high, truth)
        if slope.low_elsewhere is not None and slope.high_elsewhere is not None:
            name = f"{label}slope on {factor}, languages like these, {kind}"
            study.note_interval(name, slope.low_elsewhere, slope.high_elsewhere, elsewhere)
        if slope.factor == "rank" and kind == "mean over tasks" and abs(truth) >= 0.005:
            found = slope.p_holm < ALPHA and slope.value * truth > 0
            study.note(f"power: {label}half a point per doubling of the rank, Holm", found)


def _truth_of_slope(world: World, slope: Slope) -> tuple[float, float]:
    """The slope in these languages, and as expected of others of their resource classes."""
    members = {g.name: world.columns(g.languages) for g in language_groups(world.languages)}
    tasks, index = _tasks(world, slope.task), 0 if slope.factor == "rank" else 1
    unit = 1.0 if index == 0 else _per_bit(world)
    both = []
    for truth in ((world.rank_slopes, world.bit_slopes)[index], world.typical_slopes[index]):
        chosen = truth[tasks]
        if slope.group == LOW_MINUS_HIGH:
            low, high = members["low-resource"], members["high-resource"]
            both.append(unit * float(chosen[:, low].mean() - chosen[:, high].mean()))
        else:
            both.append(unit * float(chosen[:, members[slope.group]].mean()))
    return both[0], both[1]


def check_mixed(world: World, study: Study, rng: np.random.Generator, label: str = "") -> None:
    """Notes the terms of the mixed model, for languages of the class at hand as draws from it."""
    noise = dict(zip(world.languages, rng.standard_normal(len(world.languages)), strict=True))
    fit = fit_mixed(world.panels, find_configurations(world.runs), {NOISE: noise})
    if not isinstance(fit, MixedFit):
        return
    study.note(f"power: {label}mixed model, the whole one could be fitted", not fit.notes)
    members = {g.name: world.columns(g.languages) for g in language_groups(world.languages)}
    unit = _per_bit(world)
    low, high = (
        [float(t[:, members[name]].mean()) for t in world.typical_slopes]
        for name in ("low-resource", "high-resource")
    )
    truths = {
        "rank (per doubling)": ("rank", high[0]),
        "bits (per bit)": ("bits", high[1] * unit),
        "rank (per doubling) x low-resource": ("rank x class", low[0] - high[0]),
        "bits (per bit) x low-resource": ("bits x class", (low[1] - high[1]) * unit),
        f"{NOISE} (per deviation)": ("a covariate without effect", 0.0),
        # Levels owe nothing to the class, and slopes cross where ranks and bits have their means.
        "low-resource": ("class without effect", 0.0),
    }
    for term in fit.terms:
        if term.name in truths:
            kind, truth = truths[term.name]
            limits = term.interval.low, term.interval.high
            study.note_interval(f"{label}mixed model, {kind}", *limits, truth)


def _per_bit(world: World) -> float:
    """Truth is linear in log2 of the bits, the slope is on bits: its least-squares line."""
    bits = np.array(world.settings.bits, float)
    return float(np.polyfit(bits, np.log2(bits), 1)[0])

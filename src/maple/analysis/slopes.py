"""Slopes over runs: what each doubling of the rank, each bit, each tenfold size adds to a score.

Runs that agree in all else, seed included, are a stratum. With ``x`` the factor, the slope is the
least-squares one with an intercept per stratum,

    slope = Σ_r w_r score_r        w_r = (x_r - mean x of its stratum) / Σ (x - mean x)²

so it is a contrast of runs like any other: paired on items, with the scatter of runs added. Two
intervals go with it. The first takes the languages as given; the second is for other languages
like these, and adds how far the languages' own slopes lie apart. ``docs/statistics.md`` has the
coverage of both.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maple.analysis.configurations import Configuration
from maple.analysis.groups import LanguageGroup, language_groups
from maple.analysis.intervals import holm, satterthwaite
from maple.analysis.means import Mean, SeedSpread, add_seed_variance, mean_over_tasks
from maple.analysis.panel import Panel
from maple.analysis.run_means import Answered, Parts, RunMeans, from_mean, run_means, spread_of_runs
from maple.store.read import StoredRun

ALL_TASKS = "mean over tasks"
LOW_MINUS_HIGH = "low-resource - high-resource"
"""The interaction with resource class: the slope in the one minus the slope in the other."""

SlopeFactor = Literal["rank", "bits", "parameters"]
Scatter = Literal["seeds", "line", "none"]
UNITS: Mapping[SlopeFactor, str] = {
    "rank": "per doubling of the rank",
    "bits": "per bit",
    "parameters": "per tenfold trainable parameters",
}


@dataclass(frozen=True, kw_only=True)
class Slope:
    """The slope of a score (in 0..1) on one factor, in one group of languages."""

    task: str
    factor: SlopeFactor
    unit: str
    group: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    """Adjusted over the slopes of the mean over tasks, or of all single tasks."""
    low_elsewhere: float | None
    high_elsewhere: float | None
    """Limits for other languages like these; None of fewer than three."""
    df: float
    scatter: Scatter
    """Where the variance between runs comes from: repeated seeds, the scatter around the line
    where no configuration has two, or nowhere, and the interval covers test items alone."""
    n_runs: int
    n_levels: int
    n_languages: int
    n_tasks: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """The weights of one slope, and of the residuals that the scatter of runs is seen in."""

    factor: SlopeFactor
    levels: Mapping[str, float]
    """Factor by run id."""
    weights: Mapping[str, float]
    residuals: Sequence[Mapping[str, float]]
    residual_df: int
    scatter: Scatter


def find_slopes(
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    configurations: Sequence[Configuration],
) -> list[Slope]:
    """Returns every slope that the runs allow: of the mean over tasks first, then of each task.

    A run without an answer in every language of every task in question is left out; so is a
    language that most runs lack.

    Args:
        panels: the answers, a panel per task.
        planned: languages by the label of the task.
        configurations: the trained configurations that have answers.
    """
    families: list[list[tuple[str, Sequence[Panel]]]] = [[(ALL_TASKS, panels)]]
    if len(panels) > 1:
        families.append([(panel.mode.label, [panel]) for panel in panels])
    trained = [r.run_id for c in configurations for r in c.runs]
    slopes: list[Slope] = []
    answered, parts = Answered(panels), Parts()
    for family in families:
        found = [
            slope
            for task, asked in family
            for name in _group_names(planned)
            for weighed in [_weigh(asked, planned, name, trained, answered)]
            for slope in _slopes(task, name, weighed, configurations, parts)
        ]
        adjusted = holm([s.p for s in found])
        slopes += [dataclasses.replace(s, p_holm=p) for s, p in zip(found, adjusted, strict=True)]
    return slopes


def fit_line(
    factor: SlopeFactor,
    levels: Mapping[str, float],
    strata: Mapping[str, Hashable],
    replicates: Sequence[Sequence[str]] = (),
) -> Line | None:
    """Returns the least-squares slope with an intercept per stratum, as weights of runs.

    Args:
        factor: its name.
        levels: the factor's value by run id.
        strata: what else the run is, by run id.
        replicates: run ids that differ by their seed alone, a group each.

    Returns:
        None where no stratum has two levels.
    """
    members: dict[Hashable, list[str]] = defaultdict(list)
    for run in levels:
        members[strata[run]].append(run)
    centred: dict[str, float] = {}
    for runs in members.values():
        mean = math.fsum(levels[r] for r in runs) / len(runs)
        centred |= {r: levels[r] - mean for r in runs}
    squares = math.fsum(x * x for x in centred.values())
    if squares < 1e-12:
        return None
    weights = {r: x / squares for r, x in centred.items()}
    seeds = [runs for runs in replicates if len(runs) > 1]
    if seeds:
        residuals = [from_mean(r, runs) for runs in seeds for r in runs]
        df = sum(len(runs) - 1 for runs in seeds)
    else:
        inside = [(r, runs) for runs in members.values() if len(runs) > 1 for r in runs]
        residuals = [_from_line(r, runs, weights, centred[r]) for r, runs in inside]
        df = len(inside) - sum(len(runs) > 1 for runs in members.values()) - 1
    return Line(
        factor=factor,
        levels=levels,
        weights=weights,
        residuals=residuals,
        residual_df=df,
        scatter="none" if df < 1 else "seeds" if seeds else "line",
    )


def _from_line(
    run: str, runs: Sequence[str], slope: Mapping[str, float], x: float
) -> dict[str, float]:
    own = from_mean(run, runs)
    return {r: own.get(r, 0.0) - x * slope[r] for r in slope}


def _lines(configurations: Sequence[Configuration], runs: set[str]) -> list[Line]:
    pairs = [(c, r) for c in configurations for r in c.runs if r.run_id in runs]
    seeds = [[r.run_id for r in c.runs if r.run_id in runs] for c in configurations]

    def line(
        factor: SlopeFactor,
        level: Callable[[Configuration, StoredRun], float | None],
        rest: Callable[[Configuration, StoredRun], Hashable],
    ) -> Line | None:
        levels = {r.run_id: x for c, r in pairs if (x := level(c, r)) is not None}
        strata = {r.run_id: (rest(c, r), r.cell.seed) for c, r in pairs}
        kept = [[run for run in group if run in levels] for group in seeds]
        return fit_line(factor, levels, strata, kept)

    found = [
        line("rank", lambda c, r: _log(c.rank, 2), lambda c, r: (c.series, c.quantization)),
        line("bits", lambda c, r: c.bits, lambda c, r: (c.series, c.rank)),
        line(
            "parameters",
            lambda c, r: _log(r.train.trainable_parameters, 10) if r.train else None,
            lambda c, r: (r.cell.model, r.cell.mixture, c.quantization),
        ),
    ]
    return [x for x in found if x is not None]


def _log(value: int | None, base: float) -> float | None:
    return math.log(value, base) if value is not None and value > 0 else None


_KINDS = ("non-english", "english", "low-resource", "high-resource", "resource-class")
"""Kinds of groups that slopes are taken in: scripts and regions would only widen the family."""


def _group_names(planned: Mapping[str, Sequence[str]]) -> list[str]:
    codes = {code for languages in planned.values() for code in languages}
    found = [group for group in language_groups(codes) if group.kind in _KINDS]
    names = [group.name for group in sorted(found, key=lambda g: _KINDS.index(g.kind))]
    return [*names, LOW_MINUS_HIGH] if {"low-resource", "high-resource"} <= set(names) else names


def _language_weights(languages: Sequence[str], name: str) -> dict[str, float]:
    """The weight of each language in the group's mean, or in the difference of two means."""
    groups = {group.name: group for group in language_groups(languages)}
    if name != LOW_MINUS_HIGH:
        return _equal(groups[name]) if name in groups else {}
    if not {"low-resource", "high-resource"} <= groups.keys():
        return {}
    high = {code: -w for code, w in _equal(groups["high-resource"]).items()}
    return _equal(groups["low-resource"]) | high


def _equal(group: LanguageGroup) -> dict[str, float]:
    return dict.fromkeys(group.languages, 1 / len(group.languages))


_Weighed = tuple[Panel, Mapping[str, float], Sequence[str]]
"""A panel, the weights of its languages, and the trained runs that have them all."""


def _weigh(
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    name: str,
    trained: Sequence[str],
    answered: Answered,
) -> list[_Weighed]:
    found: list[_Weighed] = []
    for panel in panels:
        usual = answered.usual(panel, planned[panel.mode.label], trained)
        if weights := _language_weights(usual, name):
            runs = [r for r in trained if r in panel.run_ids]
            found.append((panel, weights, answered.runs(panel, weights, runs)))
    return found


def _slopes(
    task: str,
    name: str,
    asked: Sequence[_Weighed],
    configurations: Sequence[Configuration],
    parts: Parts,
) -> list[Slope]:
    complete = [
        r.run_id
        for c in configurations
        for r in c.runs
        if all(r.run_id in runs for _, _, runs in asked)
    ]
    tasks = [m for p, w, _ in asked if (m := run_means(p, w, complete, parts)) is not None]
    if not tasks:
        return []
    return [_slope(task, name, tasks, line) for line in _lines(configurations, set(complete))]


def _slope(task: str, name: str, tasks: Sequence[RunMeans], line: Line) -> Slope:
    over_items = mean_over_tasks([m.contrast(line.weights) for m in tasks])
    spread = spread_of_runs(tasks, line.residuals, line.residual_df)
    mean = add_seed_variance(over_items, spread, line.weights.values())
    elsewhere = _elsewhere(tasks, line, over_items, spread) if name != "english" else None
    limits = elsewhere.interval if elsewhere else None
    return Slope(
        task=task,
        factor=line.factor,
        unit=UNITS[line.factor],
        group=name,
        value=mean.value,
        low=mean.interval.low,
        high=mean.interval.high,
        p=mean.p,
        p_holm=mean.p,
        low_elsewhere=limits.low if limits else None,
        high_elsewhere=limits.high if limits else None,
        df=mean.df,
        scatter=line.scatter,
        n_runs=len(line.levels),
        n_levels=len(set(line.levels.values())),
        n_languages=len({code for m in tasks for code in m.languages}),
        n_tasks=len(tasks),
    )


def _elsewhere(
    tasks: Sequence[RunMeans], line: Line, over_items: Mean, spread: SeedSpread
) -> Mean | None:
    """The slope as one of other languages: a draw of languages, of items and of seeds.

    The languages' slopes scatter by what differs between them and by the items that each has for
    itself. What they share, common items and the runs themselves, no scatter between them shows:
    it is added.
    """
    variances, dfs = [], []
    for sign in (1.0, -1.0):
        scatter, n_languages = _language_scatter(tasks, line.weights, sign)
        if 0 < n_languages < 3:
            return None
        if n_languages:
            variances.append(scatter * n_languages / (n_languages - 1))
            dfs.append(n_languages - 1.0)
    apart = sum(m.variance_apart(line.weights) for m in tasks) / len(tasks) ** 2
    variances.append(max(0.0, over_items.variance - apart))
    dfs.append(over_items.df)
    df = satterthwaite(variances, dfs)
    mean = dataclasses.replace(over_items, variance=sum(variances), df=df)
    return add_seed_variance(mean, spread, line.weights.values())


def _language_scatter(
    tasks: Sequence[RunMeans], weights: Mapping[str, float], sign: float
) -> tuple[float, int]:
    """Returns the sum over languages of squared influences on the slope, and their number.

    A language that several tasks have is one cluster.
    """
    influence: dict[str, float] = defaultdict(float)
    for task in tasks:
        mine = task.weights * sign > 0
        if not mine.any():
            continue
        slopes = task.contrast_by_language(weights)[mine]
        codes = [code for code, kept in zip(task.languages, mine, strict=True) if kept]
        deviations = task.weights[mine] * (slopes - slopes.mean()) / len(tasks)
        for code, deviation in zip(codes, deviations, strict=True):
            influence[code] += float(deviation)
    return sum(u * u for u in influence.values()), len(influence)

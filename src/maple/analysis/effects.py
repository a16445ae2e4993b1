"""The study's questions as one number each: averaged over runs and tasks, and task by task.

tuning   every trained run minus its untouched base
rank     the highest rank minus the lowest, all else equal
bits     the most bits minus the fewest, all else equal, both tuned
data     each further mixture minus the first, all else equal
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maple.analysis.configurations import Configuration
from maple.analysis.contrasts import Weights, group_means
from maple.analysis.curves import (
    average_weights,
    mean_over_runs,
    with_seed_variance,
)
from maple.analysis.deltas import Base, Delta, adjust
from maple.analysis.groups import LanguageGroup, language_groups
from maple.analysis.intervals import holm
from maple.analysis.means import Mean, SeedSpread, mean_over_tasks
from maple.analysis.panel import Panel
from maple.analysis.power import minimum_detectable
from maple.analysis.run_means import Answered, Parts, from_mean, run_means, spread_of_runs
from maple.study.spec import canonical_json

ALL_TASKS = "mean over tasks"
"""The task of a row that averages over every task of the study."""

Factor = Literal["tuning", "rank", "bits", "data"]
_Asked = tuple[Panel, LanguageGroup]
GROUPS = ("non-english", "low-resource", "high-resource", "english")
"""The groups of languages that effects are shown for."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one factor changes in one group of languages, in score (-1..1)."""

    task: str
    """Label of the task; ``ALL_TASKS`` for the mean over tasks."""
    factor: Factor
    contrast: str
    """What is compared, for example ``rank 16 - rank 4``."""
    group: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    """Adjusted over the means over tasks, or over the effects of all single tasks."""
    n_contrasts: int
    """Paired comparisons averaged, at most: a run that lacks a language is left out."""
    n_languages: int
    n_tasks: int


@dataclass(frozen=True)
class _Question:
    factor: Factor
    text: str
    contrasts: Sequence[Weights]


def find_effects(
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    configurations: Sequence[Configuration],
    bases: Mapping[str, Base],
) -> list[Effect]:
    """Returns every effect that the study's runs allow: over all tasks first, then in each.

    Args:
        panels: the answers, a panel per task.
        planned: languages by the label of the task.
        configurations: the trained configurations that have answers.
        bases: untouched base by run id.
    """
    questions = [
        _tuning(configurations, bases),
        *_level_questions(configurations),
        *_data_questions(configurations),
    ]
    families: list[list[tuple[str, Sequence[Panel]]]] = [[(ALL_TASKS, panels)]]
    if len(panels) > 1:
        families.append([(panel.mode.label, [panel]) for panel in panels])
    effects: list[Effect] = []
    seeds = _Seeds(panels, configurations)
    for family in families:
        found = [
            dataclasses.replace(effect, task=task)
            for question in questions
            for task, asked in family
            for group in GROUPS
            if (effect := _effect(asked, planned, group, question, seeds)) is not None
        ]
        adjusted = holm([e.p for e in found])
        effects += [dataclasses.replace(e, p_holm=p) for e, p in zip(found, adjusted, strict=True)]
    return effects


def run_effects(
    panels: Sequence[Panel], planned: Mapping[str, Sequence[str]], bases: Mapping[str, Base]
) -> list[Delta]:
    """Returns each run's delta as a mean over tasks, for the groups of ``GROUPS``.

    Only runs that have the group's delta in every task that has the group; p is adjusted over
    the runs of each group.
    """
    adjusted: list[Delta] = []
    for name in GROUPS:
        asked = [(p, g) for p in panels if (g := _group(planned[p.mode.label], name))]
        contrasts = [{run: 1.0, base.run_id: -1.0} for run, base in bases.items()]
        means = [group_means(panel, contrasts, [group]) for panel, group in asked]
        found = [
            _over_tasks(asked, run, base, [of_task[i][0] for of_task in means])
            for i, (run, base) in enumerate(bases.items())
        ]
        adjusted += adjust([delta for delta in found if delta is not None])
    return adjusted


def _over_tasks(
    groups: Sequence[_Asked], run_id: str, base: Base, by_task: Sequence[Mean | None]
) -> Delta | None:
    means = [m for m in by_task if m is not None]
    if not means or len(means) < len(groups):
        return None
    mean = mean_over_tasks(means)
    return Delta(
        task=ALL_TASKS,
        run_id=run_id,
        base_run_id=base.run_id,
        has_same_bits=base.has_same_bits,
        kind=groups[0][1].kind,
        group=groups[0][1].name,
        n_languages=sum(m.n_languages for m in means),
        n_languages_planned=sum(len(g.languages) for _, g in groups),
        n=mean.n_samples,
        delta=mean.value,
        low=mean.interval.low,
        high=mean.interval.high,
        standard_error=mean.variance**0.5,
        p=mean.p,
        p_holm=mean.p,
        minimum_detectable=minimum_detectable(mean.variance**0.5, mean.df),
    )


def _tuning(configurations: Iterable[Configuration], bases: Mapping[str, Base]) -> _Question:
    contrasts: list[Weights] = [
        {run.run_id: 1.0, bases[run.run_id].run_id: -1.0}
        for configuration in configurations
        for run in configuration.runs
        if run.run_id in bases
    ]
    return _Question("tuning", "tuned - untouched base", contrasts)


def _level_questions(configurations: Sequence[Configuration]) -> list[_Question]:
    rank = _highest_minus_lowest(
        configurations, level=lambda c: c.rank, rest=lambda c: (c.series, c.quantization)
    )
    bits = _highest_minus_lowest(
        configurations, level=lambda c: c.bits, rest=lambda c: (c.series, c.rank)
    )
    questions = []
    if rank is not None:
        questions.append(_Question("rank", "rank {1:g} - rank {0:g}".format(*rank[0]), rank[1]))
    if bits is not None:
        questions.append(_Question("bits", "{1:g} bits - {0:g} bits".format(*bits[0]), bits[1]))
    return questions


def _data_questions(configurations: Sequence[Configuration]) -> list[_Question]:
    """Pairs runs of each further mixture with those of the first that agree in all else."""
    at: dict[tuple[Hashable, ...], dict[str, str]] = defaultdict(dict)
    for run in (run for configuration in configurations for run in configuration.runs):
        cell = run.cell
        rest = (cell.model, cell.method, canonical_json(cell.parameters), cell.quantization)
        at[*rest, cell.seed][cell.mixture or ""] = run.run_id
    first, *others = dict.fromkeys(name for found in at.values() for name in found) or [""]
    return [
        _Question(
            "data",
            f"{other} - {first}",
            [
                {found[other]: 1.0, found[first]: -1.0}
                for found in at.values()
                if first in found and other in found
            ],
        )
        for other in others
    ]


def _highest_minus_lowest(
    configurations: Sequence[Configuration],
    *,
    level: Callable[[Configuration], float | None],
    rest: Callable[[Configuration], Hashable],
) -> tuple[tuple[float, float], list[Weights]] | None:
    """Pairs runs at a factor's highest and lowest level that agree in all else, seed included."""
    levels = {x for c in configurations if (x := level(c)) is not None}
    if len(levels) < 2:
        return None
    low, high = min(levels), max(levels)
    at: dict[tuple[Hashable, int], dict[float, str]] = defaultdict(dict)
    for configuration in configurations:
        value = level(configuration)
        for run in configuration.runs if value is not None else ():
            at[rest(configuration), run.cell.seed][value or 0] = run.run_id
    pairs: list[Weights] = [
        {found[high]: 1.0, found[low]: -1.0}
        for found in at.values()
        if low in found and high in found
    ]
    return (low, high), pairs


def _group(languages: Sequence[str], name: str) -> LanguageGroup | None:
    return next((g for g in language_groups(languages) if g.name == name), None)


class _Seeds:
    """The scatter between seeds of a mean over tasks, found once for each group and its tasks."""

    def __init__(self, panels: Sequence[Panel], configurations: Sequence[Configuration]) -> None:
        self._answered = Answered(panels)
        self._configurations = configurations
        self._found: dict[tuple[str, ...], SeedSpread] = {}
        self._parts = Parts()

    def add(self, mean: Mean, weights: Weights, asked: Sequence[_Asked]) -> Mean:
        """Returns the mean with the variance that the seeds of its trained runs bring in."""
        key = (asked[0][1].name, *(panel.mode.label for panel, _ in asked))
        if key not in self._found:
            self._found[key] = self._spread(asked)
        return with_seed_variance(mean, self._found[key], weights, self._configurations)

    def _spread(self, asked: Sequence[_Asked]) -> SeedSpread:
        trained = [run.run_id for c in self._configurations for run in c.runs]
        parts = [(p, [c for c in g.languages if c in p.scores]) for p, g in asked]
        for panel, codes in parts:
            trained = self._answered.runs(panel, codes, trained)
        seeds = [[r.run_id for r in c.runs if r.run_id in trained] for c in self._configurations]
        repeated = [runs for runs in seeds if len(runs) > 1]
        runs = [run for group in repeated for run in group]
        means = [
            run_means(p, dict.fromkeys(codes, 1 / len(codes)), runs, self._parts)
            for p, codes in parts
            if codes
        ]
        residuals = [from_mean(run, group) for group in repeated for run in group]
        df = sum(len(group) - 1 for group in repeated)
        return spread_of_runs([m for m in means if m is not None], residuals, df)


def _effect(
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    group_name: str,
    question: _Question,
    seeds: _Seeds,
) -> Effect | None:
    means: list[Mean] = []
    asked: list[_Asked] = []
    weights: list[Weights] = []
    n_contrasts = 0
    for panel in panels:
        group = _group(planned[panel.mode.label], group_name)
        kept = _complete(panel, group, question.contrasts) if group else []
        if group and kept and (mean := mean_over_runs(panel, group, kept)):
            means.append(mean)
            asked.append((panel, group))
            weights.append(average_weights(kept))
            n_contrasts = max(n_contrasts, len(kept))
    if not means:
        return None
    mean = seeds.add(mean_over_tasks(means), average_weights(weights), asked)
    return Effect(
        task=ALL_TASKS,
        factor=question.factor,
        contrast=question.text,
        group=group_name,
        value=mean.value,
        low=mean.interval.low,
        high=mean.interval.high,
        p=mean.p,
        p_holm=mean.p,
        n_contrasts=n_contrasts,
        n_languages=mean.n_languages,
        n_tasks=len(means),
    )


def _complete(panel: Panel, group: LanguageGroup, contrasts: Sequence[Weights]) -> list[Weights]:
    """The contrasts with an answer in every language that any of them has an answer in."""
    have = [panel.answered(group.languages, w) for w in contrasts]
    everything: set[str] = set().union(*have)
    kept = [w for w, languages in zip(contrasts, have, strict=True) if languages == everything]
    return kept if everything else []

"""Rank and bits curves: a mean over languages for every configuration, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maple.analysis.configurations import Configuration
from maple.analysis.contrasts import Weights, group_means
from maple.analysis.deltas import Base
from maple.analysis.groups import Kind, LanguageGroup
from maple.analysis.means import (
    Mean,
    SeedSpread,
    add_seed_variance,
    seed_spread,
)
from maple.analysis.panel import Panel

Quantity = Literal["delta", "score"]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One configuration on one task, as a mean over a group of languages and over seeds."""

    task: str
    kind: Kind
    group: str
    series: str
    quantization: str
    bits: float | None
    rank: int | None
    quantity: Quantity
    """``delta`` to the untouched base, paired; or the ``score`` itself."""
    value: float
    low: float
    high: float
    n: int
    n_languages: int
    n_languages_planned: int
    n_seeds: int


def curve_points(
    panel: Panel,
    configurations: Sequence[Configuration],
    bases: Mapping[str, Base],
    groups: Sequence[LanguageGroup],
) -> list[CurvePoint]:
    """Returns delta and score of every configuration over every group that it has answers in.

    The variance between seeds is pooled over the configurations.
    """
    scores = {c: _score_weights(panel, c) for c in configurations}
    deltas = {c: _delta_weights(panel, c, bases) for c in configurations}
    quantities: list[tuple[Quantity, dict[Configuration, list[Weights]]]]
    quantities = [("delta", deltas), ("score", scores)]
    spreads = spreads_over_seeds(panel, groups, configurations)
    points = []
    for quantity, weights in quantities:
        means = group_means(panel, [average_weights(weights[c]) for c in configurations], groups)
        points += [
            _point(panel, c, group, quantity, weights[c], with_seed_variance(mean, spread, w, [c]))
            for c, of_groups in zip(configurations, means, strict=True)
            for w in [average_weights(weights[c])]
            for group, spread, mean in zip(groups, spreads, of_groups, strict=True)
            if mean is not None
        ]
    order = {group.name: i for i, group in enumerate(groups)}
    return sorted(points, key=lambda p: order[p.group])


def mean_over_runs(panel: Panel, group: LanguageGroup, contrasts: Sequence[Weights]) -> Mean | None:
    """Returns the mean of several contrasts over languages; variance over items alone.

    Args:
        panel: the answers to one task.
        group: languages to average over; those that one contrast lacks are left out for all.
        contrasts: weights by run id, one per run or pair of runs.

    Returns:
        None where no language has them all.
    """
    return group_means(panel, [average_weights(contrasts)], [group])[0][0]


def spread_over_seeds(
    panel: Panel, group: LanguageGroup, configurations: Sequence[Configuration]
) -> SeedSpread:
    """Returns the variance between seeds of a task's mean over a group, pooled."""
    return spreads_over_seeds(panel, [group], configurations)[0]


def spreads_over_seeds(
    panel: Panel, groups: Sequence[LanguageGroup], configurations: Sequence[Configuration]
) -> list[SeedSpread]:
    """Returns the variance between seeds of a task's mean over each group, pooled."""
    contrasts: list[Weights] = []
    sizes = []
    for by_seed in (_score_weights(panel, c) for c in configurations):
        if len(by_seed) > 1:
            mean = average_weights(by_seed)
            contrasts += [_minus(weights, mean) for weights in by_seed]
            sizes.append(len(by_seed))
    means = group_means(panel, contrasts, groups)
    spreads = []
    for column in range(len(groups)):
        found = iter([of_groups[column] for of_groups in means])
        repeated = [[next(found) for _ in range(size)] for size in sizes]
        whole = [[m for m in of_seeds if m is not None] for of_seeds in repeated]
        kept = [m for m, of_seeds in zip(whole, repeated, strict=True) if len(m) == len(of_seeds)]
        spreads.append(seed_spread(kept))
    return spreads


def with_seed_variance(
    mean: Mean, spread: SeedSpread, weights: Weights, configurations: Sequence[Configuration]
) -> Mean:
    """Returns a contrast with the seeds' variance of its trained runs; a base has no seed."""
    trained = {run.run_id for configuration in configurations for run in configuration.runs}
    return add_seed_variance(mean, spread, [w for run, w in weights.items() if run in trained])


def _minus(weights: Weights, others: Weights) -> Weights:
    return {run: weights.get(run, 0.0) - weight for run, weight in others.items()}


def average_weights(contrasts: Sequence[Weights]) -> dict[str, float]:
    """Returns the weights of the mean of several contrasts."""
    total: dict[str, float] = {}
    for weights in contrasts:
        for run, weight in weights.items():
            total[run] = total.get(run, 0.0) + weight / len(contrasts)
    return total


def _score_weights(panel: Panel, configuration: Configuration) -> list[Weights]:
    return [{r.run_id: 1.0} for r in configuration.runs if r.run_id in panel.run_ids]


def _delta_weights(
    panel: Panel, configuration: Configuration, bases: Mapping[str, Base]
) -> list[Weights]:
    runs = [r.run_id for r in configuration.runs if r.run_id in panel.run_ids]
    return [{run: 1.0, bases[run].run_id: -1.0} for run in runs if run in bases]


def _point(
    panel: Panel,
    configuration: Configuration,
    group: LanguageGroup,
    quantity: Quantity,
    by_seed: Sequence[Weights],
    mean: Mean,
) -> CurvePoint:
    interval = mean.interval if quantity == "delta" else mean.score_interval
    return CurvePoint(
        task=panel.mode.label,
        kind=group.kind,
        group=group.name,
        series=configuration.series,
        quantization=configuration.quantization,
        bits=configuration.bits,
        rank=configuration.rank,
        quantity=quantity,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=mean.n_samples,
        n_languages=mean.n_languages,
        n_languages_planned=len(group.languages),
        n_seeds=len(by_seed),
    )

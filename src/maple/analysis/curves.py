"""Rank and bits curves: a mean over languages for every configuration, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maple.analysis.configurations import Configuration
from maple.analysis.deltas import Base
from maple.analysis.groups import Kind, LanguageGroup
from maple.analysis.means import (
    Mean,
    SeedSpread,
    add_seed_variance,
    mean_over_languages,
    seed_spread,
)
from maple.analysis.panel import Panel

Quantity = Literal["delta", "score"]
Weights = Mapping[str, float]


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
    points = []
    for group in groups:
        spread = spread_over_seeds(panel, group, configurations)
        for quantity, weights in quantities:
            found = [_point(panel, c, group, quantity, weights[c], spread) for c in configurations]
            points += [point for point in found if point is not None]
    return points


def mean_over_runs(panel: Panel, group: LanguageGroup, contrasts: Sequence[Weights]) -> Mean | None:
    """Returns the mean of several contrasts over languages; variance over items alone.

    Args:
        panel: the answers to one task.
        group: languages to average over; those that one contrast lacks are left out for all.
        contrasts: weights by run id, one per run or pair of runs.

    Returns:
        None where no language has them all.
    """
    parts = panel.contrasts(group.languages, average_weights(contrasts))
    return mean_over_languages(parts) if parts else None


def spread_over_seeds(
    panel: Panel, group: LanguageGroup, configurations: Sequence[Configuration]
) -> SeedSpread:
    """Returns the variance between seeds of a task's mean over a group, pooled."""
    deviations = []
    for configuration in configurations:
        contrasts = _score_weights(panel, configuration)
        mean = average_weights(contrasts)
        parts = [panel.contrasts(group.languages, _minus(w, mean)) for w in contrasts]
        if len(contrasts) > 1 and all(parts):
            deviations.append([mean_over_languages(p) for p in parts])
    return seed_spread(deviations)


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
    spread: SeedSpread,
) -> CurvePoint | None:
    over_items = mean_over_runs(panel, group, by_seed)
    if over_items is None:
        return None
    weights = average_weights(by_seed)
    mean = with_seed_variance(over_items, spread, weights, [configuration])
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

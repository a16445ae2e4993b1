"""Every metric that the samples carry, the headline one included: EM beside F1, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maple.analysis.answers import Answers
from maple.analysis.columns import Named
from maple.analysis.intervals import interval_from_moments


@dataclass(frozen=True, kw_only=True)
class MetricMean:
    """One metric of one run on one task in one language, in the metric's own unit."""

    task: str
    run_id: str
    language: str
    metric: str
    n: int
    mean: float
    low: float
    high: float


def metric_means(answers: Answers) -> list[MetricMean]:
    """Returns the mean of every metric over the samples of every evaluation that have it.

    A sample without the metric, or with NaN under its name, is not in ``n``.
    """
    found = [mean for named in answers.metrics for mean in _means(answers, named)]
    return sorted(found, key=lambda m: (m.run_id, m.language, m.metric))


def _means(answers: Answers, named: Named) -> Iterator[MetricMean]:
    cell, value, size = named.of(answers.evaluation), named.value, len(answers.evaluations)
    is_there = ~np.isnan(value)
    if not is_there.all():
        cell, value = cell[is_there], value[is_there]
    n = np.bincount(cell, minlength=size)
    # Rounded, because rows come in any order and a report should be the same each time.
    with np.errstate(invalid="ignore"):  # an infinite value has no variance
        mean = (np.bincount(cell, value, size) / np.maximum(n, 1)).round(12)
        squares = np.bincount(cell, (value - mean[cell]) ** 2, size)
    variance = (squares / np.maximum(n - 1, 1)).round(12)
    is_binary = np.bincount(cell[(value != 0) & (value != 1)], minlength=size) == 0
    for i in np.flatnonzero(n).tolist():
        evaluation = answers.evaluations[i]
        interval = interval_from_moments(
            float(mean[i]), float(variance[i]), int(n[i]), is_binary=bool(is_binary[i])
        )
        yield MetricMean(
            task=answers.mode.label,
            run_id=evaluation.run_id,
            language=evaluation.language,
            metric=named.name,
            n=int(n[i]),
            mean=interval.value,
            low=interval.low,
            high=interval.high,
        )

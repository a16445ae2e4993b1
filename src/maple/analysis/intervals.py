"""Intervals and tests, each a formula over a mean, a variance and a count.

    score of 0/1 samples        Wilson (1927)
    score of other samples      Wilson at the effective sample size (Dean & Pagano 2015)
    mean over languages         the same, at the mean's own variance
    difference                  Student t, one pseudo-pair of flips (Agresti & Min 2005), in -1..1

The reasons are in ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
"""Two-sided coverage that every interval aims at."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and the limits of its interval, in the value's own unit."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def wilson(mean: float, n: float, *, quantile: float | None = None) -> Interval:
    """Returns Wilson's score interval of a proportion.

    Args:
        mean: the proportion, in 0..1.
        n: samples, above 0; may be an effective (fractional) number.
        quantile: critical value; None takes the normal's.
    """
    z = float(ndtri((1 + CONFIDENCE) / 2)) if quantile is None else quantile
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2)
    # Rounding may put a limit beyond the mean (at 0 and 1), or outside 0..1.
    return Interval(mean, max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean)))


def score_interval(values: Values) -> Interval:
    """Returns the interval of the mean of scores in 0..1: see ``interval_from_moments``.

    Args:
        values: (n,) scores, n >= 1.
    """
    n = values.size
    variance = float(values.var(ddof=1)) if n > 1 else 0.0
    is_binary = bool(((values == 0) | (values == 1)).all())
    return interval_from_moments(float(values.mean()), variance, n, is_binary=is_binary)


def interval_from_moments(mean: float, variance: float, n: int, *, is_binary: bool) -> Interval:
    """Returns the interval of the mean of n samples.

    Samples that are all 0 or 1 get Wilson's interval. Others in 0..1 get Wilson's at the
    effective sample size ``n* = m (1 - m) / (s^2 / n)`` with Student's quantile, which stays
    inside 0..1. A mean outside 0..1, which a score never has, gets Student's interval.

    Args:
        mean: the samples' mean.
        variance: the samples' variance with n - 1 in the denominator; 0 for n = 1.
        n: samples, at least 1.
        is_binary: whether every sample is 0 or 1.
    """
    if not -1e-9 <= mean <= 1 + 1e-9:
        return student_interval(mean, variance / n, n - 1)
    mean = min(1.0, max(0.0, mean))
    if is_binary or n < 2 or variance == 0 or mean in (0.0, 1.0):
        return wilson(mean, n)
    return wilson(mean, mean * (1 - mean) * n / variance, quantile=student_quantile(n - 1))


def student_quantile(df: float) -> float:
    """Returns Student's two-sided critical value; degrees of freedom may be fractional."""
    return float(stdtrit(max(df, 1.0), (1 + CONFIDENCE) / 2))


def student_interval(
    value: float, variance: float, df: float, *, reach: float = math.inf
) -> Interval:
    """Returns ``value ± t sqrt(variance)``, cut off where the truth cannot be.

    Args:
        value: the estimate.
        variance: the estimate's own variance (a squared standard error).
        df: degrees of freedom of that variance.
        reach: the largest that what is estimated can be, on either side of 0: 1 of a difference
            of scores in 0..1. Cutting there loses no coverage.
    """
    half = student_quantile(df) * math.sqrt(variance)
    reach = max(reach, abs(value))
    return Interval(value, max(-reach, value - half), min(reach, value + half))


def student_p(value: float, variance: float, df: float) -> float:
    """Returns the two-sided p-value of ``value / sqrt(variance)`` against zero, in 0..1."""
    if variance <= 0:
        return 1.0 if value == 0 else 0.0
    return float(min(1.0, 2 * stdtr(max(df, 1.0), -abs(value) / math.sqrt(variance))))


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Returns the degrees of freedom of a sum of independent variance estimates."""
    total = math.fsum(variances)
    spread = math.fsum(v * v / df for v, df in zip(variances, dfs, strict=True) if df > 0)
    return total * total / spread if spread > 0 else max(dfs, default=1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p-values, in the order given; they hold the family-wise error."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for position, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - position) * p_values[i]))
        adjusted[i] = running
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Returns Benjamini and Hochberg's adjusted p-values, in the order given.

    Below 0.05 they hold the expected share of false discoveries to 5%, where tests are
    independent or positively dependent (Benjamini & Yekutieli 2001).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    adjusted, running = [0.0] * len(p_values), 1.0
    for position, i in enumerate(order):
        running = min(running, len(p_values) / (len(p_values) - position) * p_values[i])
        adjusted[i] = running
    return adjusted

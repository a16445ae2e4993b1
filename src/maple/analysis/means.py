"""Means over languages whose test items may be translations of one another.

language   item 1  item 2  item 3 ...        mean of a language: over its items
swh_Latn     y11     y12     y13             mean over languages: each language counts once
tha_Thai     y21      -      y23             variance: summed over *items*, because the same
                                             item in two languages is not two draws
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maple.analysis.intervals import (
    Interval,
    satterthwaite,
    student_interval,
    student_p,
    student_quantile,
    wilson,
)


@dataclass(frozen=True, kw_only=True)
class LanguageValues:
    """One number per test item of one language: a score, or a difference of scores."""

    language: str
    items: NDArray[np.int64]
    """(n,) number of each item; the same number in two languages is the same item."""
    values: NDArray[np.float64]
    """(n,) the item's score in 0..1, or a contrast of such scores."""

    @property
    def mean(self) -> float:
        """The mean over items."""
        return float(self.values.mean())


@dataclass(frozen=True, kw_only=True)
class Mean:
    """An unweighted mean over languages (or tasks), with what its interval needs."""

    value: float
    variance: float
    """Of the mean, items clustered over languages; at least that of one flipped sample."""
    df: float
    n_samples: int
    n_languages: int
    reach: float = 1.0
    """The largest that it can be on either side of 0, scores being in 0..1: 1 of a difference."""

    @property
    def interval(self) -> Interval:
        """Student's interval, for differences: their bounds are rarely near, and cut it off."""
        return student_interval(self.value, self.variance, self.df, reach=self.reach)

    @property
    def score_interval(self) -> Interval:
        """Wilson's interval at the effective sample size: for means of scores in 0..1."""
        value = min(1.0, max(0.0, self.value))
        if value in (0.0, 1.0):
            return wilson(value, self.n_samples)
        effective = value * (1 - value) / self.variance
        return wilson(value, effective, quantile=student_quantile(self.df))

    @property
    def p(self) -> float:
        """Two-sided p-value against zero."""
        return student_p(self.value, self.variance, self.df)


def mean_over_languages(parts: Sequence[LanguageValues]) -> Mean:
    """Returns the mean of the languages' means.

    With deviations ``d_i = sum_l (y_il - mean_l) / (L sqrt(n_l (n_l - 1)))`` the variance is
    ``sum_i d_i^2``. For one language that is ``s^2 / n``; for languages without a common item it
    is the stratified variance; for parallel items it is the variance of the items' means. One
    pseudo-pair of flipped samples is added (Agresti & Min 2005), so that a difference of which
    nothing was seen is not known exactly.

    Args:
        parts: one entry per language, each with at least one item; at least one entry.
    """
    n_languages, sizes = len(parts), [p.values.size for p in parts]
    n_samples, n_items = sum(sizes), np.unique(np.concatenate([p.items for p in parts])).size
    deviations = np.zeros(1 + max(int(p.items.max()) for p in parts))
    for part in (p for p in parts if p.values.size > 1):
        n = part.values.size
        scale = n_languages * np.sqrt(n * (n - 1))
        deviations[part.items] += (part.values - part.values.mean()) / scale
    flip = sum((1 / (n_languages * n)) ** 2 for n in sizes) / n_languages
    return Mean(
        value=float(np.mean([p.values.mean() for p in parts])),
        variance=float(deviations @ deviations) + flip,
        df=n_items * (n_samples - n_languages) / n_samples,
        n_samples=n_samples,
        n_languages=n_languages,
    )


def mean_over_tasks(means: Sequence[Mean]) -> Mean:
    """Returns the unweighted mean over tasks, whose items are independent draws.

    Args:
        means: one per task, at least one.
    """
    k = len(means)
    variances = [m.variance / k**2 for m in means]
    return Mean(
        value=sum(m.value for m in means) / k,
        variance=sum(variances),
        df=satterthwaite(variances, [m.df for m in means]),
        n_samples=sum(m.n_samples for m in means),
        n_languages=max(m.n_languages for m in means),
        reach=sum(m.reach for m in means) / k,
    )


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """How far runs that differ by their seed alone lie apart."""

    variance: float
    """Of a single run around the mean over seeds, pooled over configurations, less what items
    explain of it: below 0 where the runs happen to lie closer than their items do."""
    df: float
    """Degrees of freedom of that variance; 0 where no configuration has two seeds."""
    explained: float = 0.0
    """Variance of a single run that its answers to single items bring in, seed or not."""


def seed_spread(deviations: Sequence[Sequence[Mean]]) -> SeedSpread:
    """Returns the variance between seeds, pooled over configurations.

    Runs that differ by their seed alone disagree on single items anyway. What that explains of
    the squared deviations is their variance over items, which is taken off.

    Args:
        deviations: per configuration, each seed's deviation from the mean of its seeds.
    """
    repeated = [means for means in deviations if len(means) > 1]
    df = sum(len(means) - 1 for means in repeated)
    excess = sum(m.value**2 - m.variance for means in repeated for m in means)
    explained = sum(m.variance for means in repeated for m in means)
    return SeedSpread(
        variance=excess / df if df else 0.0,
        df=df,
        explained=explained / df if df else 0.0,
    )


def add_seed_variance(mean: Mean, spread: SeedSpread, weights: Iterable[float]) -> Mean:
    """Returns a contrast of runs with the variance that their seeds bring in added.

    With ``s²`` the scatter seen between seeds, ``v`` the part of it that single items explain and
    ``V`` the contrast's variance over items, ``V + (s² - v) Σ w²`` is unbiased, and Satterthwaite's
    degrees of freedom of ``s² Σ w²`` and ``V - v Σ w²`` say how little few seeds tell. It may come
    out below ``V`` by chance. So the wider of its interval and of the items' own is taken.

    Args:
        mean: the contrast, its variance over items alone.
        spread: between the seeds; of a study with a single seed it is unknown and left out.
        weights: of each trained run in the contrast: k seeds averaged weigh ``1 / k`` each.
    """
    squares = sum(weight**2 for weight in weights)
    if spread.df == 0 or squares == 0:
        return mean
    scatter = (spread.variance + spread.explained) * squares
    rest = mean.variance - spread.explained * squares
    total = mean.variance + spread.variance * squares
    doubt = scatter**2 / spread.df + rest**2 / max(mean.df, 1.0)
    if total <= 0 or doubt <= 0:
        return mean
    wider = dataclasses.replace(mean, variance=total, df=total**2 / doubt)
    return max(mean, wider, key=lambda m: student_quantile(m.df) * m.variance**0.5)

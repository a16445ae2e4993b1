"""Many runs on the same test items at once: their means and how these vary together.

              item 1   item 2   item 3          values      (runs,)  mean over tasks and languages
    run a      1.0      0.0      1.0            covariance  (runs, runs), over items, so that
    run b      1.0      0.0      0.0            differences are paired by themselves

A contrast ``w`` has the mean ``w'v`` and the variance ``w'Cw``. Statements that shall hold together
need the whole matrix, so here it is kept; ``run_means`` has the parts it is made of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from maple.analysis.intervals import satterthwaite
from maple.analysis.panel import Panel
from maple.analysis.run_means import run_means

Matrix = NDArray[np.float64]
DRAWS = 10_000
"""Of a quantile by simulation: a 95% one is met within 0.4 points of probability."""
_SEED = 20250101


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Means of several runs over the items that all of them answered."""

    runs: tuple[str, ...]
    values: Matrix
    """(runs,) mean score, each task and in it each language counting once."""
    covariance: Matrix
    """(runs, runs) over test items."""
    flip: float
    """Variance of one pseudo-pair of flips; what every difference has besides."""
    df: float
    n_samples: int
    """Shared samples, summed over tasks and languages."""


def joint_means(cells: Sequence[tuple[Panel, Sequence[str]]], runs: Sequence[str]) -> Joint:
    """Returns the joint means of runs over tasks, in each over its languages.

    Args:
        cells: each task's panel with the languages to average; every run has answers to common
            items in every one of them.
        runs: run ids.
    """
    parts = [
        means
        for panel, languages in cells
        if (means := run_means(panel, dict.fromkeys(languages, 1 / len(languages)), runs))
    ]
    k = len(parts)
    covariances = [p.deviations @ p.deviations.T / k**2 for p in parts]
    spread = [float(np.trace(c)) for c in covariances]
    return Joint(
        runs=tuple(runs),
        values=np.mean([p.values for p in parts], axis=0),
        covariance=np.sum(covariances, axis=0),
        flip=sum(p.flip for p in parts) / k**2,
        df=satterthwaite(spread, [p.df for p in parts]) if sum(spread) else parts[0].df,
        n_samples=sum(p.n_samples for p in parts),
    )


def shared_items(panel: Panel, language: str, runs: Sequence[str]) -> NDArray[np.bool_]:
    """Returns which items of a language all of the runs answered."""
    rows = [panel.run_ids.index(run) for run in runs]
    return np.asarray(~np.isnan(panel.scores[language][rows]).any(axis=0), bool)


# --------------------------------------------------------------------------------- seeds


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """How far runs that differ by their seed alone lie apart, in the joint mean."""

    variance: float
    """Of one run around its configuration's mean, less what items explain of it."""
    explained: float
    """Variance of one run that its answers to single items bring in, seed or not."""
    df: int
    """0 where no configuration has two seeds; the variance is then an assumption."""


def seed_variance(joint: Joint, groups: Sequence[Sequence[str]], *, assumed: float) -> Seeds:
    """Returns the variance between seeds, pooled over configurations.

    For seeds ``s`` of one configuration with joint mean ``v`` and covariance ``C``, the sum of
    squares ``v'Pv`` (``P`` centres) has the expectation ``tr(PC) + (k - 1) sigma^2``.

    Args:
        joint: the means of all the runs.
        groups: run ids of each configuration.
        assumed: standard deviation where no group has two runs.
    """
    squares = explained = 0.0
    df = 0
    for group in groups:
        rows = [joint.runs.index(run) for run in group]
        centre = np.eye(len(rows)) - 1 / len(rows)
        values, covariance = joint.values[rows], joint.covariance[np.ix_(rows, rows)]
        squares += float(values @ centre @ values)
        explained += float(np.trace(centre @ covariance))
        df += len(rows) - 1
    if df == 0:
        return Seeds(variance=assumed**2, explained=0.0, df=0)
    return Seeds(variance=max(0.0, (squares - explained) / df), explained=explained / df, df=df)


@dataclass(frozen=True, kw_only=True, eq=False)
class Configured:
    """Joint means of configurations, each the mean of its seeds; untouched bases among them."""

    names: tuple[str, ...]
    values: Matrix
    covariance: Matrix
    """(names, names) over items, seeds and the pseudo-pair."""
    seed_weight: Matrix
    """(names,) share of the seeds' variance that a name has: 1 / seeds, 0 for a base."""
    seeds: Seeds
    df: float
    n_samples: int

    @cached_property
    def errors_drawn(self) -> Matrix:
        """(draws, names) errors of the means as their covariance has them; the same every time."""
        values, vectors = np.linalg.eigh(self.covariance)
        normal = np.random.default_rng(_SEED).standard_normal((DRAWS, len(values)))
        return np.asarray(normal @ (vectors * np.sqrt(np.maximum(values, 0))).T)

    def contrast(self, weights: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Returns estimates, covariance and degrees of freedom of contrasts.

        Args:
            weights: (contrasts, names).
        """
        covariance = weights @ self.covariance @ weights.T
        total = np.diag(covariance)
        share = (weights**2) @ self.seed_weight
        over_items = total - share * self.seeds.variance
        doubt = over_items**2 / self.df
        if self.seeds.df:
            # As in ``add_seed_variance``: the scatter is known from few runs, whatever its excess
            # over the items' part came out as.
            scatter = share * (self.seeds.variance + self.seeds.explained)
            rest = over_items - share * self.seeds.explained
            doubt = scatter**2 / self.seeds.df + rest**2 / self.df
        df = np.full(len(total), self.df)
        np.divide(total**2, doubt, out=df, where=doubt > 0)
        return weights @ self.values, covariance, np.maximum(df, 1.0)

    def subset(self, names: Sequence[str]) -> Configured:
        """Returns the same means of some of the names."""
        rows = [self.names.index(name) for name in names]
        return dataclasses.replace(
            self,
            names=tuple(names),
            values=self.values[rows],
            covariance=self.covariance[np.ix_(rows, rows)],
            seed_weight=self.seed_weight[rows],
        )

    def as_scored(self) -> Configured:
        """Returns the means without a spread between seeds that was only assumed."""
        if self.seeds.df:
            return self
        assumed = np.diag(self.seed_weight * self.seeds.variance)
        return dataclasses.replace(
            self,
            covariance=self.covariance - assumed,
            seeds=dataclasses.replace(self.seeds, variance=0.0),
        )

    def difference(self, name: str, others: Sequence[str]) -> Matrix:
        """Returns the weights of ``other - name`` for each of the others."""
        weights = np.zeros((len(others), len(self.names)))
        for row, other in enumerate(others):
            weights[row, self.names.index(other)] += 1
            weights[row, self.names.index(name)] -= 1
        return weights


def configure(joint: Joint, members: Mapping[str, Sequence[str]], seeds: Seeds) -> Configured:
    """Returns the means of configurations over their seeds.

    Args:
        joint: of all the runs.
        members: name -> run ids; a name that is its own only run id is an untouched base.
        seeds: the variance between seeds.
    """
    weights = np.zeros((len(members), len(joint.runs)))
    for row, runs in enumerate(members.values()):
        for run in runs:
            weights[row, joint.runs.index(run)] = 1 / len(runs)
    share = np.array([0.0 if tuple(m) == (n,) else 1 / len(m) for n, m in members.items()])
    # Half of the pseudo-pair each, so that a difference has one.
    diagonal = joint.flip / 2 + seeds.variance * share
    return Configured(
        names=tuple(members),
        values=weights @ joint.values,
        covariance=weights @ joint.covariance @ weights.T + np.diag(diagonal),
        seed_weight=share,
        seeds=seeds,
        df=joint.df,
        n_samples=joint.n_samples,
    )


# ------------------------------------------------------------------------- simultaneous limits


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Several contrasts stated at once: any limit of them fails with the family's error."""

    estimates: Matrix
    errors: Matrix
    """Standard errors."""
    one_sided: float
    """Critical value of the largest ``t`` of the family."""
    two_sided: float
    """Critical value of the largest ``|t|``."""
    p: Matrix
    """Adjusted, one-sided: that a contrast is above 0."""

    @property
    def at_least(self) -> Matrix:
        """Lower limits, one-sided, simultaneous."""
        return self.estimates - self.one_sided * self.errors

    @property
    def at_most(self) -> Matrix:
        """Upper limits, one-sided, simultaneous."""
        return self.estimates + self.one_sided * self.errors

    @property
    def low(self) -> Matrix:
        """Lower limits of two-sided simultaneous intervals."""
        return self.estimates - self.two_sided * self.errors

    @property
    def high(self) -> Matrix:
        """Upper limits of two-sided simultaneous intervals."""
        return self.estimates + self.two_sided * self.errors


def simultaneous(configured: Configured, weights: Matrix, confidence: float) -> Family:
    """Returns contrasts with limits that hold together, by simulating their multivariate t.

    Source: Dunnett (1955) for several contrasts with one control; Edwards & Hsu (1983) for
    quantiles at any covariance. The draws are the same every time.

    Args:
        configured: the means.
        weights: (contrasts, names), at least one contrast.
        confidence: of all limits together, each side.
    """
    estimates, covariance, df = configured.contrast(weights)
    errors = np.sqrt(np.maximum(np.diag(covariance), 1e-18))
    least = float(df.min())
    scale = np.sqrt(np.random.default_rng(_SEED + 1).chisquare(least, DRAWS) / least)
    t = configured.errors_drawn @ weights.T / errors / scale[:, None]
    largest = np.sort(t.max(axis=1))
    # How many draws are at least as large, and one: a p of 0 cannot be drawn.
    above = DRAWS - np.searchsorted(largest, estimates / errors)
    return Family(
        estimates=estimates,
        errors=errors,
        one_sided=float(np.quantile(largest, confidence)),
        two_sided=float(np.quantile(np.abs(t).max(axis=1), confidence)),
        p=(above + 1) / (DRAWS + 1),
    )


@dataclass(frozen=True, kw_only=True)
class AgainstBest:
    """One name against the best of the others."""

    behind: float
    """Estimate of how far it is behind the best, at least 0."""
    behind_at_most: float
    """The upper limit: with the confidence asked for, no other is better by more."""
    is_tied: bool
    """Whether it cannot be told from the best."""


def against_best(configured: Configured, confidence: float) -> dict[str, AgainstBest]:
    """Returns every name's multiple comparison with the best.

    A name is out where some other is better by more than their simultaneous limit allows for; the
    truly best one is kept with the confidence asked for (Hsu 1984, Annals of Statistics 12).

    Args:
        configured: the means, of at least one name.
        confidence: that the best is among those that are kept.
    """
    found = {}
    for name in configured.names:
        others = [other for other in configured.names if other != name]
        if not others:
            found[name] = AgainstBest(behind=0.0, behind_at_most=0.0, is_tied=True)
            continue
        ahead = simultaneous(configured, configured.difference(name, others), confidence)
        found[name] = AgainstBest(
            behind=max(0.0, float(ahead.estimates.max())),
            behind_at_most=max(0.0, float(ahead.at_most.max())),
            is_tied=bool((ahead.at_least <= 0).all()),
        )
    return found


def probability_within(configured: Configured, name: str, margin: float) -> float:
    """Returns how probable it is that no other name is better by more than a margin.

    A flat prior over the means: the share of draws from their estimates' joint distribution.
    """
    means = configured.values + configured.errors_drawn
    behind = means.max(axis=1) - means[:, configured.names.index(name)]
    return float((behind <= margin).mean())

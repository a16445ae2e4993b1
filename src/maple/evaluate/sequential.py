"""Group-sequential boundaries by numerical integration, and estimates that know of the looks.

A difference is looked at after shares ``t_1 < ... < t_K = 1`` of its samples. ``Z_k`` is its
z-value at look k, and under a drift ``d`` the sums ``S_k = Z_k sqrt(t_k)`` have independent
increments ``N(d (t_k - t_{k-1}), t_k - t_{k-1})`` (Jennison & Turnbull 2000, chapter 3)::

    S                        ___ upper bound: stop, the difference is above 0
    |          .    ___-----'
    |    ___.-----''   .
    |---'--------------------------- t      density of S inside the bounds: by Gauss-Legendre
    |   '---------___                       quadrature from one look to the next
    |                `-----___              (Armitage, McPherson & Rowe 1969)
                              '--- lower bound

Bounds spend the error by Lan & DeMets (1983) with their function like O'Brien & Fleming's (1979);
on each side ``2 - 2 Phi(z / sqrt(t))`` with ``z`` the normal's upper quantile of a quarter of the
two-sided error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri_exp

Values = NDArray[np.float64]

_NODES = 128
_WIDEST = 10.0
"""No bound is further out: beyond it lies a probability of 1e-23."""


def spent(alpha: float, share: float) -> float:
    """Two-sided error that may have been spent when a share of the samples is in.

    Args:
        alpha: spent in the end, above 0.
        share: of the samples, in 0..1.
    """
    z = -float(ndtri_exp(math.log(alpha / 4)))
    return 4 * float(ndtr(-z / math.sqrt(share)))


def boundary(alpha: float, shares: Sequence[float]) -> tuple[float, ...]:
    """The z-values at which to stop, two-sided and symmetric.

    Args:
        alpha: error that all looks together spend, both sides counted.
        shares: of the samples at each look, rising to 1.

    Returns:
        One bound per look, at most ``_WIDEST``.
    """
    bounds: list[float] = []
    before, inside = 0.0, _START
    for share in shares:
        side = (spent(alpha, share) - before) / 2
        before = spent(alpha, share)
        bounds.append(_bound(inside, share, side))
        inside = inside.cut(bounds[-1], share)
    return tuple(bounds)


def crossing(bounds: Sequence[float], shares: Sequence[float], drift: float) -> tuple[float, ...]:
    """The probability of stopping above the upper bound at each look.

    Args:
        bounds: z-values, one per look; the lower bounds are their negatives.
        shares: of the samples at each look.
        drift: mean of the z-value when all samples are in.
    """
    before = _before(tuple(bounds[:-1]), tuple(shares[:-1]))
    looks = zip(before, bounds, shares, strict=True)
    return tuple(inside.above(bound, share, drift) for inside, bound, share in looks)


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """A difference estimated with regard to the looks: Tsiatis, Rosner & Mehta (1984)."""

    value: float
    """Median-unbiased: as likely too high as too low."""
    low: float
    high: float


def adjusted(
    z: float, error: float, *, bounds: Sequence[float], shares: Sequence[float], alpha: float
) -> Adjusted:
    """The estimate after stopping at the last of some looks, by the order of stages.

    An end at an earlier look, above the bound, counts as more than any end at a later one; the
    confidence limits and the estimate are the drifts under which an end at least so high has the
    probabilities alpha / 2, 1/2 and 1 - alpha / 2. A stop for futility does not enter the order,
    which is exact where no such stop is asked for.

    Args:
        z: the z-value at the look that ended it.
        error: the difference's standard error there.
        bounds: of the looks before that one.
        shares: of the looks up to that one.
        alpha: 1 - the interval's confidence.
    """
    scale = error * math.sqrt(shares[-1])
    ends, at = (*bounds, z), tuple(shares)

    def tail(drift: float) -> float:
        return sum(crossing(ends, at, drift))

    naive = z / math.sqrt(shares[-1])
    return Adjusted(
        value=scale * _solve(tail, 0.5, naive),
        low=scale * _solve(tail, alpha / 2, naive),
        high=scale * _solve(tail, 1 - alpha / 2, naive),
    )


def p_value(z: float, *, bounds: Sequence[float], shares: Sequence[float]) -> float:
    """The two-sided p of no difference, by the order of stages.

    Args:
        z: the z-value at the look that ended it.
        bounds: of the looks before that one.
        shares: of the looks up to that one.
    """
    return min(1.0, 2 * sum(crossing((*bounds, abs(z)), shares, 0.0)))


def z_value(differences: Values, *, against: float = 0.0) -> tuple[float, float]:
    """The z-value of paired differences against a mean, and their mean's standard error under it.

    For scores that are right or wrong, McNemar's statistic, and against another mean than 0 Tango's
    (1998), both with Edwards' correction for continuity. The error is the hypothesis's, not that of
    the differences about their own mean: with few samples that differ, all of one sign, the latter
    is next to nothing, and Student's quantile makes up for that at 5% but not at a grid's errors.

    Args:
        differences: (n,) one per shared sample, each in -1..1.
        against: the mean under the hypothesis, in -1..1.

    Returns:
        z, nearer to 0 than the difference of means over the error by the correction; the error.
    """
    n = differences.size
    error = math.sqrt(max(1.0, n * _variance(differences, against))) / n
    far = float(differences.mean()) - against
    return math.copysign(max(0.0, abs(far) - 1 / n), far) / error, error


def _variance(differences: Values, mean: float) -> float:
    """The variance of a difference of -1, 0 or 1, by maximum likelihood among those of a mean.

    A mean of ``d`` takes at least a share ``abs(d)`` of samples that differ, so that samples
    without a difference do not exclude it. Other differences count as far as their squares do.
    """
    if mean < 0:
        return _variance(-differences, -mean)
    n, total, squares = differences.size, float(differences.sum()), float((differences**2).sum())
    rises, falls = max(0.0, squares + total) / 2, max(0.0, squares - total) / 2
    b = (2 * n - rises + falls) * mean - rises - falls
    root = math.sqrt(b * b + 8 * n * falls * mean * max(0.0, 1 - mean))
    return 2 * (root - b) / (4 * n) + mean - mean * mean


def repeated_interval(differences: Values, bound: float) -> tuple[float, float]:
    """A repeated confidence interval: the means that a look's bound does not refuse.

    The intervals of all looks hold the true difference together with probability 1 - alpha,
    whatever ends the looking (Jennison & Turnbull 1989).

    Args:
        differences: (n,) one per shared sample, each in -1..1.
        bound: the look's, on abs(z).

    Returns:
        Limits in -1..1.
    """
    mean = float(differences.mean())

    def excess(against: float) -> float:
        return abs(z_value(differences, against=against)[0]) - bound

    low, high = (
        edge if excess(edge) <= 0 else float(brentq(excess, mean, edge, xtol=1e-9))
        for edge in (-1.0, 1.0)
    )
    return low, high


@dataclass(frozen=True)
class _Inside:
    """The density of the sums without drift inside the bounds of the looks so far."""

    at: Values
    mass: Values
    share: float

    def above(self, z: float, share: float, drift: float = 0.0) -> float:
        """The probability of having stayed inside so far and being above ``z`` at a later look.

        A drift multiplies the density by what depends on the sum and the share alone, so the
        integral up to here serves all drifts.
        """
        step = share - self.share
        tilt = np.exp(drift * self.at - drift * drift * self.share / 2)
        ahead = (self.at + drift * step - z * math.sqrt(share)) / math.sqrt(step)
        return float((self.mass * tilt) @ ndtr(ahead))

    def cut(self, bound: float, share: float) -> _Inside:
        """Goes on to a look and takes out what is beyond its bounds."""
        edge, step = bound * math.sqrt(share), share - self.share
        nodes, weights = _quadrature()
        at = edge * nodes
        far = (at[:, None] - self.at[None, :]) / math.sqrt(step)
        density = np.exp(-0.5 * far**2) / math.sqrt(2 * math.pi * step)
        return _Inside(at, edge * weights * (density @ self.mass), share)


_START = _Inside(np.zeros(1), np.ones(1), 0.0)


@lru_cache(maxsize=256)
def _before(bounds: tuple[float, ...], shares: tuple[float, ...]) -> tuple[_Inside, ...]:
    """What is inside before each look: one more than there are bounds."""
    found = [_START]
    for bound, share in zip(bounds, shares, strict=True):
        found.append(found[-1].cut(bound, share))
    return tuple(found)


def _bound(inside: _Inside, share: float, side: float) -> float:
    if side <= 0 or inside.above(_WIDEST, share) >= side:
        return _WIDEST
    return float(brentq(lambda z: inside.above(z, share) - side, 0.0, _WIDEST, xtol=1e-10))


@cache
def _quadrature() -> tuple[Values, Values]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _solve(tail: Callable[[float], float], level: float, start: float) -> float:
    """The drift at which a rising probability has a level."""
    width = 2.0 + _WIDEST
    low, high = start - width, start + width
    while tail(low) > level and start - low < 200:
        low -= width
    while tail(high) < level and high - start < 200:
        high += width
    return float(brentq(lambda drift: tail(drift) - level, low, high, xtol=1e-9))

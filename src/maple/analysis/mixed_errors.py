"""Fixed effects of a mixed model, with errors that are robust in two directions.

With ``V`` from the variance components, ``b = (X'V⁻¹X)⁻¹ X'V⁻¹y`` and residuals ``r = y - X b``,
an effect is ``p'y`` with ``p`` a column of ``V⁻¹X (X'V⁻¹X)⁻¹``, and its variance is

    Σ_runs (p'r)² + Σ_languages (p'r)² - what both count             each p'r inside the cluster

after Cameron, Gelbach & Miller (2011): rows of one run share its seed and its items, rows of one
language share that language's own slopes. Residuals are less than errors, and an effect of a
class rests on the languages of that class alone. So each sum over clusters is scaled to what it
should be, and has the degrees of freedom that it has, both where errors are alike and independent
(Bell & McCaffrey 2002).

Both count the errors of single cells, a run in a language. Those are not ``Σ_(run, language)
(p'r)²``: a residual holds its language's intercept and slope and its run's seed too, which cancel
in one of the sums or in both. They are taken from ``V⁻¹r``, the residual without the intercepts,
less the languages' slopes. In a balanced table this comes to Clark's (1973) quasi-F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Values = NDArray[np.float64]
Labels = NDArray[np.int64]
_LARGE = 1e8
"""Stands for an infinite ratio: a random intercept so wide that it is a fixed one."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One fixed effect."""

    value: float
    variance: float
    df: float


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Estimates of the fixed effects."""

    effects: dict[int, Effect]
    """By column of the design; columns that follow from the others are not there."""
    scale: float
    """Variance of the residuals within the random intercepts."""


def robust_effects(
    score: Values,
    design: Values,
    random: Sequence[tuple[Labels, float]],
    clusters: tuple[Labels, Labels],
) -> Fixed:
    """Returns generalised least squares with two-way robust variances.

    Args:
        score: (rows,).
        design: (rows, effects), an intercept first.
        random: per random intercept its levels by row, and its variance over the rest's.
        clusters: two labels by row, each from 0.
    """
    inverse = _Inverse(score.size, random)
    whitened = inverse.times(design)
    columns = _independent(design, whitened)
    x, a = design[:, columns], whitened[:, columns]
    weights = a @ np.linalg.inv(x.T @ a)
    values = weights.T @ score
    residual = score - x @ values
    within = inverse.times(residual[:, None])[:, 0]
    # An intercept that is free to be anything takes a parameter for each of its levels.
    taken = len(columns) + sum(int(c.max()) + 1 for c, ratio in random if ratio == math.inf)
    scale = float(residual @ within) / max(1, score.size - taken)
    effects = {}
    for column, value, p in zip(columns, values, weights.T, strict=True):
        one, two = (_over_clusters(p, residual, x, weights, labels) for labels in clusters)
        both = _in_cells(p, within, scale, clusters, two[0])
        # Below either of the two the sum is not a variance of anything: it happens by chance.
        variance = max(one[0] + two[0] - both, one[0], two[0])
        doubt = one[0] ** 2 / one[1] + two[0] ** 2 / two[1]
        df = variance**2 / doubt if doubt > 0 else 1.0
        effects[column] = Effect(
            value=float(value), variance=variance, df=max(df, min(one[1], two[1]))
        )
    return Fixed(effects=effects, scale=scale)


def _over_clusters(
    p: Values, residual: Values, design: Values, weights: Values, labels: Labels
) -> tuple[float, float]:
    """Returns the variance of ``p'y`` summed over clusters, and its degrees of freedom.

    ``p'r`` of cluster g is ``q_g'y`` with ``q_g = (I - H)'p_g``. Of independent errors alike the
    sum of squares has the mean ``Σ |q_g|²``, where that of errors has ``Σ |p_g|²``, and, with
    ``Γ_gh = q_g'q_h``, the degrees of freedom ``(tr Γ)² / Σ Γ²``.
    """
    n = int(labels.max()) + 1
    own = np.bincount(labels, p * p, minlength=n)
    # With k effects: H'p_g is weights @ (X'p_g), so Γ needs products of k columns alone.
    design_p, weights_p = (_sums(m * p[:, None], labels, n) for m in (design, weights))
    cross = weights_p @ design_p.T
    gamma = np.diag(own) - cross - cross.T + design_p @ (weights.T @ weights) @ design_p.T
    trace = float(np.trace(gamma))
    if trace <= 0:
        return 0.0, 1.0
    seen = float((np.bincount(labels, p * residual, minlength=n) ** 2).sum())
    return seen * float(own.sum()) / trace, max(1.0, trace**2 / float((gamma**2).sum()))


def _in_cells(
    p: Values, within: Values, scale: float, clusters: tuple[Labels, Labels], of_second: float
) -> float:
    """Returns what errors of single cells add to the variance of ``p'y``: both sums count it.

    Of errors that follow ``p`` inside a cluster of the second label, such as a language's own
    slope, the cells see ``Σ_cells |p|⁴`` where the clusters see ``Σ_clusters |p|⁴``: that share of
    the second sum, which counts the cells themselves as well, is taken off.

    Args:
        p: (rows,) weights of the effect.
        within: (rows,) ``V⁻¹r``.
        scale: variance of the errors that ``within`` are the residuals of.
        clusters: two labels by row, each from 0.
        of_second: the sum over clusters of the second label.
    """
    first, second = clusters
    cells = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)[1]
    squares = float(within @ within)
    if squares <= 0:
        return 0.0
    # Intercepts have taken a part of the errors with them.
    lost = within.size * scale / squares
    seen = lost * float((np.bincount(cells, p * within) ** 2).sum())
    of_cells, of_clusters = (
        float((np.bincount(labels, p * p) ** 2).sum()) for labels in (cells, second)
    )
    share = lost * of_cells / of_clusters
    return max(0.0, (seen - share * of_second) / (1 - share)) if share < 1 else 0.0


def _sums(values: Values, labels: Labels, n: int) -> Values:
    return np.stack([np.bincount(labels, column, minlength=n) for column in values.T], axis=1)


class _Inverse:
    """``V⁻¹`` times a matrix, for ``V = I + Σ ratio Z Z'`` (Woodbury)."""

    def __init__(self, n: int, random: Sequence[tuple[Labels, float]]) -> None:
        blocks, ratios = [], []
        for labels, ratio in random:
            size = int(labels.max()) + 1
            ones = np.ones(n)
            blocks.append(sparse.csr_matrix((ones, (np.arange(n), labels)), shape=(n, size)))
            ratios += [min(ratio, _LARGE)] * size
        self._z = sparse.hstack(blocks).tocsr()
        inner = (self._z.T @ self._z).toarray() + np.diag(1 / np.array(ratios))
        self._inner = np.linalg.inv(inner)

    def times(self, matrix: Values) -> Values:
        """Returns ``V⁻¹ matrix``."""
        return np.asarray(matrix - self._z @ (self._inner @ (self._z.T @ matrix)))


def _independent(design: Values, whitened: Values) -> list[int]:
    """The columns that are no combination of those before them, nor of wide intercepts."""
    kept: list[int] = []
    gram = design.T @ whitened
    size = np.einsum("ij,ij->j", design, design)
    for column in range(design.shape[1]):
        left = gram[column, column]
        if kept:
            cross = gram[kept, column]
            left -= cross @ np.linalg.solve(gram[np.ix_(kept, kept)], cross)
        if left > 1e-6 * size[column]:
            kept.append(column)
    return kept

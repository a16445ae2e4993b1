"""Which runs cannot be told apart: every pair compared, letters over the pairs.

A contender is a configuration: runs that differ by their seed alone are averaged, and the scatter
between seeds counts as chance. Bases are contenders too. Of contenders that have every item, all
pairs come from one product: the variance of a difference is ``|T_i|^2 + |T_j|^2 - 2 T_i . T_j``,
with ``T`` the centred answers summed over languages (``contrasts``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from maple.analysis.configurations import Configuration
from maple.analysis.contrasts import (
    Weights,
    centre,
    distinct_items,
    group_means,
    summed,
)
from maple.analysis.groups import LanguageGroup
from maple.analysis.intervals import benjamini_hochberg, holm, student_interval
from maple.analysis.letters import letters
from maple.analysis.means import Mean, SeedSpread, add_seed_variance, mean_over_tasks, seed_spread
from maple.analysis.panel import Panel
from maple.analysis.power import minimum_detectable
from maple.store.read import StoredRun

Asked = tuple[Panel, LanguageGroup]
Floats = NDArray[np.float64]
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Tie:
    """Where one run stands in one group of languages, and whom it cannot be told from."""

    task: str
    group: str
    run_id: str
    place: int
    """From 1, by the mean score of its configuration."""
    letters: str
    """Two runs that share a letter cannot be told apart; ``a`` is the best's."""
    is_tied_with_best: bool
    n_seeds: int
    """Runs of its configuration, averaged."""
    score: float
    """Mean of the configuration, over languages and seeds."""
    difference: float
    """Of its configuration from the best one, with the limits of its 95% interval."""
    low: float
    high: float
    p_holm: float
    """Of that difference, adjusted over all pairs of the group."""
    p_bh: float
    minimum_detectable: float | None
    """The smallest difference from the best found four times in five; None of the best itself."""
    n_languages: int
    """Languages compared in; a run without all of them is compared with none."""


@dataclass(frozen=True)
class _Pairs:
    """Every pair of contenders: (k, k) matrices, row minus column."""

    score: Floats
    value: Floats
    variance: Floats
    df: Floats


def contenders(
    runs: Sequence[StoredRun], configurations: Sequence[Configuration]
) -> list[tuple[str, ...]]:
    """Returns the run ids of every contender: each base, each configuration."""
    bases = [(run.run_id,) for run in runs if run.cell.is_base]
    return bases + [tuple(run.run_id for run in c.runs) for c in configurations]


def tied_runs(
    task: str,
    asked: Sequence[Asked],
    field: Sequence[tuple[str, ...]],
    untouched: Collection[str] = (),
) -> list[Tie]:
    """Returns where every run stands that has every language of every task.

    Args:
        task: what to call it.
        asked: one task and group of languages, or several tasks to average over.
        field: run ids of each contender; runs without answers are left out of it.
        untouched: run ids of bases, which have no seed.
    """
    asked = [(panel, group) for panel, group in asked if _n_scored(panel, group)]
    n_languages = max((_n_scored(p, g) for p, g in asked), default=0)
    answered = {run for panel, _ in asked for run in panel.run_ids}
    field = [tuple(run for run in runs if run in answered) for runs in field]
    kept = [present for runs in field if runs and (present := _present(asked, runs))]
    if len(kept) < 2 or not asked:
        return []
    weights: list[Weights] = [dict.fromkeys(runs, 1 / len(runs)) for runs in kept]
    by_task = [_pairs(panel, group, weights) for panel, group in asked]
    pairs = _over_tasks(by_task)
    pairs = _with_seeds(pairs, _spread(asked, kept), kept, {*untouched})
    order = np.argsort(-pairs.score, kind="stable")
    square = np.ix_(order, order)
    pairs = _Pairs(
        pairs.score[order], pairs.value[square], pairs.variance[square], pairs.df[square]
    )
    upper = np.triu_indices(len(kept), 1)
    p_value = _p(pairs)[upper].tolist()
    p_holm, p_bh = (_square(f(p_value), len(kept)) for f in (holm, benjamini_hochberg))
    names = letters(p_holm < ALPHA)
    rows = []
    for place, i in enumerate(order.tolist()):
        limits = _from_best(pairs, place)
        rows += [
            Tie(
                task=task,
                group=asked[0][1].name,
                run_id=run,
                place=place + 1,
                letters=names[place],
                is_tied_with_best=bool(p_holm[0, place] >= ALPHA),
                n_seeds=len(kept[i]),
                score=float(pairs.score[place]),
                difference=float(pairs.value[place, 0]),
                low=limits[0],
                high=limits[1],
                p_holm=float(p_holm[0, place]),
                p_bh=float(p_bh[0, place]),
                minimum_detectable=limits[2],
                n_languages=n_languages,
            )
            for run in kept[i]
        ]
    return rows


def _from_best(pairs: _Pairs, place: int) -> tuple[float, float, float | None]:
    """Limits of the difference from the best, and what would have been found."""
    if place == 0:
        return 0.0, 0.0, None
    value, variance = float(pairs.value[place, 0]), float(pairs.variance[place, 0])
    df = float(pairs.df[place, 0])
    limits = student_interval(value, variance, df, reach=1.0)
    return limits.low, limits.high, minimum_detectable(variance**0.5, df)


def _n_scored(panel: Panel, group: LanguageGroup) -> int:
    return sum(code in panel.scores for code in group.languages)


def _present(asked: Sequence[Asked], runs: Sequence[str]) -> tuple[str, ...]:
    """The runs that have every language of every task that any run has."""
    found = list(runs)
    for panel, group in asked:
        n = _n_scored(panel, group)
        found = [r for r in found if len(panel.answered(group.languages, [r])) == n]
    shared = (panel.answered(g.languages, found) for panel, g in asked)
    is_shared = all(len(s) == _n_scored(*a) for s, a in zip(shared, asked, strict=True))
    return tuple(found) if is_shared else ()


def _pairs(panel: Panel, group: LanguageGroup, weights: Sequence[Weights]) -> _Pairs:
    centred = centre(panel, weights, group.languages)
    parts = [centred[code] for code in group.languages if code in centred]
    k = len(parts)
    score = np.sum([part.mean for part in parts], axis=0) / k
    total = summed(parts)
    product = total @ total.T
    norms = np.diag(product)
    sizes = np.array([part.items.size for part in parts])
    flip = float((1 / (k * sizes) ** 2).sum()) / k
    variance = np.maximum(norms[:, None] + norms[None, :] - 2 * product, 0) / k**2 + flip
    df = distinct_items(parts).size * (sizes.sum() - k) / sizes.sum()
    pairs = _Pairs(score, score[:, None] - score[None, :], variance, np.full_like(variance, df))
    is_whole = np.all([part.n == part.items.size for part in parts], axis=0)
    for i in np.flatnonzero(~is_whole).tolist():
        _fill(pairs, i, panel, group, weights)
    return pairs


def _fill(
    pairs: _Pairs, i: int, panel: Panel, group: LanguageGroup, weights: Sequence[Weights]
) -> None:
    """Takes the pairs of a contender that lacks items from the items that both have."""
    contrasts = [minus(weights[i], other) for other in weights]
    for j, (mean,) in enumerate(group_means(panel, contrasts, [group])):
        if j == i:
            continue
        # Without a common item nothing can be said: infinitely uncertain, so never told apart.
        value, variance, df = (mean.value, mean.variance, mean.df) if mean else (0.0, np.inf, 1.0)
        pairs.value[i, j], pairs.value[j, i] = value, -value
        pairs.variance[i, j] = pairs.variance[j, i] = variance
        pairs.df[i, j] = pairs.df[j, i] = df


def minus(weights: Weights, others: Weights) -> Weights:
    """Returns the contrast of two weighted means of runs."""
    return {r: weights.get(r, 0.0) - others.get(r, 0.0) for r in {**weights, **others}}


def _over_tasks(by_task: Sequence[_Pairs]) -> _Pairs:
    """The mean over tasks, whose items are independent draws; Satterthwaite's df."""
    k = len(by_task)
    variances = [p.variance / k**2 for p in by_task]
    total = np.sum(variances, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sum([v**2 / p.df for v, p in zip(variances, by_task, strict=True)], axis=0)
        df = np.where(np.isfinite(total) & (spread > 0), total**2 / spread, 1.0)
    return _Pairs(
        np.mean([p.score for p in by_task], axis=0),
        np.mean([p.value for p in by_task], axis=0),
        total,
        df if k > 1 else by_task[0].df,
    )


def _spread(asked: Sequence[Asked], field: Sequence[Sequence[str]]) -> SeedSpread:
    """The scatter between seeds of the mean over tasks and languages, pooled."""
    repeated = [runs for runs in field if len(runs) > 1]
    contrasts = [
        minus({run: 1.0}, dict.fromkeys(runs, 1 / len(runs))) for runs in repeated for run in runs
    ]
    by_task = [[of[0] for of in group_means(p, contrasts, [g])] for p, g in asked]
    means = iter(zip(*by_task, strict=True))
    found: list[list[Mean]] = []
    for runs in repeated:
        of_runs = [next(means) for _ in runs]
        found.append([mean_over_tasks([m for m in of if m is not None]) for of in of_runs])
    return seed_spread(found)


def _with_seeds(
    pairs: _Pairs, spread: SeedSpread, field: Sequence[Sequence[str]], untouched: Collection[str]
) -> _Pairs:
    """Adds what seeds scatter; an untouched base has none."""
    if spread.df == 0:
        return pairs
    for i, j in combinations(range(len(field)), 2):
        if not np.isfinite(pairs.variance[i, j]):
            continue
        mean = Mean(
            value=float(pairs.value[i, j]),
            variance=float(pairs.variance[i, j]),
            df=float(pairs.df[i, j]),
            n_samples=0,
            n_languages=0,
        )
        pair = [runs for runs in (field[i], field[j]) if not set(runs) & set(untouched)]
        weights = [1 / len(runs) for runs in pair for _ in runs]
        wider = add_seed_variance(mean, spread, weights)
        pairs.variance[i, j] = pairs.variance[j, i] = wider.variance
        pairs.df[i, j] = pairs.df[j, i] = wider.df
    return pairs


def _p(pairs: _Pairs) -> Floats:
    p: Floats = 2 * stdtr(np.maximum(pairs.df, 1.0), -np.abs(pairs.value) / np.sqrt(pairs.variance))
    return np.minimum(p, 1.0)


def _square(upper: Sequence[float], k: int) -> Floats:
    """The upper triangle as a symmetric matrix, 1 on the diagonal."""
    matrix = np.ones((k, k))
    rows, columns = np.triu_indices(k, 1)
    matrix[rows, columns] = matrix[columns, rows] = upper
    return matrix

"""Every run's mean over a group of languages, kept so that any contrast of runs is one product.

                 item 0  item 1 ...           w = weights of the runs, one row each
    run a         d_a0    d_a1                value    = w . values
    run b         d_b0    d_b1                variance = |w D|^2, summed over items, because the
                                              same item in two languages is not two draws

The numbers are those of ``means.mean_over_languages`` on the same contrast; a test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from maple.analysis.means import Mean, SeedSpread
from maple.analysis.panel import Panel

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some runs in one language, over the items that all of them answered."""

    items: NDArray[np.int64]
    mean: Values
    """(runs,)"""
    scaled: Values
    """(runs, items) ``(score - mean) / sqrt(n (n - 1))``."""

    @cached_property
    def covariance(self) -> Values:
        """(runs, runs) of the means, over items."""
        return np.asarray(self.scaled @ self.scaled.T)


Parts = dict[tuple[str, str, tuple[str, ...]], Part]
"""By task, language and runs: what several groups of languages share."""


@dataclass(frozen=True, kw_only=True)
class RunMeans:
    """Weighted means over the languages of one task, a row per run."""

    run_ids: tuple[str, ...]
    languages: tuple[str, ...]
    weights: Values
    """(languages,) weight of each: ``1 / L``, or with a minus in a difference of two groups."""
    by_language: Values
    """(runs, languages) mean score."""
    deviations: Values
    """(runs, items) so that ``|w @ deviations|^2`` is the variance that items bring in."""
    parts: tuple[Part, ...]
    """One per language."""
    flip: float
    """Variance of one pseudo-pair of flipped samples (Agresti & Min 2005)."""
    df: float
    n_samples: int

    @property
    def values(self) -> Values:
        """(runs,) the weighted means."""
        return self.by_language @ self.weights

    @cached_property
    def covariance(self) -> Values:
        """(runs, runs) of the means, over items."""
        return np.asarray(self.deviations @ self.deviations.T)

    def contrast(self, weights: Mapping[str, float]) -> Mean:
        """Returns ``sum_r w_r mean_r`` with its variance over items.

        Args:
            weights: by run id; runs that are not here have to be none of them.
        """
        w = self._vector(weights)
        # A slope weighs each run by little, and so it does their flips.
        flip = self.flip * min(1.0, float(w @ w))
        every = np.outer(w, self.weights)
        return Mean(
            value=float(w @ self.values),
            variance=max(0.0, float(w @ self.covariance @ w)) + flip,
            df=self.df,
            n_samples=self.n_samples,
            n_languages=len(self.languages),
            reach=float(max(every[every > 0].sum(), -every[every < 0].sum())),
        )

    def contrast_by_language(self, weights: Mapping[str, float]) -> Values:
        """Returns (languages,) the contrast in each language."""
        return np.asarray(self._vector(weights) @ self.by_language)

    def variance_apart(self, weights: Mapping[str, float]) -> float:
        """Returns the variance over items if no two languages had an item in common."""
        w = self._vector(weights)
        pairs = zip(self.weights.tolist(), self.parts, strict=True)
        return float(sum(a * a * (w @ part.covariance @ w) for a, part in pairs))

    def _vector(self, weights: Mapping[str, float]) -> Values:
        return np.array([weights.get(run, 0.0) for run in self.run_ids])


def run_means(
    panel: Panel,
    weights: Mapping[str, float],
    run_ids: Sequence[str],
    parts: Parts | None = None,
) -> RunMeans | None:
    """Returns the means of the runs over languages.

    Args:
        panel: the answers to one task.
        weights: of the languages.
        run_ids: runs; an item enters where all of them answered it.
        parts: what other calls on the same panels have left, and this one adds to.

    Returns:
        None where in one of the languages the runs have no item in common.
    """
    if not run_ids or not weights or not set(run_ids) <= set(panel.run_ids):
        return None
    known = {} if parts is None else parts
    runs, found = tuple(run_ids), []
    for language in weights:
        key = (panel.mode.label, language, runs)
        if key not in known:
            part = _part(panel, language, runs)
            if part is None:
                return None
            known[key] = part
        found.append(known[key])
    return _reduce(runs, weights, found)


def _part(panel: Panel, language: str, runs: Sequence[str]) -> Part | None:
    if language not in panel.scores:
        return None
    scores = panel.scores[language][[panel.run_ids.index(run) for run in runs]]
    shared = ~np.isnan(scores).any(axis=0)
    n = int(shared.sum())
    if n == 0:
        return None
    kept = scores[:, shared]
    mean = kept.mean(axis=1)
    scaled = (kept - mean[:, None]) / np.sqrt(n * (n - 1) if n > 1 else 1)
    return Part(items=panel.items[language][shared], mean=mean, scaled=scaled)


def _reduce(
    run_ids: tuple[str, ...], weights: Mapping[str, float], parts: Sequence[Part]
) -> RunMeans:
    items = np.unique(np.concatenate([part.items for part in parts]))
    deviations = np.zeros((len(run_ids), items.size))
    for weight, part in zip(weights.values(), parts, strict=True):
        # Sorted and without gaps is the usual case, and a slice is many times faster.
        first = int(np.searchsorted(items, part.items[0]))
        block = slice(first, first + part.items.size)
        if np.array_equal(items[block], part.items):
            deviations[:, block] += weight * part.scaled
        else:
            deviations[:, np.searchsorted(items, part.items)] += weight * part.scaled
    sizes, n_languages = [part.items.size for part in parts], len(parts)
    flip = sum((w / n) ** 2 for w, n in zip(weights.values(), sizes, strict=True)) / n_languages
    n_samples = sum(sizes)
    return RunMeans(
        run_ids=run_ids,
        languages=tuple(weights),
        weights=np.array(list(weights.values())),
        by_language=np.stack([part.mean for part in parts], axis=1),
        deviations=deviations,
        parts=tuple(parts),
        flip=flip,
        df=items.size * (n_samples - n_languages) / n_samples,
        n_samples=n_samples,
    )


class Answered:
    """Who answered what in some panels, looked up once."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        self._runs: dict[tuple[str, str], set[str]] = {}
        for panel in panels:
            for language, scores in panel.scores.items():
                has_any = np.any(~np.isnan(scores), axis=1)
                self._runs[panel.mode.label, language] = {
                    run for run, found in zip(panel.run_ids, has_any, strict=True) if found
                }

    def runs(self, panel: Panel, languages: Iterable[str], among: Iterable[str]) -> list[str]:
        """Returns those of the runs that have an answer in every one of the languages."""
        sets = [self._runs.get((panel.mode.label, code), set()) for code in languages]
        return [run for run in among if all(run in found for found in sets)]

    def usual(self, panel: Panel, languages: Iterable[str], among: Sequence[str]) -> list[str]:
        """Returns those of the languages that at least half of the panel's runs have answers in."""
        runs = [run for run in among if run in panel.run_ids]
        return [
            code
            for code in languages
            if runs and 2 * len(self.runs(panel, [code], runs)) >= len(runs)
        ]


def from_mean(run: str, runs: Sequence[str]) -> dict[str, float]:
    """Returns the weights of a run minus the mean of runs that it is one of."""
    return {r: (r == run) - 1 / len(runs) for r in runs}


def spread_of_runs(
    tasks: Sequence[RunMeans], residuals: Sequence[Mapping[str, float]], df: int
) -> SeedSpread:
    """Returns how far runs scatter that should be alike, as means over tasks.

    A seed's adapter is one adapter on every task, so the scatter is that of the mean over tasks;
    adding the tasks' own scatters as if they were independent would be too little.

    Args:
        tasks: the means of the same runs, a task each.
        residuals: weights of deviations: a run minus the mean of its seeds, or minus a line.
        df: degrees of freedom of the residuals together.
    """
    if df < 1 or not tasks:
        return SeedSpread(variance=0.0, df=0)
    order, k = tasks[0].run_ids, len(tasks)
    w = np.array([[weights.get(run, 0.0) for run in order] for weights in residuals])
    total = float(((w @ np.mean([task.values for task in tasks], axis=0)) ** 2).sum())
    over_items = np.sum([task.covariance for task in tasks], axis=0)
    flips = np.minimum(1.0, np.einsum("ij,ij->i", w, w)).sum() * sum(task.flip for task in tasks)
    explained = (float(np.einsum("ij,ij->", w @ over_items, w)) + flips) / k**2
    return SeedSpread(variance=(total - explained) / df, df=df, explained=explained / df)

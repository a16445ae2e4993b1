"""Contrasts of runs over groups of languages, many at once: ``mean_over_languages`` as sums.

    Z_l = (W scores_l - mean) / sqrt(n (n - 1))      contrasts x items of language l
    variance of a group = |sum_l Z_l|^2 / L^2        items that languages share add up first

Hundreds of runs by dozens of groups are tens of thousands of means; each language is centred once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from maple.analysis.groups import LanguageGroup
from maple.analysis.means import Mean
from maple.analysis.panel import Panel

Weights = Mapping[str, float]
Floats = NDArray[np.float64]

NUMBERS_AT_ONCE = 40_000_000
"""Contrasts are taken in blocks of so many numbers (8 bytes each) over all languages."""


@dataclass(frozen=True, kw_only=True)
class Centred:
    """The contrasts in one language, less their means and scaled to their standard error."""

    items: NDArray[np.int64]
    """(items,) number of each within the task."""
    n: NDArray[np.int64]
    """(contrasts,) items that all runs of the contrast answered; 0 where one lacks the language."""
    mean: Floats
    """(contrasts,) 0 where n is 0."""
    scaled: Floats
    """(contrasts, items) ``(value - mean) / sqrt(n (n - 1))``; 0 where an answer is missing."""
    is_shared: NDArray[np.bool_] | None
    """(contrasts, items) whether all runs answered; None where every contrast has every item."""


def group_means(
    panel: Panel, contrasts: Sequence[Weights], groups: Sequence[LanguageGroup]
) -> list[list[Mean | None]]:
    """Returns the mean of every contrast over every group: [contrast][group].

    Each equals ``mean_over_languages(panel.contrasts(group.languages, weights))``; None where
    there is nothing to average.

    Args:
        panel: the answers to one task.
        contrasts: weights by run id; ``{run: 1, base: -1}`` pairs a run with its base.
        groups: languages to average over.
    """
    found: list[list[Mean | None]] = []
    width = max(1, sum(items.size for items in panel.items.values()))
    step = max(1, NUMBERS_AT_ONCE // width)
    for first in range(0, len(contrasts), step):
        found += _block(panel, contrasts[first : first + step], groups)
    return found


def centre(
    panel: Panel, contrasts: Sequence[Weights], languages: Collection[str]
) -> dict[str, Centred]:
    """Returns the contrasts in those of the languages that have answers, centred and scaled."""
    asked = set().union(*contrasts)
    used = [i for i, run in enumerate(panel.run_ids) if run in asked]
    row = {panel.run_ids[place]: i for i, place in enumerate(used)}
    weights = np.zeros((len(contrasts), len(row)))
    is_named = np.zeros_like(weights)
    is_possible = np.array([bool(w) and w.keys() <= row.keys() for w in contrasts], bool)
    for i in np.flatnonzero(is_possible).tolist():
        for run, weight in contrasts[i].items():
            weights[i, row[run]] = weight
            is_named[i, row[run]] = 1  # a weight of 0 counts: without that run there is no contrast
    # Sparse: most contrasts are of two runs among a hundred.
    sparse, named = csr_array(weights), csr_array(is_named)
    return {
        language: _centre(
            panel.items[language],
            panel.scores[language][used],
            sparse,
            named,
            is_possible,
        )
        for language in panel.languages
        if language in languages
    }


def _centre(
    items: NDArray[np.int64],
    scores: Floats,
    weights: csr_array,
    is_named: csr_array,
    is_possible: NDArray[np.bool_],
) -> Centred:
    missing = np.isnan(scores)
    shared: NDArray[np.bool_] | None = None
    if missing.any() or not is_possible.all():
        shared = (is_named @ missing.astype(float) == 0) & is_possible[:, None]
        values = weights @ np.where(missing, 0.0, scores)
        values[~shared] = 0.0
        n = shared.sum(axis=1)
    else:
        values = weights @ scores
        n = np.full(weights.shape[0], scores.shape[1])
    mean = values.sum(axis=1) / np.maximum(n, 1)
    values -= mean[:, None]
    if shared is not None:
        values[~shared] = 0.0
    # One item says nothing of the spread: its deviation is 0, whatever it is divided by.
    values /= np.sqrt(np.maximum(n * (n - 1), 1))[:, None]
    return Centred(items=items, n=n, mean=mean, scaled=values, is_shared=shared)


def _block(
    panel: Panel, contrasts: Sequence[Weights], groups: Sequence[LanguageGroup]
) -> list[list[Mean | None]]:
    centred = centre(panel, contrasts, {code for group in groups for code in group.languages})
    columns = []
    for group in groups:
        parts = [centred[code] for code in group.languages if code in centred]
        columns.append(list(_means(parts)) if parts else [None] * len(contrasts))
    return [[column[i] for column in columns] for i in range(len(contrasts))]


def _means(parts: Sequence[Centred]) -> Iterator[Mean | None]:
    """Yields the mean of each contrast over the languages that it has."""
    n = np.stack([part.n for part in parts])
    is_there = n > 0
    n_languages, n_samples = is_there.sum(axis=0), n.sum(axis=0)
    some = np.maximum(n_languages, 1)
    value = np.sum([part.mean for part in parts], axis=0) / some
    flip = (is_there / np.maximum(n, 1) ** 2.0).sum(axis=0) / some**3.0
    variance = squared_norms(parts) / some**2.0 + flip
    items = count_items(parts)
    df = items * (n_samples - n_languages) / np.maximum(n_samples, 1)
    for i in range(n.shape[1]):
        if n_languages[i] == 0:
            yield None
            continue
        yield Mean(
            value=float(value[i]),
            variance=float(variance[i]),
            df=float(df[i]),
            n_samples=int(n_samples[i]),
            n_languages=int(n_languages[i]),
        )


def squared_norms(parts: Sequence[Centred]) -> Floats:
    """Returns (contrasts,) ``|sum_l Z_l|^2``: items summed over languages first."""
    if distinct_items(parts).size == sum(part.items.size for part in parts):
        squares: Floats = np.sum([np.einsum("ki,ki->k", p.scaled, p.scaled) for p in parts], axis=0)
        return squares
    total = summed(parts)
    square: Floats = np.einsum("ki,ki->k", total, total)
    return square


def summed(parts: Sequence[Centred]) -> Floats:
    """Returns (contrasts, distinct items) the sum of the languages' scaled deviations."""
    if _are_parallel(parts):
        total = parts[0].scaled.copy()
        for part in parts[1:]:
            total += part.scaled
        return total
    distinct = distinct_items(parts)
    # Transposed: adding whole rows at given places is several times faster than columns.
    added = np.zeros((distinct.size, parts[0].n.size))
    for part in parts:
        added[np.searchsorted(distinct, part.items)] += part.scaled.T
    return np.ascontiguousarray(added.T)


def count_items(parts: Sequence[Centred]) -> NDArray[np.int64]:
    """Returns (contrasts,) how many distinct items a contrast has over the languages."""
    distinct = distinct_items(parts)
    n = np.stack([part.n for part in parts])
    if all(part.is_shared is None for part in parts):
        return np.full(n.shape[1], distinct.size)
    if distinct.size == sum(part.items.size for part in parts):
        return np.asarray(n.sum(axis=0), np.int64)
    is_there = np.zeros((distinct.size, n.shape[1]), bool)
    for part in parts:
        here = True if part.is_shared is None else part.is_shared.T
        is_there[np.searchsorted(distinct, part.items)] |= here
    return np.asarray(is_there.sum(axis=0), np.int64)


def distinct_items(parts: Sequence[Centred]) -> NDArray[np.int64]:
    """Returns the numbers of the items that the languages have, each once, rising."""
    if _are_parallel(parts):
        return parts[0].items
    return np.flatnonzero(np.bincount(np.concatenate([part.items for part in parts])))


def _are_parallel(parts: Sequence[Centred]) -> bool:
    """Whether all of the languages have the same items."""
    first = parts[0].items
    return all(part.items is first or np.array_equal(part.items, first) for part in parts)

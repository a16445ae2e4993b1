"""Tests of paired differences, each by its definition: McNemar, sign flips, the bootstrap.

    McNemar (1947)     accuracy: of samples that one run alone got right, is it half each?
    sign flips         any score: of all 2^k swaps of the runs' answers, how many differ as much?
    paired bootstrap   any score: test items drawn again with replacement, for all languages at once

With 0 and 1 the first two are the same test. A bootstrap's p-value cannot be below 1 / (draws + 1),
which no adjustment over a large grid survives; there Student's test stands (``means``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr

from maple.analysis.intervals import CONFIDENCE, Interval
from maple.analysis.means import LanguageValues

Test = Literal["mcnemar exact", "mcnemar", "sign flips", "student", "bootstrap"]
Floats = NDArray[np.float64]

EXACT_DISCORDANT = 1000
"""Discordant pairs up to which McNemar's test is the exact binomial one."""
EXACT_FLIPS = 12
"""Samples that differ up to which every way to flip their signs is counted: 4,096 of them."""
DRAWS = 9999


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A mean difference with its bootstrap interval and p-value."""

    interval: Interval
    p: float
    """Two-sided, against no difference; at least ``2 / (draws + 1)``."""
    n_draws: int


def mcnemar(wins: NDArray[np.int64], losses: NDArray[np.int64]) -> Floats:
    """Returns McNemar's two-sided p-value for each pair of counts.

    Exact, by the binomial distribution, up to ``EXACT_DISCORDANT`` discordant pairs; the normal
    approximation without correction beyond.

    Args:
        wins: samples that only the first run got right.
        losses: samples that only the second run got right; of the same shape.
    """
    n = wins + losses
    exact = 2 * bdtr(np.minimum(wins, losses).astype(float), n, 0.5)
    normal = 2 * ndtr(-np.abs(wins - losses) / np.sqrt(np.maximum(n, 1)))
    p: Floats = np.where(n <= EXACT_DISCORDANT, exact, normal)
    return np.minimum(1.0, p)


def sign_flip_p(differences: Floats) -> float:
    """Returns the exact two-sided permutation p-value of a mean difference.

    Args:
        differences: (n,) paired differences; at most ``EXACT_FLIPS`` of them may be nonzero.

    Raises:
        ValueError: too many differ for every way to be counted.
    """
    changed = differences[differences != 0]
    if changed.size > EXACT_FLIPS:
        raise ValueError(f"{changed.size} samples differ; at most {EXACT_FLIPS} can be counted out")
    ways = np.arange(2**changed.size)[:, None] >> np.arange(changed.size) & 1
    sums = (1 - 2 * ways) @ changed
    # Sums of the same numbers in another order differ in their last bits.
    return float(np.mean(np.abs(sums) >= abs(changed.sum()) - 1e-9))


def paired_bootstrap(
    parts: Sequence[LanguageValues], *, draws: int = DRAWS, seed: int = 0
) -> Resampled:
    """Returns the mean over languages with its percentile bootstrap interval and p-value.

    Items are drawn with replacement; an item that several languages share is drawn for all of
    them at once, because its translations are not separate draws. The p-value is twice the share
    of draws on the far side of zero, each side counting the observed sample as one more draw.

    Args:
        parts: a difference per item and language, at least one language.
        draws: resamples.
        seed: of the draws: the same seed gives the same numbers.
    """
    rng = np.random.default_rng(seed)
    items = np.unique(np.concatenate([part.items for part in parts]))
    places = [np.searchsorted(items, part.items) for part in parts]
    means = np.empty(draws)
    step = max(1, 4_000_000 // items.size)
    for first in range(0, draws, step):
        count = min(step, draws - first)
        times = rng.multinomial(items.size, np.full(items.size, 1 / items.size), size=count)
        means[first : first + count] = _resampled_means(parts, places, times)
    value = float(np.mean([part.mean for part in parts]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    side = min(np.sum(means <= 0), np.sum(means >= 0))
    p = min(1.0, 2 * (1 + float(side)) / (draws + 1))
    return Resampled(interval=Interval(value, float(low), float(high)), p=p, n_draws=draws)


def _resampled_means(
    parts: Sequence[LanguageValues],
    places: Sequence[NDArray[np.int64]],
    times: NDArray[np.int64],
) -> Floats:
    """Returns (draws,) the mean over the languages of which a draw has an item."""
    total, there = np.zeros(len(times)), np.zeros(len(times))
    for part, place in zip(parts, places, strict=True):
        drawn = times[:, place].astype(float)
        n = drawn.sum(axis=1)
        total += np.where(n > 0, drawn @ part.values / np.maximum(n, 1), 0.0)
        there += n > 0
    mean: Floats = np.where(there > 0, total / np.maximum(there, 1), np.nan)
    return mean


def cell_tests(runs: Floats, bases: Floats) -> list[tuple[float, Test] | None]:
    """Returns the test of each pair of rows on the samples that both have, and its p-value.

    McNemar's where all of these are 0 or 1, sign flips where few differ; None where neither can
    be, which leaves Student's.

    Args:
        runs: (pairs, samples) scores; NaN where there is none.
        bases: (pairs, samples) the scores they are compared with.
    """
    difference = runs - bases
    is_shared = ~np.isnan(difference)
    is_binary = (~is_shared | (((runs == 0) | (runs == 1)) & ((bases == 0) | (bases == 1)))).all(1)
    wins, losses = (difference > 0).sum(axis=1), (difference < 0).sum(axis=1)
    p = mcnemar(wins, losses)
    found: list[tuple[float, Test] | None] = []
    for i in range(len(runs)):
        n = int(wins[i] + losses[i])
        if not is_shared[i].any():
            found.append(None)
        elif is_binary[i]:
            found.append((float(p[i]), "mcnemar exact" if n <= EXACT_DISCORDANT else "mcnemar"))
        elif n <= EXACT_FLIPS:
            found.append((sign_flip_p(difference[i][is_shared[i]]), "sign flips"))
        else:
            found.append(None)
    return found

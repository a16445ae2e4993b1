"""Boundaries against published tables, error, power and coverage against simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from benchmarks.early_look import Case, exact, plan_of, rule_of, simulate
from scipy.optimize import brentq, minimize_scalar
from scipy.special import xlogy
from scipy.stats import multivariate_normal, norm
from statsmodels.stats.contingency_tables import mcnemar

from maple.evaluate.early_look import LEAST_SAMPLES, conclude, decide, look_counts
from maple.evaluate.sequential import (
    adjusted,
    boundary,
    crossing,
    p_value,
    repeated_interval,
    spent,
    z_value,
)

QUARTERS = (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("alpha", "looks", "published"),
    # Jennison & Turnbull (2000), table 2.3: the constant of O'Brien & Fleming's test.
    [(0.05, 2, 1.977), (0.05, 4, 2.024), (0.05, 5, 2.040), (0.01, 5, 2.621), (0.1, 4, 1.733)],
)
def test_the_integration_finds_the_published_constants_of_obrien_and_fleming(
    alpha: float, looks: int, published: float
) -> None:
    shares = [k / looks for k in range(1, looks + 1)]

    def excess(constant: float) -> float:
        bounds = [constant / math.sqrt(share) for share in shares]
        return 2 * sum(crossing(bounds, shares, 0.0)) - alpha

    found = brentq(excess, 1.0, 4.0)
    assert found == pytest.approx(published, abs=6e-4)
    if (alpha, looks) == (0.05, 4):
        bounds = [round(found / math.sqrt(share), 3) for share in shares]
        assert bounds == pytest.approx([4.049, 2.863, 2.337, 2.024], abs=2e-3)


@pytest.mark.parametrize(
    ("looks", "published"),
    # The spending function, as ld98 and gsDesign print it for a two-sided 0.05.
    [
        (1, [1.9600]),
        (2, [2.9626, 1.9686]),
        (4, [4.3326, 2.9631, 2.3590, 2.0141]),
        (5, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_the_bounds_of_the_spending_function_are_the_published_ones(
    looks: int, published: list[float]
) -> None:
    shares = [k / looks for k in range(1, looks + 1)]
    assert boundary(0.05, shares) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6])
@pytest.mark.parametrize("shares", [QUARTERS, (0.1, 0.15, 0.4, 1.0), (0.5, 1.0)])
def test_every_look_spends_what_the_function_allows(
    alpha: float, shares: tuple[float, ...]
) -> None:
    used = np.cumsum(crossing(boundary(alpha, shares), shares, 0.0)) * 2
    assert used[-1] == pytest.approx(alpha, rel=1e-6)
    for share, so_far in zip(shares, used, strict=True):
        z = norm.isf(alpha / 4)
        assert so_far == pytest.approx(4 * norm.sf(z / math.sqrt(share)), rel=1e-5, abs=1e-20)
        assert spent(alpha, share) == pytest.approx(4 * norm.sf(z / math.sqrt(share)), rel=1e-9)


@pytest.mark.parametrize("drift", [0.0, 1.5, -0.7])
def test_crossing_is_the_integral_of_a_joint_normal(drift: float) -> None:
    shares, bounds = (0.4, 0.7, 1.0), (2.2, 1.9, 1.7)
    root = np.sqrt(shares)
    joint = np.minimum.outer(shares, shares) / np.outer(root, root)
    mean = drift * root
    expected = []
    for k in range(3):
        low, high = [-b for b in bounds[:k]] + [bounds[k]], [*bounds[:k], 12.0]
        law = multivariate_normal(mean[: k + 1], joint[: k + 1, : k + 1])
        expected.append(law.cdf(high, lower_limit=low, rng=np.random.default_rng(0)))
    assert crossing(bounds, shares, drift) == pytest.approx(expected, abs=2e-4)


def test_without_an_earlier_look_the_estimate_is_the_usual_one() -> None:
    found = adjusted(2.5, 0.02, bounds=(), shares=(0.25,), alpha=0.05)
    z = norm.isf(0.025)
    expected = [0.05, 0.05 - 0.02 * z, 0.05 + 0.02 * z]
    assert [found.value, found.low, found.high] == pytest.approx(expected, rel=1e-6)
    assert p_value(-2.5, bounds=(), shares=(0.25,)) == pytest.approx(2 * norm.sf(2.5))
    mirrored = adjusted(-2.5, 0.02, bounds=(), shares=(0.25,), alpha=0.05)
    assert [mirrored.value, mirrored.low] == pytest.approx([-found.value, -found.high])


def test_the_estimate_is_median_unbiased_and_its_interval_covers() -> None:
    """Under bounds that stop early often, where the plain estimate is far off."""
    shares, bounds = (0.25, 0.5, 0.75, 1.0), (1.8, 1.8, 1.8, 1.8)
    random, drift, n = np.random.default_rng(1), 2.0, 200
    steps = random.normal(drift * 0.25, 0.5, (n, 4))
    z = np.cumsum(steps, axis=1) / np.sqrt(shares)
    values, covered, plain = [], 0, []
    for path in z:
        k = next((i for i in range(3) if abs(path[i]) >= bounds[i]), 3)
        error = 1 / math.sqrt(shares[k])
        found = adjusted(path[k], error, bounds=bounds[:k], shares=shares[: k + 1], alpha=0.05)
        values.append(found.value)
        plain.append(path[k] * error)
        covered += found.low <= drift <= found.high
    assert 0.44 < np.mean(np.array(values) < drift) < 0.56
    assert 0.92 < covered / n < 0.98
    assert abs(np.mean(values) - drift) < abs(np.mean(plain) - drift)
    assert np.mean(plain) > drift + 0.2, "the case must be one in which stopping biases"


def test_the_z_value_is_mcnemars_with_its_correction() -> None:
    """Of scores that are right or wrong."""
    for rises, falls, same in ((12, 3, 65), (3, 12, 185), (20, 0, 0), (8, 7, 6), (1, 0, 30)):
        differences = np.repeat([1.0, -1.0, 0.0], [rises, falls, same])
        z, _ = z_value(differences)
        known = mcnemar([[same, rises], [falls, 0]], exact=False, correction=True)
        assert z**2 == pytest.approx(known.statistic)
        assert (z > 0, z < 0) == (rises > falls + 1, falls > rises + 1)
        exactly = mcnemar([[same, rises], [falls, 0]], exact=True)
        if exactly.pvalue > 1e-4:
            assert 2 * norm.sf(abs(z)) == pytest.approx(exactly.pvalue, abs=0.02)
    assert z_value(np.zeros(50))[0] == 0
    assert z_value(-differences)[0] == -z


@pytest.mark.parametrize(
    ("rises", "falls", "same", "mean"),
    [(12, 3, 65, 0.3), (12, 3, 65, -0.1), (0, 9, 40, 0.05), (0, 0, 50, 0.2), (30, 10, 0, 0.1)],
)
def test_another_mean_is_tested_under_its_most_likely_variance(
    rises: int, falls: int, same: int, mean: float
) -> None:
    """Tango's (1998) statistic, its likelihood maximised by search."""
    n = rises + falls + same

    def unlikely(fall: float) -> float:
        share = [fall + mean, fall, 1 - 2 * fall - mean]
        return -float(xlogy([rises, falls, same], share).sum())

    search = {"bounds": (max(0.0, -mean), (1 - mean) / 2), "method": "bounded"}
    fall = minimize_scalar(unlikely, options={"xatol": 1e-12}, **search).x
    z, error = z_value(np.repeat([1.0, -1.0, 0.0], [rises, falls, same]), against=mean)
    assert n * error**2 == pytest.approx(2 * fall + mean - mean**2, rel=1e-5)
    far = (rises - falls) / n - mean
    assert z * error == pytest.approx(far - math.copysign(1 / n, far))


def test_a_mean_that_takes_differing_samples_is_not_excluded_by_their_absence() -> None:
    """Of 500 samples alike, a true difference of 1 point leaves 0.7%: not one in a million."""
    z, _ = z_value(np.zeros(500), against=0.01)
    assert norm.cdf(z) > 0.99**500
    low, high = repeated_interval(np.zeros(500), bound=4.9)
    assert -low == pytest.approx(high)
    assert 0.99**500 > 1e-6 > (1 - high) ** 500


def test_the_repeated_interval_holds_what_its_bound_does_not_refuse() -> None:
    differences = np.random.default_rng(5).choice([-0.5, 0.0, 1.0], 60, p=[0.1, 0.5, 0.4])
    low, high = repeated_interval(differences, bound=2.5)
    for edge, sign in ((low, 1), (high, -1)):
        assert z_value(differences, against=edge)[0] == pytest.approx(sign * 2.5, abs=1e-6)
    assert low < differences.mean() < high
    assert repeated_interval(np.ones(20), bound=10.0)[1] == 1.0


@pytest.mark.parametrize(
    ("samples", "counts"),
    [(1000, (250, 500, 750, 1000)), (50, (25, 38, 50)), (19, (19,)), (2, (2,))],
)
def test_no_look_is_made_at_a_handful(samples: int, counts: tuple[int, ...]) -> None:
    assert look_counts(QUARTERS, samples) == counts
    assert all(count >= min(LEAST_SAMPLES, samples) for count in counts)
    assert all(a < b for a, b in pairwise(counts)) or len(counts) == 1


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 200, 0.05 / 10_000])
def test_two_equal_runs_are_told_apart_at_most_at_the_stated_rate(alpha: float) -> None:
    """Summed over every course of a study, not drawn: tails of one in a million are seen too."""
    for samples in (20, 60):
        for differing in (0.05, 0.2, 0.6, 1.0):
            found = exact(samples, alpha, rises=differing / 2, falls=differing / 2)
            assert sum(found.values()) == pytest.approx(1)
            assert found.get("higher", 0) + found.get("lower", 0) < alpha
            assert found.get("higher", 0) == pytest.approx(found.get("lower", 0), abs=1e-12)
    wide = exact(60, alpha, rises=0.5, falls=0.5)
    assert wide["higher"] + wide["lower"] > 0.1 * alpha, "and it is spent"


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 200])
@pytest.mark.parametrize("points", [4.0, 20.0])
def test_futility_is_claimed_wrongly_at_most_at_the_stated_rate(
    alpha: float, points: float
) -> None:
    """The truth is the limit itself: neither decision may be a false one too often."""
    truth = points / 100
    for differing in (truth, 0.3, 0.8):
        rises, falls = (differing + truth) / 2, (differing - truth) / 2
        found = exact(60, alpha, rises=rises, falls=falls, futility=points)
        assert found.get("no more", 0) + found.get("lower", 0) < alpha / 2


def test_a_large_difference_is_found_and_none_is_given_up_with_fewer_samples() -> None:
    large = Case(points=12, alpha=0.05)
    found = simulate(large, studies=100, seed=7)
    assert found["told_apart"] == 1
    assert found["scored"] < 0.6
    assert found["plain_bias_points"] > 0
    none = Case(points=0, alpha=0.05, futility=8)
    found = simulate(none, studies=100, seed=7)
    assert found["no_more"] > 0.9
    assert found["scored"] < 0.7
    assert found["repeated_covered"] > 0.95


def test_what_is_kept_says_which_look_ended_it() -> None:
    plan = plan_of(400, 0.05)
    own = np.ones(200)
    other = np.where(np.arange(200) % 10 == 0, 0.0, 1.0)
    assert decide(plan, 0, (own - other)[:100], rule_of(0.05)) == "undecided"
    kept = conclude(plan, 1, own, other, rule=rule_of(0.05))
    assert (kept.decision, kept.is_part, kept.look, kept.samples) == ("higher", True, 2, 200)
    assert kept.planned == 400
    assert kept.score == 1
    assert kept.difference == pytest.approx(0.1)
    assert 0 < kept.low < kept.estimate <= kept.difference < kept.high
    assert kept.repeated_low < kept.low, "a repeated interval pays for holding at every look"
    assert kept.p < 1e-4
    assert kept.spent[kept.look - 1] < kept.alpha
    assert not conclude(plan, 3, np.ones(400), np.ones(400), rule=rule_of(0.05)).is_part

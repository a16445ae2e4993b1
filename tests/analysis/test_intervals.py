import numpy as np
import pytest
from scipy import stats

from maple.analysis.intervals import (
    holm,
    interval_from_moments,
    satterthwaite,
    score_interval,
    student_interval,
    student_p,
    wilson,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 7), (13, 40), (900, 900), (333, 1000)])
def test_wilson_equals_scipy(hits: int, n: int) -> None:
    low, high = stats.binomtest(hits, n).proportion_ci(method="wilson")
    ours = wilson(hits / n, n)
    assert ours.low == pytest.approx(low, abs=1e-12)
    assert ours.high == pytest.approx(high, abs=1e-12)


def test_scores_of_zero_and_one_get_the_interval_of_a_proportion() -> None:
    values = np.array([1.0] * 13 + [0.0] * 27)
    assert score_interval(values) == wilson(13 / 40, 40)


def test_continuous_scores_get_wilson_at_the_effective_sample_size() -> None:
    values = np.random.default_rng(0).beta(0.4, 1.1, 50)
    mean, n, t = values.mean(), 50, stats.t.ppf(0.975, 49)
    effective = mean * (1 - mean) / (values.var(ddof=1) / n)
    # The limits are the roots of (mean - p)^2 = t^2 p (1 - p) / effective.
    k = t**2 / effective
    low, high = sorted(np.roots([1 + k, -(2 * mean + k), mean**2]))
    ours = score_interval(values)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-12)


def test_continuous_interval_approaches_students_with_many_samples() -> None:
    values = np.random.default_rng(1).beta(2, 2, 4000)
    low, high = stats.t.interval(0.95, 3999, values.mean(), stats.sem(values))
    ours = score_interval(values)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [1.0], [0.5], [0.5, 0.5], [0.0, 1e-9]])
def test_score_intervals_stay_inside_0_to_1_and_are_never_empty(values: list[float]) -> None:
    ours = score_interval(np.array(values))
    assert 0 <= ours.low <= ours.value <= ours.high <= 1
    assert ours.low < ours.high


def test_a_metric_outside_0_to_1_gets_students_interval() -> None:
    values = np.array([3.0, 4.0, 8.0, 5.5])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    ours = interval_from_moments(values.mean(), values.var(ddof=1), 4, is_binary=False)
    assert (ours.low, ours.high) == pytest.approx((low, high))


def test_student_equals_scipy() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, 25)
    variance = values.var(ddof=1) / 25
    test = stats.ttest_1samp(values, 0)
    low, high = test.confidence_interval(0.95)
    ours = student_interval(values.mean(), variance, 24)
    assert (ours.low, ours.high) == pytest.approx((low, high))
    assert student_p(values.mean(), variance, 24) == pytest.approx(test.pvalue)


def test_limits_are_cut_off_where_the_truth_cannot_be() -> None:
    free, cut = (student_interval(0.8, 0.04, 5, reach=reach) for reach in (np.inf, 1.0))
    assert free.high > 1
    assert (cut.low, cut.high) == (free.low, 1.0)
    assert student_interval(-0.8, 0.04, 5, reach=1.0).low == -1.0
    # Rounding may put an estimate itself beyond it.
    assert student_interval(1 + 1e-12, 0.04, 5, reach=1.0).high >= 1 + 1e-12


def test_satterthwaite_equals_welchs_degrees_of_freedom() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 12), rng.normal(0, 3, 30)
    welch = stats.ttest_ind(a, b, equal_var=False).df
    ours = satterthwaite([a.var(ddof=1) / 12, b.var(ddof=1) / 30], [11, 29])
    assert ours == pytest.approx(welch)


def test_holm_equals_its_definition() -> None:
    p = np.random.default_rng(4).random(30) ** 3
    order = np.argsort(p)
    expected = np.empty(30)
    expected[order] = np.minimum(1, np.maximum.accumulate((30 - np.arange(30)) * p[order]))
    assert holm(p.tolist()) == pytest.approx(expected.tolist())
    assert holm([]) == []

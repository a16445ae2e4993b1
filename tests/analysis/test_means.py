import dataclasses

import numpy as np
import pytest
from scipy import stats

from maple.analysis.means import (
    LanguageValues,
    Mean,
    SeedSpread,
    add_seed_variance,
    mean_over_languages,
    mean_over_tasks,
    seed_spread,
)


def language(
    values: np.ndarray, items: np.ndarray | None = None, name: str = "x"
) -> LanguageValues:
    items = np.arange(values.size) if items is None else items
    return LanguageValues(language=name, items=items, values=values)


def without_flip(mean: Mean, sizes: list[int]) -> float:
    k = len(sizes)
    return mean.variance - sum((1 / (k * n)) ** 2 for n in sizes) / k


def test_one_language_equals_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    base, tuned = rng.integers(0, 2, 400).astype(float), rng.integers(0, 2, 400).astype(float)
    expected = stats.ttest_rel(tuned, base)
    ours = mean_over_languages([language(tuned - base)])
    assert ours.value == pytest.approx((tuned - base).mean())
    assert without_flip(ours, [400]) == pytest.approx(stats.sem(tuned - base) ** 2)
    assert ours.df == expected.df == 399
    # The pseudo-pair of flips widens the interval by less than a percent at this size.
    low, high = expected.confidence_interval(0.95)
    assert ours.interval.low == pytest.approx(low, abs=0.01 * (high - low))
    assert ours.p == pytest.approx(expected.pvalue, rel=0.02)


def test_languages_without_common_items_have_the_stratified_variance() -> None:
    rng = np.random.default_rng(1)
    values = [rng.random(n) for n in (20, 50, 90)]
    firsts = (0, 20, 70)
    parts = [language(v, np.arange(v.size) + f) for v, f in zip(values, firsts, strict=True)]
    ours = mean_over_languages(parts)
    assert ours.value == pytest.approx(np.mean([v.mean() for v in values]))
    expected = sum(v.var(ddof=1) / v.size for v in values) / 9
    assert without_flip(ours, [20, 50, 90]) == pytest.approx(expected)
    assert ours.df == pytest.approx(160 - 3)


def test_parallel_items_have_the_variance_of_the_items_means() -> None:
    rng = np.random.default_rng(2)
    shared = rng.random(60)
    values = [shared + 0.1 * rng.random(60) for _ in range(5)]
    ours = mean_over_languages([language(v) for v in values])
    assert without_flip(ours, [60] * 5) == pytest.approx(stats.sem(np.mean(values, axis=0)) ** 2)
    assert ours.df == pytest.approx(59)


def test_partly_shared_items_follow_the_definition_item_by_item() -> None:
    rng = np.random.default_rng(3)
    items = [np.array([0, 1, 2, 3]), np.array([2, 3, 4]), np.array([9, 0])]
    values = [rng.random(i.size) for i in items]
    deviations: dict[int, float] = {}
    for i, v in zip(items, values, strict=True):
        for item, value in zip(i.tolist(), v, strict=True):
            own = (value - v.mean()) / (3 * (v.size * (v.size - 1)) ** 0.5)
            deviations[item] = deviations.get(item, 0) + own
    ours = mean_over_languages([language(v, i) for v, i in zip(values, items, strict=True)])
    assert without_flip(ours, [4, 3, 2]) == pytest.approx(sum(d**2 for d in deviations.values()))


def test_no_difference_seen_is_not_no_difference_known() -> None:
    ours = mean_over_languages([language(np.zeros(200))])
    assert ours.value == 0
    assert ours.p == 1
    assert 0 < ours.interval.high < 0.011


def test_a_difference_of_a_few_samples_stays_within_what_it_can_be() -> None:
    few = mean_over_languages([language(np.array([1.0, 1, 1, 1, 1, 0]))])
    wide = dataclasses.replace(few, reach=np.inf)
    assert few.interval.high == 1.0 < wide.interval.high
    assert few.interval.low == wide.interval.low
    assert (few.p, few.variance) == (wide.p, wide.variance)


@pytest.mark.parametrize(("p", "q"), [(0.9, 0.4), (0.95, 0.1), (0.7, 0.5), (0.5, 0.5)])
def test_intervals_of_six_samples_cover_the_truth_and_stay_inside(p: float, q: float) -> None:
    rng = np.random.default_rng(int(100 * p))
    latent = rng.normal(size=(600, 6)) * 0.5**0.5
    scores = [
        (latent + rng.normal(size=(600, 6)) * 0.5**0.5 < stats.norm.ppf(x)).astype(float)
        for x in (p, q)
    ]
    found = [mean_over_languages([language(d)]).interval for d in scores[0] - scores[1]]
    assert all(-1 <= i.low <= i.value <= i.high <= 1 for i in found)
    assert np.mean([i.low <= p - q <= i.high for i in found]) >= 0.93


def test_tasks_are_independent_and_count_alike() -> None:
    a = mean_over_languages([language(np.random.default_rng(4).random(30))])
    b = mean_over_languages([language(np.random.default_rng(5).random(300))])
    ours = mean_over_tasks([a, b])
    assert ours.value == pytest.approx((a.value + b.value) / 2)
    assert ours.variance == pytest.approx((a.variance + b.variance) / 4)


def test_seed_variance_is_pooled_over_configurations_and_less_what_items_explain() -> None:
    def deviation(value: float) -> Mean:
        return Mean(value=value, variance=0.01, df=99, n_samples=100, n_languages=1)

    spread = seed_spread([[deviation(0.3), deviation(-0.3)], [deviation(0.1), deviation(-0.1)], []])
    assert spread.df == 2
    assert spread.variance == pytest.approx((0.09 * 2 + 0.01 * 2 - 4 * 0.01) / 2)


def test_a_single_seed_leaves_the_interval_as_it_is() -> None:
    mean = mean_over_languages([language(np.random.default_rng(6).random(30))])
    assert add_seed_variance(mean, SeedSpread(variance=0, df=0), [1]) is mean
    wider = add_seed_variance(mean, SeedSpread(variance=0.04, df=3), [0.25] * 4)
    assert wider.variance == pytest.approx(mean.variance + 0.01)
    assert wider.df < mean.df
    assert dataclasses.replace(wider, variance=mean.variance, df=mean.df) == mean


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("change", [0.04, 0.3])
def test_intervals_of_differences_cover_the_truth(is_parallel: bool, change: float) -> None:
    rng, n, k, covered = np.random.default_rng(7), 60, 6, 0
    for _ in range(600):
        common = rng.random(n)
        parts = []
        for number in range(k):
            u = (
                np.where(rng.random(n) < 0.5, common, rng.random(n))
                if is_parallel
                else rng.random(n)
            )
            values = np.where(u < change / 2 + 0.01, 1.0, np.where(u < change, -1.0, 0.0))
            parts.append(language(values, np.arange(n) + (0 if is_parallel else number * n)))
        interval = mean_over_languages(parts).interval
        covered += interval.low <= 0.02 <= interval.high
    # Six hundred draws of a 95% event lie within 93..97% nearly always.
    assert 0.93 <= covered / 600 <= 0.985


@pytest.mark.parametrize("p", [0.03, 0.3])
def test_intervals_of_mean_scores_cover_the_truth(p: float) -> None:
    rng, covered = np.random.default_rng(8), 0
    for _ in range(600):
        parts = [
            language((rng.random(60) < p).astype(float), np.arange(60) + 60 * k) for k in range(8)
        ]
        interval = mean_over_languages(parts).score_interval
        covered += interval.low <= p <= interval.high
    assert 0.93 <= covered / 600 <= 0.985

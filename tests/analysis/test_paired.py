import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from maple.analysis.intervals import benjamini_hochberg, holm
from maple.analysis.letters import letter_groups, letters
from maple.analysis.means import LanguageValues
from maple.analysis.paired import (
    EXACT_FLIPS,
    cell_tests,
    mcnemar,
    paired_bootstrap,
    sign_flip_p,
)
from maple.analysis.power import minimum_detectable, paired_standard_error, samples_needed


def one(values: np.ndarray) -> list[LanguageValues]:
    return [LanguageValues(language="x", items=np.arange(values.size), values=values)]


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 3), (9, 1), (0, 6), (70, 40), (400, 330)])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    ours = mcnemar(np.array([wins]), np.array([losses]))[0]
    expected = statsmodels_mcnemar([[5, wins], [losses, 5]], exact=True).pvalue
    assert ours == pytest.approx(min(1.0, expected))


def test_mcnemar_of_many_discordant_pairs_is_the_chi_square_without_correction() -> None:
    ours = mcnemar(np.array([900]), np.array([810]))[0]
    expected = statsmodels_mcnemar([[5, 900], [810, 5]], exact=False, correction=False)
    assert ours == pytest.approx(expected.pvalue)


def test_sign_flips_are_scipys_permutation_test() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 4, 9):
        values = np.concatenate([rng.random(size) - 0.3, np.zeros(5)])
        expected = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=10**6
        )
        assert sign_flip_p(values) == pytest.approx(expected.pvalue)


def test_sign_flips_of_zeros_and_ones_are_mcnemars_test() -> None:
    values = np.array([1.0] * 7 + [-1.0] * 2)
    assert sign_flip_p(values) == pytest.approx(mcnemar(np.array([7]), np.array([2]))[0])


def test_too_many_flips_are_refused() -> None:
    with pytest.raises(ValueError, match="13 samples differ"):
        sign_flip_p(np.ones(EXACT_FLIPS + 1))


def test_the_bootstrap_agrees_with_scipys() -> None:
    values = np.random.default_rng(1).choice([-0.6, 0.0, 0.1, 0.9], 80, p=[0.2, 0.5, 0.2, 0.1])
    ours = paired_bootstrap(one(values))
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=2
    ).confidence_interval
    width = expected.high - expected.low
    assert ours.interval.value == pytest.approx(values.mean())
    assert ours.interval.low == pytest.approx(expected.low, abs=0.04 * width)
    assert ours.interval.high == pytest.approx(expected.high, abs=0.04 * width)
    assert ours == paired_bootstrap(one(values))


def test_translations_of_an_item_are_drawn_together() -> None:
    values = np.random.default_rng(3).normal(0.1, 1, 60)
    same = [LanguageValues(language=str(k), items=np.arange(60), values=values) for k in range(4)]
    apart = [
        LanguageValues(language=str(k), items=np.arange(60) + 60 * k, values=values)
        for k in range(4)
    ]
    alone, together, separate = (
        paired_bootstrap(parts, draws=2000).interval for parts in (one(values), same, apart)
    )
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert separate.high - separate.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)


def test_the_bootstraps_p_value_holds_its_level_and_finds_an_effect() -> None:
    rng = np.random.default_rng(4)
    rejected = [
        paired_bootstrap(one(rng.normal(0, 1, 80)), draws=199, seed=i).p < 0.05 for i in range(200)
    ]
    assert 0.02 <= np.mean(rejected) <= 0.1
    assert paired_bootstrap(one(rng.normal(0.5, 1, 80))).p == pytest.approx(2 / 10_000)


def test_a_cell_gets_the_test_that_fits_its_scores() -> None:
    runs = np.array([[1, 1, 1, 0.0], [1, 0.5, 0, 0], [np.nan] * 4])
    bases = np.array([[0, 0, 1, np.nan], [1, 0.25, 0, 0], [1.0] * 4])
    found = cell_tests(runs, bases)
    assert found[0] == (pytest.approx(0.5), "mcnemar exact")
    assert found[1] == (pytest.approx(1.0), "sign flips")
    assert found[2] is None
    rng = np.random.default_rng(5)
    assert cell_tests(rng.random((1, 50)), rng.random((1, 50))) == [None]


def test_adjusted_p_values_are_those_of_statsmodels() -> None:
    p = np.random.default_rng(6).random(40) ** 3
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p.tolist()) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert benjamini_hochberg([]) == []


@pytest.mark.parametrize("n", [20, 400])
def test_the_minimum_detectable_effect_has_the_power_it_claims(n: int) -> None:
    ours = minimum_detectable(1 / math.sqrt(n), n - 1)
    power = TTestPower().power(effect_size=ours, nobs=n, alpha=0.05)
    # The sum of quantiles is Bloom's approximation of the noncentral distribution.
    assert power == pytest.approx(0.8, abs=0.01)


def test_samples_needed_are_enough_and_barely_so() -> None:
    effect, discordant = 0.03, 0.2
    n = samples_needed(effect, discordant)
    sd = math.sqrt(discordant - effect**2)
    assert TTestPower().power(effect / sd, n, 0.05) == pytest.approx(0.8, abs=0.002)
    assert paired_standard_error(100, 0.25, n_languages=4) == pytest.approx(0.025)
    with pytest.raises(ValueError, match="effect of 0"):
        samples_needed(0.0, 0.2)


def test_two_share_a_letter_exactly_where_they_were_not_told_apart() -> None:
    rng = np.random.default_rng(7)
    for k in (1, 2, 5, 9):
        for share in (0.0, 0.3, 0.7, 1.0):
            told = np.triu(rng.random((k, k)) < share, 1)
            told |= told.T
            names = letters(told)
            for i, j in combinations(range(k), 2):
                assert bool(set(names[i]) & set(names[j])) == (not told[i, j])
            groups = [set(g) for g in letter_groups(told)]
            assert not any(a < b for a in groups for b in groups)


def test_letters_follow_the_order_given() -> None:
    told = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert letters(told) == ["a", "ab", "b"]
    assert letters(np.zeros((0, 0), bool)) == []
    many = letters(~np.eye(30, dtype=bool))
    assert (many[0], many[26], many[29]) == ("a", "aa", "ad")

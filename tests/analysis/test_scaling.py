import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from maple.analysis.scaling import fit_scaling

SIZES = np.repeat(10.0 ** np.array([4, 4.5, 5, 5.5, 6, 7]), 2)


def test_the_line_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    y = 0.4 + 0.02 * np.log10(SIZES) + rng.normal(0, 0.01, SIZES.size)
    ours = fit_scaling(SIZES, y, "trainable parameters", is_loss=False)
    theirs = stats.linregress(np.log10(SIZES), y)
    assert ours.line is not None
    assert ours.line.per_decade.value == pytest.approx(theirs.slope)
    half = stats.t.ppf(0.975, SIZES.size - 2) * theirs.stderr
    assert ours.line.per_decade.high == pytest.approx(theirs.slope + half)
    assert ours.line.p == pytest.approx(theirs.pvalue)
    assert ours.power_law is None
    assert "bounded" in ours.why_not


def test_lack_of_fit_is_the_f_test_of_a_mean_per_size() -> None:
    y = np.array([1, 1.1, 2, 2.1, 2.2, 2.4, 2.5, 2.4, 2.3, 2.4, 2.6, 2.5])
    line = fit_scaling(SIZES, y, "training tokens", is_loss=False).line
    pure = sum(((pair - pair.mean()) ** 2).sum() for pair in y.reshape(6, 2))
    residual = y - np.polyval(np.polyfit(np.log10(SIZES), y, 1), np.log10(SIZES))
    ratio = (residual @ residual - pure) / 4 / (pure / 6)
    assert line is not None
    assert line.lack_of_fit == pytest.approx(stats.f.sf(ratio, 4, 6))
    assert line.lack_of_fit < 0.01


def test_the_power_law_equals_scipys_curve_fit() -> None:
    rng = np.random.default_rng(1)
    y = 1.5 + 0.8 * (SIZES / 1e5) ** -0.4 + rng.normal(0, 0.01, SIZES.size)
    law = fit_scaling(SIZES, y, "trainable parameters", is_loss=True).power_law
    centre = np.exp(np.log(SIZES).mean())
    theirs, covariance = curve_fit(
        lambda x, floor, scale, exponent: floor + scale * (x / centre) ** -exponent,
        SIZES,
        y,
        [1, 1, 0.3],
    )
    assert law is not None
    assert law.exponent.value == pytest.approx(theirs[2], rel=1e-4)
    half = stats.t.ppf(0.975, SIZES.size - 3) * covariance[2, 2] ** 0.5
    assert law.exponent.high - law.exponent.value == pytest.approx(half, rel=1e-3)
    assert law.exponent.low < 0.4 < law.exponent.high


def test_too_few_sizes_get_no_law_and_a_reason() -> None:
    two = fit_scaling([1e4, 1e4, 1e5, 1e5], [1, 2, 3, 4], "training tokens", is_loss=True)
    assert two.line is None
    assert "sizes: 2" in two.why_not
    flat = fit_scaling(SIZES, np.full(SIZES.size, 2.0), "training tokens", is_loss=True)
    assert flat.power_law is None
    assert "converge" in flat.why_not


def test_sizes_that_hardly_differ_get_no_line_and_a_reason() -> None:
    sizes, values = [1000.0, 1004.0, 1009.0, 1012.0], [0.4, 0.5, 0.3, 0.6]
    fit = fit_scaling(sizes, values, "training tokens", is_loss=True)
    assert fit.line is None
    assert fit.power_law is None
    assert "1.01 times the smallest; a line needs 2 times" in fit.why_not
    assert fit_scaling([*sizes, 2000.0], [*values, 0.5], "training tokens", is_loss=True).line


def test_the_slopes_interval_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(400):
        y = 0.02 * np.log10(SIZES) + rng.normal(0, 0.01, SIZES.size)
        line = fit_scaling(SIZES, y, "trainable parameters", is_loss=False).line
        assert line is not None
        covered += line.per_decade.low <= 0.02 <= line.per_decade.high
    assert 0.92 <= covered / 400 <= 0.98

import warnings
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.calibration.world import Settings, World, draw_world
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from maple.analysis.configurations import find_configurations
from maple.analysis.mixed import MixedFit, NotFitted, fit_mixed
from maple.analysis.mixed_cells import Cells, Size, make_cells
from maple.analysis.mixed_errors import robust_effects
from maple.analysis.mixed_reml import find_components

SIZES: tuple[Size, ...] = ("rank", "parameters")


def crossed(
    rng: np.random.Generator, a: int, b: int, deviations: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    first, second = np.divmod(np.arange(a * b), b)
    design = np.column_stack([np.ones(a * b), rng.normal(size=a)[first], rng.normal(size=a * b)])
    noise = rng.normal(size=a * b) * 0.5
    effects = rng.normal(size=a)[first] * deviations[0] + rng.normal(size=b)[second] * deviations[1]
    return design @ [1.0, 0.5, -0.3] + effects + noise, design, [first, second]


def indicators(labels: np.ndarray) -> np.ndarray:
    return (labels[:, None] == np.arange(labels.max() + 1)).astype(float)


def test_components_equal_statsmodels_mixedlm() -> None:
    score, design, labels = crossed(np.random.default_rng(0), 12, 9, (0.8, 0.3))
    matrices = [[indicators(x)] for x in labels]
    names = [[[f"{i}" for i in range(m[0].shape[1])]] for m in matrices]
    spec = VCSpec(["a", "b"], names, matrices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM(score, design, np.zeros(score.size), exog_vc=spec).fit(reml=True)
    ours = find_components(score, design, labels)
    assert ours.has_converged
    assert ours.scale == pytest.approx(theirs.scale, rel=1e-3)
    variances = [r * r * ours.scale for r in ours.ratios]
    assert variances == pytest.approx(list(theirs.vcomp), rel=1e-2)
    random = list(zip(labels, [r * r for r in ours.ratios], strict=True))
    fixed = robust_effects(score, design, random, (labels[0], labels[1]))
    assert [e.value for e in fixed.effects.values()] == pytest.approx(
        list(theirs.fe_params), abs=1e-4
    )


def test_a_component_that_is_not_there_is_found_to_be_zero() -> None:
    score, design, labels = crossed(np.random.default_rng(1), 12, 9, (0.8, 0.0))
    # What is left within the second labels is made to be less than chance would leave.
    rest = score - design @ np.linalg.lstsq(design, score, rcond=None)[0]
    score = score - (rest @ indicators(labels[1]) / 12)[labels[1]]
    assert find_components(score, design, labels).ratios[1] == 0


def test_robust_variances_equal_their_definition_with_dense_matrices() -> None:
    score, design, labels = crossed(np.random.default_rng(2), 8, 6, (0.8, 0.3))
    ratios = [2.0, 0.5]
    v = np.eye(score.size)
    for x, ratio in zip(labels, ratios, strict=True):
        v += ratio * indicators(x) @ indicators(x).T
    whitened = np.linalg.solve(v, design)
    weights = whitened @ np.linalg.inv(design.T @ whitened)
    maker = np.eye(score.size) - design @ weights.T
    random = list(zip(labels, ratios, strict=True))
    ours = robust_effects(score, design, random, (labels[0], labels[1])).effects
    for column, p in enumerate(weights.T):
        sums, dfs = [], []
        for x in labels:
            parts = indicators(x) * p[:, None]
            gamma = (maker.T @ parts).T @ (maker.T @ parts)
            scale = np.trace(parts.T @ parts) / np.trace(gamma)
            sums.append(scale * ((parts.T @ maker @ score) ** 2).sum())
            dfs.append(np.trace(gamma) ** 2 / (gamma**2).sum())
        within = np.linalg.solve(v, maker @ score)
        # Every cell has one row here. What intercepts took is given back; the share of errors that
        # follow p inside a language is taken off.
        lost = score.size * (score @ maker.T @ within / (score.size - 3)) / (within @ within)
        share = lost * (p**4).sum() / ((p * p @ indicators(labels[1])) ** 2).sum()
        cells = (lost * ((p * within) ** 2).sum() - share * sums[1]) / (1 - share)
        variance = max(sum(sums) - max(0, cells), *sums)
        df = variance**2 / sum(s**2 / d for s, d in zip(sums, dfs, strict=True))
        assert ours[column].value == pytest.approx(p @ score)
        assert ours[column].variance == pytest.approx(variance)
        assert ours[column].df == pytest.approx(max(df, min(dfs)))


def test_infinitely_wide_intercepts_are_least_squares_with_a_column_each() -> None:
    score, design, labels = crossed(np.random.default_rng(6), 8, 6, (0.8, 0.3))
    dummies = np.column_stack([design[:, 1:], indicators(labels[1])])
    values, rest, rank, _ = np.linalg.lstsq(dummies, score, rcond=None)
    ours = robust_effects(score, design, [(labels[1], np.inf)], (labels[0], labels[1]))
    assert {i: e.value for i, e in ours.effects.items()} == pytest.approx(
        {1: values[0], 2: values[1]}, abs=1e-6
    )
    assert ours.scale == pytest.approx(float(rest[0]) / (score.size - rank), rel=1e-6)


@pytest.mark.parametrize(("n_runs", "n_languages"), [(20, 5), (20, 12), (8, 6)])
def test_the_variance_of_a_slope_is_right_on_average(n_runs: int, n_languages: int) -> None:
    """Runs have seeds, languages have levels and slopes of their own: none may go missing."""
    rng = np.random.default_rng(8)
    seed, slope, rest, level = 0.008, 0.004, 0.016, 0.06
    run, language = np.divmod(np.arange(n_runs * n_languages), n_languages)
    x = np.tile(np.arange(4) - 1.5, n_runs // 4)
    design = np.column_stack([np.ones(run.size), x[run]])
    random = [(language, (level / rest) ** 2), (run, (seed / rest) ** 2)]
    draws = []
    for _ in range(400):
        score = rng.normal(0, seed, n_runs)[run] + rng.normal(0, rest, run.size)
        score += (rng.normal(0, slope, n_languages)[language]) * x[run]
        score += rng.normal(0, level, n_languages)[language]
        effect = robust_effects(score, design, random, (run, language)).effects[1]
        draws.append((effect.value, effect.variance, effect.df))
    value, variance, df = np.array(draws).T
    true = (seed**2 + rest**2 / n_languages) / (x @ x) + slope**2 / n_languages
    assert value.var() == pytest.approx(true, rel=0.2)
    assert 0.95 < variance.mean() / true < 1.15
    held = np.abs(value) <= stats.t.ppf(0.975, df) * np.sqrt(variance)
    assert 0.93 <= held.mean() <= 0.98


def test_an_effect_of_a_class_has_the_degrees_of_freedom_of_its_own_clusters() -> None:
    rng = np.random.default_rng(5)
    run, language = np.divmod(np.arange(40 * 12), 12)
    x, is_low = rng.normal(size=40)[run], (language < 8).astype(float)
    design = np.column_stack([np.ones(480), x, is_low, x * is_low])
    score = rng.normal(size=12)[language] * x + 0.1 * rng.normal(size=480)
    fit = robust_effects(score, design, [(language, 1.0)], (run, language))
    # The slope of the four languages of the other class: three degrees of freedom and no 39.
    assert fit.effects[1].df == pytest.approx(3, abs=0.2)
    # Two means of four and of eight languages: Welch's degrees of freedom lie in between.
    assert 3 < fit.effects[3].df < 10


def test_a_column_that_follows_from_others_is_left_out() -> None:
    score, design, labels = crossed(np.random.default_rng(3), 8, 6, (0.8, 0.3))
    doubled = np.column_stack([design, design[:, 1] * 2])
    ours = robust_effects(score, doubled, [(labels[0], 1.0)], (labels[0], labels[1]))
    assert list(ours.effects) == [0, 1, 2]


@pytest.fixture(scope="module")
def world() -> World:
    settings = Settings(ranks=(4, 16), bits=(16,), n_tasks=2, n_languages=12, n_samples=80)
    return draw_world(settings, np.random.default_rng(3))


def test_the_model_equals_statsmodels_with_four_crossed_intercepts(world: World) -> None:
    cells = make_cells(world.panels, find_configurations(world.runs), {}, "rank")
    assert isinstance(cells, Cells)
    fit = fit_mixed(world.panels, find_configurations(world.runs))
    assert isinstance(fit, MixedFit)
    components = fit.model.split(" + ")
    matrices = [[indicators(cells.labels[c])] for c in components]
    names = [[[f"{i}" for i in range(m[0].shape[1])]] for m in matrices]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM(
            cells.score,
            cells.design,
            np.zeros(cells.score.size),
            exog_vc=VCSpec(components, names, matrices),
        )
        theirs = model.fit(reml=True)
    assert [fit.deviations[c] ** 2 for c in components] == pytest.approx(
        list(theirs.vcomp), rel=0.02, abs=1e-7
    )
    assert fit.deviations["rest"] ** 2 == pytest.approx(theirs.scale, rel=1e-3)
    assert [t.interval.value for t in fit.terms] == pytest.approx(
        list(theirs.fe_params[1:]), abs=1e-5
    )


def test_a_covariate_enters_the_model_or_is_named_as_left_out(world: World) -> None:
    known = {c: float(i) for i, c in enumerate(world.languages)}
    features = {
        "order": known,
        "partial": {world.languages[0]: 1.0},
        "flat": dict.fromkeys(known, 1.0),
        "again": {c: x**2 for c, x in known.items()},
    }
    fit = fit_mixed(world.panels, find_configurations(world.runs), features)
    assert isinstance(fit, MixedFit)
    assert "order (per deviation)" in {t.name for t in fit.terms}
    n = fit.n_languages
    assert fit.left_out == (
        f"partial: not known of {n - (world.languages[0] != 'eng_Latn')} of {n} languages",
        "flat: the same in every language",
        f"again: {n} languages are too few for so many terms",
    )


def test_trainable_parameters_stand_in_the_place_of_rank_and_method(world: World) -> None:
    configurations = find_configurations(world.runs)
    by_rank, by_size = (fit_mixed(world.panels, configurations, size=s) for s in SIZES)
    assert isinstance(by_rank, MixedFit)
    assert isinstance(by_size, MixedFit)
    assert by_size.terms[0].name == "trainable parameters (per tenfold)"
    # They are proportional to the rank here: the same term in another unit.
    assert by_size.terms[0].interval.value == pytest.approx(
        by_rank.terms[0].interval.value * np.log2(10), rel=1e-3
    )
    assert by_size.terms[0].p == pytest.approx(by_rank.terms[0].p, abs=1e-3)


def test_a_singular_fit_is_said_to_be_one_and_a_simpler_one_is_made(world: World) -> None:
    # Every run is shifted to the same mean: less scatter between runs is left than chance makes.
    level = np.mean([m.mean(axis=1) for p in world.panels for m in p.scores.values()], axis=0)
    panels = [
        replace(p, scores={c: m - level[:, None] for c, m in p.scores.items()})
        for p in world.panels
    ]
    fit = fit_mixed(panels, find_configurations(world.runs))
    assert isinstance(fit, MixedFit)
    assert fit.is_singular
    assert "run" not in fit.model.split(" + ")
    assert any("singular, no variance is left for" in note for note in fit.notes)


def test_what_has_no_model_says_why(world: World) -> None:
    configurations = find_configurations(world.runs)
    same = [replace(p, scores={c: m * 0 for c, m in p.scores.items()}) for p in world.panels]
    flat = fit_mixed(same, configurations)
    assert isinstance(flat, NotFitted)
    assert "same score" in flat.why
    few = find_configurations([r for r in world.runs if r.cell.rank == 4])
    alike = fit_mixed(world.panels, [*few])
    assert isinstance(alike, NotFitted)
    assert "trained runs: 2" in alike.why

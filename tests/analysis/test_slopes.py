from dataclasses import replace

import numpy as np
import pytest
from benchmarks.calibration.world import Settings, World, draw_world

from maple.analysis.configurations import find_configurations
from maple.analysis.deltas import find_bases
from maple.analysis.effects import ALL_TASKS, find_effects
from maple.analysis.groups import LanguageGroup
from maple.analysis.means import mean_over_languages
from maple.analysis.run_means import run_means
from maple.analysis.slopes import LOW_MINUS_HIGH, Slope, find_slopes, fit_line


@pytest.fixture(scope="module")
def world() -> World:
    settings = Settings(ranks=(4, 16, 64), bits=(16, 4), n_tasks=2, n_languages=9, n_samples=60)
    return draw_world(settings, np.random.default_rng(5))


def slopes_of(world: World) -> list[Slope]:
    return find_slopes(world.panels, world.planned, find_configurations(world.runs))


def one(slopes: list[Slope], factor: str, group: str, task: str = ALL_TASKS) -> Slope:
    return next(s for s in slopes if (s.factor, s.group, s.task) == (factor, group, task))


@pytest.mark.parametrize("task", [0, 1])
def test_run_means_equal_the_mean_over_languages_of_the_same_contrast(
    world: World, task: int
) -> None:
    panel, weights = world.panels[task], {world.runs[3].run_id: 1.0, world.runs[7].run_id: -1.0}
    group = LanguageGroup(kind="all", name="all", languages=panel.languages)
    equal = dict.fromkeys(group.languages, 1 / len(group.languages))
    ours = run_means(panel, equal, list(weights))
    theirs = mean_over_languages(panel.contrasts(group.languages, weights))
    assert ours is not None
    found = ours.contrast(weights)
    assert (found.value, found.variance, found.df) == pytest.approx(
        (theirs.value, theirs.variance, theirs.df)
    )


def test_a_contrast_reaches_as_far_as_scores_of_0_and_1_take_it(world: World) -> None:
    panel, runs = world.panels[0], [run.run_id for run in world.runs[3:6]]
    languages = dict.fromkeys(panel.languages[:2], 0.5)
    weights = dict(zip(runs, (2.0, -1.5, -0.5), strict=True))
    extremes = []
    for pattern in np.ndindex(2, 2, 2):
        scores = {c: np.tile(np.array(pattern, float)[:, None], (1, 4)) for c in languages}
        extreme = replace(
            panel, run_ids=tuple(runs), scores=scores, items=dict.fromkeys(languages, np.arange(4))
        )
        found = run_means(extreme, languages, runs)
        assert found is not None
        extremes.append(abs(found.contrast(weights).value))
        assert found.contrast(weights).reach == pytest.approx(2.0)
    assert max(extremes) == pytest.approx(2.0)


def test_the_slope_is_least_squares_with_an_intercept_per_stratum(world: World) -> None:
    trained = [r for r in world.runs if r.cell.rank]
    codes = [c for c in world.languages if c != "eng_Latn"]
    scores = np.mean(
        [[p.scores[c].mean(axis=1) for c in codes] for p in world.panels], axis=(0, 1)
    )[[world.position(r.run_id) for r in trained]]
    strata = [(r.cell.quantization, r.cell.seed) for r in trained]
    design = np.array([[s == other for other in dict.fromkeys(strata)] for s in strata], float)
    x = np.log2([r.cell.rank or 1 for r in trained])
    expected = np.linalg.lstsq(np.column_stack([design, x]), scores, rcond=None)[0][-1]
    found = one(slopes_of(world), "rank", "non-english")
    assert found.value == pytest.approx(expected)
    assert found.scatter == "seeds"
    assert (found.n_runs, found.n_levels, found.n_tasks) == (len(trained), 3, 2)
    by_size = one(slopes_of(world), "parameters", "non-english")
    # Trainable parameters are proportional to the rank here.
    assert by_size.value == pytest.approx(expected * np.log2(10))
    assert by_size.p == pytest.approx(found.p)


def test_the_interaction_is_the_difference_of_the_two_groups_slopes(world: World) -> None:
    slopes = slopes_of(world)
    for factor in ("rank", "bits"):
        low, high = (one(slopes, factor, f"{x}-resource").value for x in ("low", "high"))
        assert one(slopes, factor, LOW_MINUS_HIGH).value == pytest.approx(low - high)


def test_two_levels_have_the_slope_of_their_difference(world: World) -> None:
    runs = tuple(r for r in world.runs if r.cell.rank in (None, 4, 64))
    smaller = replace(world, runs=runs)
    configurations = find_configurations(runs)
    effects = find_effects(world.panels, world.planned, configurations, find_bases(runs))
    effect = next(
        e for e in effects if (e.factor, e.task, e.group) == ("rank", ALL_TASKS, "low-resource")
    )
    slope = one(slopes_of(smaller), "rank", "low-resource")
    assert slope.value == pytest.approx(effect.value / 4)
    # Not exactly: the pseudo-pair of flips counts once for a difference, not for its quarter.
    assert slope.high - slope.low == pytest.approx((effect.high - effect.low) / 4, rel=0.02)


def test_one_seed_takes_the_scatter_around_the_line(world: World) -> None:
    runs = tuple(r for r in world.runs if r.cell.seed == 0)
    found = one(slopes_of(replace(world, runs=runs)), "rank", "non-english")
    assert found.scatter == "line"
    line = fit_line("rank", {"a": 1, "b": 2, "c": 4}, dict.fromkeys("abc", "s"))
    assert line is not None
    assert line.residual_df == 1
    y = np.array([0.3, 0.5, 0.4])
    fitted = np.polyval(np.polyfit([1, 2, 4], y, 1), [1, 2, 4])
    residuals = [sum(w[k] * v for k, v in zip("abc", y, strict=True)) for w in line.residuals]
    assert residuals == pytest.approx(list(y - fitted))


def test_other_languages_have_the_wider_interval_where_languages_differ(world: World) -> None:
    found = one(slopes_of(world), "rank", "non-english")
    assert found.low_elsewhere is not None
    assert found.high_elsewhere is not None
    assert found.low_elsewhere < found.value < found.high_elsewhere
    assert one(slopes_of(world), "rank", "english").low_elsewhere is None


def test_a_factor_that_does_not_vary_has_no_slope(world: World) -> None:
    runs = tuple(r for r in world.runs if r.cell.rank in (None, 4))
    assert {s.factor for s in slopes_of(replace(world, runs=runs))} == {"bits"}


def test_a_run_that_lacks_a_language_is_left_out(world: World) -> None:
    gone = world.runs[-1].run_id
    panel = world.panels[0]
    scores = {c: m.copy() for c, m in panel.scores.items()}
    scores[panel.languages[0]][panel.run_ids.index(gone)] = np.nan
    panels = (replace(panel, scores=scores), *world.panels[1:])
    found = find_slopes(panels, world.planned, find_configurations(world.runs))
    whole = slopes_of(world)
    group = next(
        g
        for g in ("low-resource", "high-resource", "english")
        if one(found, "rank", g).n_runs < one(whole, "rank", g).n_runs
    )
    assert one(found, "rank", group).n_runs == one(whole, "rank", group).n_runs - 1

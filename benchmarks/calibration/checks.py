"""Draws simulated studies of each kind and asks the analysis about them."""

from __future__ import annotations

import numpy as np

from benchmarks.calibration.estimates import (
    check_deltas,
    check_forgetting,
    check_gaps,
    check_pairs,
    check_scores,
    truth_of_delta,
)
from benchmarks.calibration.modelling import check_effects, check_mixed, check_slopes
from benchmarks.calibration.recommending import check_recommendation
from benchmarks.calibration.tally import Study
from benchmarks.calibration.tying import check_ties, has_winner
from benchmarks.calibration.world import Settings, draw_world
from maple.analysis.configurations import find_configurations
from maple.analysis.deltas import find_bases, language_deltas
from maple.analysis.effects import ALL_TASKS, find_effects, run_effects
from maple.analysis.intervals import benjamini_hochberg
from maple.analysis.slopes import find_slopes

ALPHA = 0.05
SIZES = {"languages": (12, 24, 40), "samples": (50, 100, 200)}
"""Drawn anew for each study: the sizes that benchmarks and studies have."""
Counts = dict[str, tuple[int, int]]


def study_with_effects(number: int, seed: int) -> Counts:
    """Five ranks, three widths, two seeds, six tasks: everything that the analysis estimates."""
    rng = np.random.default_rng((seed, 1, number))
    world = draw_world(_sized(rng), rng)
    study = Study()
    check_scores(world, study)
    check_deltas(world, study)
    check_pairs(world, study, rng)
    check_forgetting(world, study)
    check_effects(world, study, "")
    check_slopes(world, study, "")
    check_ties(world, study)
    check_mixed(world, study, rng)
    check_recommendation(world, study, rng)
    return study.counts()


def small_study(number: int, seed: int) -> Counts:
    """Two or three ranks, two widths, one to three seeds, two tasks, few languages.

    Languages' own slopes lie apart by half as much, as much, or three times as much as elsewhere.
    """
    rng = np.random.default_rng((seed, 2, number))
    n_seeds = int(rng.integers(1, 4))
    settings = Settings(
        ranks=((4, 16), (4, 16, 64))[int(rng.integers(2))],
        bits=(16, 4),
        n_seeds=n_seeds,
        n_tasks=2,
        n_languages=int(rng.choice([8, 12, 16])),
        n_samples=int(rng.choice(SIZES["samples"])),
        language_deviation=float(rng.choice([0.002, 0.004, 0.012])),
        has_reference=True,
    )
    world = draw_world(settings, rng)
    study = Study()
    check_gaps(world, study)
    label = f"small study, {n_seeds} seed{'s' * (n_seeds > 1)}: "
    # One seed: highest minus lowest covers test items alone, as it states.
    if n_seeds > 1:
        check_effects(world, study, label)
    check_slopes(world, study, label)
    check_mixed(world, study, rng, label)
    return study.counts()


def null_study(number: int, seed: int, settings: Settings | None = None) -> Counts:
    """Every run and the base are equal: nothing may be declared."""
    rng = np.random.default_rng((seed, 3, number))
    world = draw_world(settings or _sized(rng, n_tasks=3, is_null=True), rng)
    study = Study()
    bases = find_bases(world.runs)
    configurations = find_configurations(world.runs)
    over_tasks = run_effects(world.panels, world.planned, bases)
    told = [d.p_holm < ALPHA for d in over_tasks if d.group == "non-english"]
    study.note("null: a run told from its base, Holm over the runs", any(told))
    effects = find_effects(world.panels, world.planned, configurations, bases)
    told = [e.p_holm < ALPHA for e in effects if e.task == ALL_TASKS]
    study.note("null: an effect of a factor, Holm over all effects", any(told))
    slopes = find_slopes(world.panels, world.planned, configurations)
    told = [s.p_holm < ALPHA for s in slopes if s.task == ALL_TASKS]
    study.note("null: a slope, Holm over all slopes", any(told))
    study.note("null: a winner, pairs of all configurations, Holm", has_winner(world))
    check_recommendation(world, study, rng)
    return study.counts()


def half_null_study(number: int, seed: int) -> Counts:
    """Tuning changes half of the languages of a task: what is told of the other half is false."""
    rng = np.random.default_rng((seed, 4, number))
    world = draw_world(_sized(rng, n_tasks=2, half_null=True), rng)
    study = Study()
    bases = find_bases(world.runs)
    for task, panel in enumerate(world.panels):
        deltas = language_deltas(panel, bases)
        truth = np.array([truth_of_delta(world, d, task, [d.group]) for d in deltas])
        is_null = np.abs(truth) < 1e-12
        holm = np.array([d.p_holm for d in deltas]) < ALPHA
        study.note("half null: a study with a false finding, Holm", bool(holm[is_null].any()))
        found = np.array(benjamini_hochberg([d.p for d in deltas])) < ALPHA
        for is_false in is_null[found]:
            study.note("half null: of the findings, false, Benjamini-Hochberg", bool(is_false))
        single = np.array([d.p for d in deltas])[is_null] < ALPHA
        for is_false in single:
            study.note("half null: p < 0.05 of a true null, unadjusted", bool(is_false))
    return study.counts()


def _sized(rng: np.random.Generator, **changes: object) -> Settings:
    sizes = {f"n_{name}": int(rng.choice(choices)) for name, choices in SIZES.items()}
    return Settings(**(sizes | changes))  # type: ignore[arg-type]

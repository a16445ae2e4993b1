from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.calibration.world import Settings, draw_world
from tests.analysis.synthetic import TASKS, Run, StoreBuilder

from maple.analysis.configurations import find_configurations
from maple.analysis.features import (
    absent_features,
    distances,
    language_features,
    training_languages,
)
from maple.analysis.modes import find_modes
from maple.analysis.scaling_runs import find_scaling
from maple.store.read import open_store

BASE = Run(method="none", rank=None)


def test_features_come_from_rows_table_and_plan(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE], pretraining_shares={"eng_Latn": 0.1, "tha_Thai": 0})
    builder.run(BASE)
    for task in TASKS:
        for language in ("eng_Latn", "tha_Thai"):
            builder.evaluation(BASE, task, language, np.array([1.0, 0.0]))
    store = open_store(tmp_path)
    runs = store.runs()
    modes, _ = find_modes(store.evaluations(), runs)
    found = language_features(store, modes, runs, ["eng_Latn", "tha_Thai", "yor_Latn"])
    # Three options of one token each: "yes", "also" and "no" are nine characters.
    assert found["fertility"] == pytest.approx({"eng_Latn": 1 / 3, "tha_Thai": 1 / 3})
    assert found["non-Latin script"] == {"eng_Latn": 0, "tha_Thai": 1, "yor_Latn": 0}
    assert found["pretraining share (log10)"] == pytest.approx({"eng_Latn": -1})
    assert "distance to the training languages" not in found
    (reason,) = absent_features(found)
    assert reason.startswith("distance to the training languages: the mixtures name no languages")


def test_distance_counts_family_and_script() -> None:
    codes = ["swh_Latn", "yor_Latn", "eng_Latn", "arb_Arab", "xxx_Latn"]
    assert distances({"swh_Latn"}, codes) == {
        "swh_Latn": 0,
        "yor_Latn": 1,
        "eng_Latn": 2,
        "arb_Arab": 3,
    }
    assert distances(set(), codes) == {}


def test_training_languages_are_unknown_where_a_part_takes_all() -> None:
    world = draw_world(Settings(n_tasks=1, n_languages=4, n_samples=4), np.random.default_rng(0))
    run = world.runs[-1]

    def trained_on(*languages: list[str]) -> set[str]:
        parts = [{"dataset": "d", "languages": names} for names in languages]
        return training_languages([replace(run, spec={"mixture": {"parts": parts}})])

    assert trained_on(["swh_Latn"], ["tha_Thai"]) == {"swh_Latn", "tha_Thai"}
    assert trained_on(["swh_Latn"], []) == set()
    assert training_languages([replace(run, spec={"mixture": {"parts": ["d"]}})]) == set()


def test_scaling_is_fitted_per_series_and_quantization() -> None:
    settings = Settings(bits=(16, 4), n_tasks=2, n_languages=6, n_samples=40)
    world = draw_world(settings, np.random.default_rng(5))
    found = find_scaling(world.panels, world.planned, find_configurations(world.runs))
    assert len(found) == 2 * 2 * 2
    line = next(f.fit.line for f in found if f.quantity == "score" and f.fit.line)
    assert (line.n_runs, line.n_sizes) == (10, 5)
    # Every run was trained on as many tokens.
    assert all(f.fit.line is None for f in found if f.fit.against == "training tokens")


def test_a_language_that_one_run_alone_has_does_not_take_the_others_scores() -> None:
    settings = Settings(bits=(16,), n_tasks=1, n_languages=5, n_samples=20)
    world = draw_world(settings, np.random.default_rng(6))
    panel, code = world.panels[0], world.languages[0]
    scores = {c: m.copy() for c, m in panel.scores.items()}
    scores[code][1:] = np.nan
    configurations = find_configurations(world.runs)
    found = find_scaling([replace(panel, scores=scores)], world.planned, configurations)
    line = next(f.fit.line for f in found if f.quantity == "score" and f.fit.line)
    assert line.n_runs == 10

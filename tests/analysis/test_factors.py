from pathlib import Path

import pytest
from tests.analysis.synthetic import STUDY_RUNS, TASKS, Run, StoreBuilder, build_study, draw

from maple.analysis import summarise
from maple.analysis.effects import ALL_TASKS
from maple.analysis.factors import Factors
from maple.store.read import open_store


@pytest.fixture(scope="module")
def factors(tmp_path_factory: pytest.TempPathFactory) -> Factors:
    directory = tmp_path_factory.mktemp("study")
    build_study(directory, n=40)
    return summarise(open_store(directory)).factors


def test_a_store_has_slopes_by_resource_class(factors: Factors) -> None:
    found = {(s.factor, s.group) for s in factors.slopes if s.task == ALL_TASKS}
    assert {("rank", "low-resource"), ("rank", "high-resource"), ("bits", "low-resource")} <= found
    rank = next(s for s in factors.slopes if (s.factor, s.group) == ("rank", "low-resource"))
    # Of the nine runs with answers one lacks two languages.
    assert (rank.n_runs, rank.n_levels, rank.n_tasks) == (7, 2, 2)
    # Truth is 2 points a doubling, but for what half scores take off.
    assert rank.low < 0.02 < rank.high


def test_a_store_has_both_models_and_says_what_is_missing(factors: Factors) -> None:
    assert [fit.size for fit in factors.models] == ["rank", "parameters"]
    assert factors.models[0].n_languages == 5
    assert [r.partition(":")[0] for r in factors.not_estimated] == [
        "distance to the training languages",
        "pretraining share (log10)",
    ]
    assert {"fertility", "non-Latin script"} == set(factors.features)
    assert all(found.fit.why_not for found in factors.scaling if found.fit.line is None)


def test_a_single_run_has_reasons_instead_of_numbers(tmp_path: Path) -> None:
    builder, base, tuned = StoreBuilder(tmp_path), STUDY_RUNS[0], Run(rank=8)
    builder.study([base, tuned])
    for run in (base, tuned):
        builder.run(run)
        builder.evaluation(run, TASKS[0], "swh_Latn", draw(run, TASKS[0], "swh_Latn", 20))
    found = summarise(open_store(tmp_path)).factors
    assert (found.slopes, found.models) == ((), ())
    assert "slope on rank: every trained run has 8" in found.not_estimated
    assert "slope on bits: every trained run has 16" in found.not_estimated
    assert any(r.startswith("mixed model: trained runs: 1") for r in found.not_estimated)


def test_a_store_without_trained_answers_says_so(tmp_path: Path) -> None:
    builder, base = StoreBuilder(tmp_path), STUDY_RUNS[0]
    builder.study([base])
    builder.run(base)
    found = summarise(open_store(tmp_path)).factors
    assert found.not_estimated == ("slopes and models: no trained run has a finished answer",)

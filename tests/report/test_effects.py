"""The section on effects: what its sentences say, and what its files hold."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.analysis.synthetic import build_study

from maple.analysis import summarise
from maple.analysis.factors import Factors
from maple.analysis.intervals import Interval
from maple.analysis.mixed import LEAST_SQUARES, MixedFit, Term
from maple.analysis.slopes import LOW_MINUS_HIGH, Slope
from maple.report.effects import effects_section, write_effects
from maple.report.page import render
from maple.store.read import open_store

SLOPE = Slope(
    task="mean over tasks", factor="rank", unit="per doubling of the rank", group="low-resource",
    value=0.0042, low=0.001, high=0.0074, p=0.001, p_holm=0.01, low_elsewhere=-0.001,
    high_elsewhere=0.009, df=20, scatter="seeds", n_runs=30, n_levels=5, n_languages=6, n_tasks=2,
)  # fmt: skip
FIT = MixedFit(
    size="rank", model="language + task + run", is_singular=True,
    notes=(
        "language + task + run + benchmark: singular, no variance is left for benchmark",
    ),
    terms=(Term(name="rank (per doubling)", interval=Interval(0.003, -0.001, 0.007), p=0.1, df=9),),
    left_out=("script: the same in every language",), deviations={"language": 0.02, "rest": 0.04},
    n_cells=360, n_runs=30, n_tasks=2, n_languages=6,
)  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_slopes_are_told_per_resource_class_in_words() -> None:
    high = replace(SLOPE, group="high-resource", value=-0.0005, low=-0.003, high=0.002,
                   p_holm=1.0, n_languages=5)  # fmt: skip
    both = replace(SLOPE, group=LOW_MINUS_HIGH, value=0.0047, n_languages=11)
    section = effects_section(Factors(slopes=(SLOPE, high, both)))
    assert section["sentences"] == [
        "Each doubling of the rank changes the score by +0.42 points [+0.10, +0.74] in 6 "
        "low-resource languages and by −0.05 points [−0.30, +0.20], not told from zero, in 5 "
        "high-resource languages; the two slopes differ by +0.47 points [+0.10, +0.74] (mean over "
        "2 tasks, 30 runs of 5 ranks; repeated seeds say how far runs scatter)."
    ]
    assert [row["is_told"] for row in section["slopes"]] == [True, False, True]


def test_a_singular_fit_is_told_with_what_it_fell_back_to() -> None:
    section = effects_section(Factors(models=(FIT,), not_estimated=("slope on bits: none",)))
    assert section["sentences"] == [
        "The model with rank and method was fitted to 360 cells (30 runs, 2 tasks, 6 languages) "
        "with random intercepts for language, task and run (the seed's). A richer fit was "
        "singular: the whole model: singular, no variance is left for benchmark."
    ]
    simple = replace(FIT, model=LEAST_SQUARES, notes=("x",), is_singular=False)
    (sentence,) = effects_section(Factors(models=(simple,)))["sentences"]
    assert "by least squares with an intercept per task and language. It is not" in sentence


def test_nothing_found_is_an_empty_section() -> None:
    assert effects_section(Factors())["is_empty"]


def test_files_hold_every_number(tmp_path: Path) -> None:
    features = {"fertility": {"swh_Latn": 0.3}}
    write_effects(Factors(slopes=(SLOPE,), models=(FIT,), features=features), tmp_path)
    (slope,) = rows_of(tmp_path / "slopes.csv")
    assert float(slope["value"]) == SLOPE.value
    (term,) = rows_of(tmp_path / "mixed_terms.csv")
    assert (term["term"], float(term["high"])) == ("rank (per doubling)", 0.007)
    (model,) = rows_of(tmp_path / "mixed_models.csv")
    assert json.loads(model["deviations"]) == {"language": 0.02, "rest": 0.04}
    (language,) = rows_of(tmp_path / "language_features.csv")
    assert language["language_name"] == "Swahili"
    content = json.loads((tmp_path / "factors.json").read_text())
    assert content["models"][0]["notes"] == list(FIT.notes)
    assert not (tmp_path / "scaling.csv").exists()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("study")
    build_study(directory, n=20)
    store = open_store(directory)
    return render(store, summarise(store), {})


def test_the_page_has_the_section_with_its_slopes_model_and_reasons(page: str) -> None:
    assert '<a href="#factors">' in page
    for text in (
        "Each doubling of the rank changes the score by",
        "The model with trainable parameters was fitted to",
        "Languages like these",
        "pretraining share (log10): study.json states no pretraining_shares",
        "tables/mixed_terms.csv",
    ):
        assert text in page

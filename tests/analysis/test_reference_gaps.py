from pathlib import Path

import numpy as np
import pytest
from tests.analysis.synthetic import Run, StoreBuilder, Task

from maple.analysis import summarise
from maple.analysis.intervals import student_quantile
from maple.analysis.modes import Mode
from maple.analysis.reference_gaps import NOT_BELOW, UNBOUNDED, fieller
from maple.analysis.references import DIRECTORY, Reference, published
from maple.errors import CatalogError
from maple.store.read import open_store

XCOPA = Task(name="xcopa", chance_level=0.5, headline="accuracy", languages=("swh_Latn",))
BASE, TUNED = Run(method="none", rank=None), Run(rank=8)
LARGE = Run(method="none", rank=None, model="large")


def answers(share: float, n: int = 500, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).permutation(n) < share * n).astype(float)


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("gaps")
    builder = StoreBuilder(directory)
    builder.study([BASE, TUNED, LARGE], tasks=[XCOPA])
    for seed, (run, share) in enumerate([(BASE, 0.5), (TUNED, 0.6), (LARGE, 0.9)]):
        for code in ("swh_Latn", "tur_Latn", "zsm_Latn"):
            builder.evaluation(run, XCOPA, code, answers(share, seed=seed))
    found = summarise(open_store(directory)).reference_gaps
    return {(g.reference, g.group): g for g in found}


def test_a_model_of_the_study_is_a_reference_paired_on_the_same_samples(gaps) -> None:
    gap = gaps["large (bf16)", "swh_Latn"]
    assert (gap.kind, gap.source, gap.run_id) == ("evaluated", LARGE.id, TUNED.id)
    assert (gap.run_score, gap.base_score, gap.reference_score) == pytest.approx((0.6, 0.5, 0.9))
    assert gap.closed == pytest.approx(0.25)
    assert gap.is_same_mode
    # The limits are the shares at which the rest is just not told from 0: Fieller's definition.
    base, run, large = (answers(s, seed=i) for i, s in enumerate((0.5, 0.6, 0.9)))
    for share in (gap.low, gap.high):
        rest = run - base - share * (large - base)
        error = np.sqrt(rest.var(ddof=1) / 500)
        assert abs(rest.mean()) / error == pytest.approx(student_quantile(499), rel=0.01)


def test_a_published_score_says_how_it_was_asked_otherwise(gaps) -> None:
    gap = gaps["Llama-2-7b", "swh_Latn"]
    assert (gap.kind, gap.reference_score) == ("published", pytest.approx(0.522))
    assert gap.closed == pytest.approx(0.1 / 0.022)
    assert (gap.low, gap.high, gap.note) == (None, None, UNBOUNDED)
    assert not gap.is_same_mode
    assert gap.differences == "form lm-eval (ours: mega); split not stated (ours: test)"


def test_a_mean_is_over_the_languages_that_the_reference_has(gaps) -> None:
    gap = gaps["Llama-2-7b", "all"]
    assert (gap.n_languages, gap.n_languages_planned) == (2, 3)
    assert gap.reference_score == pytest.approx((0.522 + 0.546) / 2)
    assert ("Llama-2-7b", "zsm_Latn") not in gaps


def test_a_model_that_was_asked_otherwise_is_a_reference_that_says_so(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE, TUNED, LARGE], tasks=[XCOPA])
    for seed, (run, share) in enumerate([(BASE, 0.5), (TUNED, 0.6)]):
        builder.evaluation(run, XCOPA, "swh_Latn", answers(share, seed=seed))
    prompt = {"form": "mega", "instruction_language": "english", "template": "plain", "shots": 8}
    builder.evaluation(LARGE, XCOPA, "swh_Latn", answers(0.9), prompt=prompt, split="validation")
    found = summarise(open_store(tmp_path)).reference_gaps
    gap = next(g for g in found if (g.reference, g.group) == ("large (bf16)", "swh_Latn"))
    assert (gap.kind, gap.source, gap.run_id) == ("evaluated", LARGE.id, TUNED.id)
    assert (gap.closed, gap.reference_score) == (pytest.approx(0.25), pytest.approx(0.9))
    assert not gap.is_same_mode
    assert gap.differences == "shots 8 (ours: 0); split validation (ours: test)"


def test_a_base_at_the_reference_has_no_gap_to_close(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE, TUNED], tasks=[XCOPA])
    for run in (BASE, TUNED):
        builder.evaluation(run, XCOPA, "swh_Latn", answers(0.8))
    gap = next(g for g in summarise(open_store(tmp_path)).reference_gaps if g.group == "swh_Latn")
    assert (gap.closed, gap.low, gap.note) == (None, None, NOT_BELOW)


def test_fiellers_limits_hold_the_true_ratio() -> None:
    rng, covered, n_drawn = np.random.default_rng(0), 0, 600
    for _ in range(n_drawn):
        base, run, far = rng.normal([0.0, 0.3, 1.0], 1.0, (60, 3)).T
        pair = np.cov(run - base, far - base) / 60
        limits = fieller(
            np.mean(run - base),
            np.mean(far - base),
            (pair[0, 0], pair[1, 1], pair[0, 1]),
            59,
        )
        covered += limits is not None and limits[0] <= 0.3 <= limits[1]
    assert 0.93 <= covered / n_drawn <= 0.97
    assert fieller(0.1, 0.01, (1.0, 1.0, 0.0), 59) is None


def test_shipped_scores_are_whole_and_name_their_source() -> None:
    shipped = published()
    assert {path.suffix for path in DIRECTORY.iterdir()} == {".yaml", ".md"}
    assert {r.task for r in shipped} == {"xcopa", "xnli", "xstorycloze"}
    assert all(r.source and r.asked["form"] for r in shipped)
    llama = next(r for r in shipped if (r.name, r.task) == ("Llama-2-7b", "xcopa"))
    assert len(llama.scores) == 11
    assert (llama.scores["swh_Latn"], llama.scores["zho_Hans"]) == (0.522, 0.65)


def test_scores_of_the_release_are_those_shipped(shared_data: Path) -> None:
    path = shared_data / "mega_reference" / "few_shot_v_acc.csv"
    if not path.exists():
        pytest.skip("the release's table of few-shot accuracies is not here")
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    names = {"English": "eng_Latn", "Haitian Creole": "hat_Latn", "Tamil": "tam_Taml"}
    names |= {"Swahili": "swh_Latn", "Urdu": "urd_Arab"}
    released = {(r[1].lower(), names[r[2]]): float(r[4]) for r in rows if r[3] == "8"}
    ours = {
        (r.task, c): s
        for r in published()
        if r.name == "GPT-3.5-turbo"
        for c, s in r.scores.items()
    }
    assert ours.keys() == released.keys()
    assert ours == pytest.approx(released, abs=0.0005)


@pytest.mark.parametrize(
    "content", ["reference: x", "- a", "unit: percent\nscores: {xnli: {sw: 3}}", "\tx"]
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(CatalogError, match=r"x\.yaml is no file of published scores"):
        published(tmp_path)


def test_a_score_beyond_its_unit_is_refused(tmp_path: Path) -> None:
    text = (DIRECTORY / "gpt-3.5-turbo-few-shot.yaml").read_text()
    (tmp_path / "x.yaml").write_text(text.replace("unit: percent", "unit: share"))
    with pytest.raises(CatalogError, match="see its unit"):
        published(tmp_path)


def test_what_was_asked_alike_has_no_difference() -> None:
    reference = Reference(
        name="m",
        source="s",
        task="t",
        metric="score",
        asked={"form": "mega", "shots": 0, "split": "test"},
        scores={},
    )
    settings = {"split": "test", "prompt": {"form": "mega", "shots": 0}}
    mode = Mode(label="t", task="t", settings=settings, evaluations={})
    assert reference.differences(mode) == ()

"""Two runs compared on the samples that both answered, against scipy and the definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control, t, ttest_rel
from tests.analysis.synthetic import (
    GENERATION,
    RANKING,
    Run,
    StoreBuilder,
    Task,
    Truth,
    draw,
    rising_truth,
)

from maple.analysis.compare import Comparison, Comparisons, compare
from maple.analysis.compare_read import Opened, Side, find_runs, match_runs
from maple.errors import StoreError, UsageError
from maple.store.read import open_store

CODES = ("eng_Latn", "swh_Latn", "tha_Thai")
TASKS = (
    Task(name=RANKING, chance_level=1 / 3, headline="accuracy", languages=CODES),
    Task(name=GENERATION, chance_level=None, headline="f1", languages=CODES),
)
A, B = Run(rank=4), Run(rank=16, quantization="nf4")
N = 80


def build(
    directory: Path, *runs: Run, first: int = 0, truth: Truth = rising_truth, **spec: Any
) -> Path:
    """A store of some runs on samples ``first`` to ``N``."""
    builder = StoreBuilder(directory)
    builder.study(runs, TASKS)
    for run in runs:
        builder.run(run, steps=2)
        for task in TASKS:
            for code in CODES:
                ids = [f"{i:05d}" for i in range(first, N)]
                scores = draw(run, task, code, N, truth)[first:]
                builder.evaluation(run, task, code, scores, sample_ids=ids, **spec)
    return directory


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("both"), A, B)


def one(path: Path, run: Run, name: str = "") -> Side:
    opened = Opened(open_store(path))
    return Side(opened=opened, runs=find_runs(opened, run.id), store_name=name)


@pytest.fixture(scope="module")
def found(store: Path) -> Comparison:
    (pair,) = compare([(one(store, A), one(store, B))]).pairs
    return pair


def test_a_cell_of_accuracies_is_mcnemars_test(found: Comparison) -> None:
    a, b = (draw(run, TASKS[0], "swh_Latn", N) for run in (A, B))
    row = next(c for c in found.cells if (c.task, c.language) == (RANKING, "swh_Latn"))
    wins = int((b > a).sum()), int((a > b).sum())
    assert (row.wins_b, row.wins_a) == wins
    assert row.p == pytest.approx(binomtest(wins[0], sum(wins)).pvalue)
    assert row.difference == pytest.approx(b.mean() - a.mean())
    assert (row.score_a, row.score_b) == pytest.approx((a.mean(), b.mean()))
    assert row.test == "mcnemar exact"


def test_a_cell_of_f1_is_a_paired_t_test(found: Comparison) -> None:
    a, b = (draw(run, TASKS[1], "swh_Latn", N) for run in (A, B))
    row = next(c for c in found.cells if (c.task, c.language) == (GENERATION, "swh_Latn"))
    # One pseudo-pair of flips makes ours a little wider (docs/statistics.md).
    assert row.p == pytest.approx(ttest_rel(b, a).pvalue, abs=0.02)
    assert row.p >= ttest_rel(b, a).pvalue
    assert row.test == "student"


def test_adjusted_p_values_are_holms_and_benjamini_hochbergs(found: Comparison) -> None:
    p = np.array([c.p for c in found.cells])
    assert [c.p_bh for c in found.cells] == pytest.approx(false_discovery_control(p))
    smallest = int(p.argmin())
    assert found.cells[smallest].p_holm == pytest.approx(min(1.0, p[smallest] * p.size))
    assert all(c.p_bh <= c.p_holm + 1e-12 for c in found.cells)


def test_the_mean_counts_languages_and_tasks_alike(found: Comparison) -> None:
    by_task = [
        np.mean([c.difference for c in found.cells if c.task == task.name]) for task in TASKS
    ]
    assert [m.difference for m in found.means] == pytest.approx([*by_task, np.mean(by_task)])
    assert found.overall.n == 2 * 3 * N
    assert found.overall.low < found.overall.difference < found.overall.high


def test_settings_that_differ_are_listed_and_others_are_not(found: Comparison) -> None:
    differ = {s.key: (s.a, s.b) for s in found.settings}
    assert differ == {
        "method.parameters.rank": ("4", "16"),
        "quantization": ('"bf16"', '"nf4"'),
    }


def test_two_stores_pair_the_runs_they_share_on_the_samples_they_share(
    store: Path, tmp_path: Path
) -> None:
    other = build(tmp_path / "other", A, first=30)
    ((left, right),) = match_runs(Opened(open_store(store)), Opened(open_store(other)))
    assert left.run_id == right.run_id == A.id
    (found,) = compare([(one(store, A, "one"), one(other, A, "other"))]).pairs
    # Only the samples of both enter, and on these the answers are the same.
    assert {c.n for c in found.cells} == {N - 30}
    assert found.overall.difference == 0
    assert {c.verdict for c in found.cells} == {"tied"}
    assert (found.store_a, found.label_a, found.label_b) == (
        "one",
        "lora rank=4 · bf16",
        "lora rank=4",
    )


def test_several_pairs_are_one_family(store: Path, tmp_path: Path) -> None:
    def shift(run: Run, task: Task, language: str) -> float:
        return rising_truth(run, task, language) - 0.2

    other = build(tmp_path / "other", A, B, truth=shift)
    pairs = [(one(store, run), one(other, run)) for run in (A, B)]
    both: Comparisons = compare(pairs)
    p = np.array([c.p for pair in both.pairs for c in pair.cells])
    assert p.size == 12
    assert both.pairs[0].cells[0].p_holm == pytest.approx(holm(p)[0])
    overall = [pair.overall for pair in both.pairs]
    assert [m.p_holm for m in overall] == pytest.approx(holm(np.array([m.p for m in overall])))
    assert "over 12 cells" in both.multiplicity
    assert "over 2 pairs" in both.multiplicity


def holm(p: np.ndarray) -> np.ndarray:
    """The definition: the running maximum of the sorted p times how many are left."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(p.size, 0, -1)))
    return adjusted[np.argsort(order)]


def test_a_pair_without_common_samples_is_named_beside_the_others(
    store: Path, tmp_path: Path
) -> None:
    late = StoreBuilder(tmp_path)
    late.study([A, B], TASKS)
    for run, ids in ((A, [f"{i:05d}" for i in range(3)]), (B, ["x", "y", "z"])):
        late.run(run, steps=2)
        late.evaluation(run, TASKS[0], "swh_Latn", np.ones(3), sample_ids=ids)
    found = compare([(one(store, run), one(tmp_path, run)) for run in (A, B)])
    assert [pair.run_a for pair in found.pairs] == [A.id]
    assert len(found.without) == 1


def test_other_prompts_are_flagged(store: Path, tmp_path: Path) -> None:
    prompt = {"form": "lm-eval", "template": "plain", "shots": 3}
    other = build(tmp_path / "other", A, prompt=prompt)
    (found,) = compare([(one(store, A), one(other, A))]).pairs
    assert "form mega against lm-eval" in found.cells[0].mode_differences
    assert "shots 0 against 3" in found.overall.mode_differences
    assert any("asked differently" in note for note in found.notes)


def test_runs_are_named_by_id_its_beginning_or_label(store: Path) -> None:
    opened = Opened(open_store(store))
    assert [run.run_id for run in find_runs(opened, A.id[:8])] == [A.id]
    assert [run.run_id for run in find_runs(opened, A.label)] == [A.id]
    assert [run.run_id for run in find_runs(opened, "lora rank=4 · bf16")] == [A.id]
    with pytest.raises(UsageError, match=f"no run 'zzz'. These are: {A.id}"):
        find_runs(opened, "zzz")
    with pytest.raises(UsageError, match="'lora rank=' names several runs"):
        find_runs(opened, "lora rank=")
    with pytest.raises(UsageError, match="no run ''"):
        find_runs(opened, "")


def test_a_name_of_several_runs_is_refused_with_their_ids(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([A, B], TASKS)
    for run in (A, B):
        builder.run(run, steps=2)
        folder = tmp_path / "study.json"
        study = json.loads(folder.read_text("utf-8"))
        for cell in study["cells"]:
            cell["label"] = "the same"
        folder.write_text(json.dumps(study), "utf-8")
    with pytest.raises(UsageError, match="'the same' names several runs"):
        find_runs(Opened(open_store(tmp_path)), "the same")


def test_stores_without_a_common_run_or_sample_are_refused(tmp_path: Path, store: Path) -> None:
    stranger = build(tmp_path / "stranger", Run(rank=64))
    with pytest.raises(UsageError, match="no run in common"):
        match_runs(Opened(open_store(store)), Opened(open_store(stranger)))
    late = StoreBuilder(tmp_path / "late")
    late.study([B], TASKS)
    late.run(B, steps=2)
    late.evaluation(B, TASKS[0], "swh_Latn", np.ones(3), sample_ids=["x", "y", "z"])
    with pytest.raises(StoreError, match="no finished sample in common"):
        compare([(one(stranger, Run(rank=64)), one(tmp_path / "late", B))])


# ------------------------------------------------------------------------- configurations

SEEDS = {rank: [Run(rank=rank, seed=seed) for seed in (0, 1, 2)] for rank in (4, 16)}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Three seeds of two ranks, which lie 6 points apart, and a fourth without answers."""

    def truth(run: Run, task: Task, language: str) -> float:
        return rising_truth(run, task, language) + 0.06 * (run.seed - 1)

    runs = [run for group in SEEDS.values() for run in group]
    directory = build(tmp_path_factory.mktemp("seeded"), *runs, truth=truth)
    late = Run(rank=4, seed=3)
    StoreBuilder(directory).run(late, steps=2)
    return Opened(open_store(directory))


def sides(opened: Opened, *names: str) -> tuple[Side, Side]:
    a, b = (Side(opened=opened, runs=find_runs(opened, name)) for name in names)
    return a, b


def test_a_label_without_its_seed_names_every_scored_seed(seeded: Opened) -> None:
    a, _ = sides(seeded, "lora rank=4", "lora rank=16")
    assert [run.run_id for run in a.runs] == [run.id for run in SEEDS[4]]
    assert a.label == "lora rank=4 (3 seeds)"
    assert [r.run_id for r in find_runs(seeded, "lora rank=4 · seed 1")] == [SEEDS[4][1].id]
    with pytest.raises(UsageError, match="names several runs"):
        find_runs(seeded, "lora rank=")


def test_seeds_are_a_random_factor(seeded: Opened) -> None:
    (found,) = compare([sides(seeded, "lora rank=4", "lora rank=16")]).pairs
    (alone,) = compare([sides(seeded, SEEDS[4][1].id, SEEDS[16][1].id)]).pairs

    def means(rank: int) -> np.ndarray:
        """Per seed: the mean over tasks of the means over languages."""

        def score(run: Run, task: Task) -> float:
            def truth(r: Run, t: Task, language: str) -> float:
                return rising_truth(r, t, language) + 0.06 * (r.seed - 1)

            return float(np.mean([draw(run, task, code, N, truth).mean() for code in CODES]))

        return np.array([np.mean([score(r, task) for task in TASKS]) for r in SEEDS[rank]])

    small, large = means(4), means(16)
    overall = found.overall
    assert overall.difference == pytest.approx(large.mean() - small.mean())
    # What other seeds would give holds that of other items too: the t-test over the six seeds is
    # near, and items that all six share are what it lacks.
    pooled = (small.var(ddof=1) + large.var(ddof=1)) / 3
    half = t.ppf(0.975, 4) * pooled**0.5
    assert (overall.high - overall.low) / 2 == pytest.approx(half, rel=0.25)
    assert found.seed_deviation == pytest.approx(0.06, abs=0.03)
    assert overall.high - overall.low > alone.overall.high - alone.overall.low
    assert {row.test for row in found.cells} == {"student"}
    assert any("seeds are a random factor" in note for note in found.notes)
    assert not any("two runs, not two configurations" in note for note in found.notes)
    assert "seed" not in {setting.key for setting in found.settings}


def test_a_cell_that_one_seed_lacks_is_named_and_left_out(tmp_path: Path) -> None:
    runs = [SEEDS[4][0], SEEDS[4][1], SEEDS[16][0]]
    directory = build(tmp_path, *runs)
    lacking = next(
        folder
        for folder in (directory / "evals").iterdir()
        if (spec := json.loads((folder / "spec.json").read_text("utf-8")))["language"] == "swh_Latn"
        and spec["run_id"] == runs[1].id
        and spec["task"] == RANKING
    )
    (lacking / "done").unlink()
    opened = Opened(open_store(directory))
    (found,) = compare([sides(opened, "lora rank=4", "lora rank=16")]).pairs
    assert len(found.cells) == 5
    assert any(f"not every seed has finished {RANKING} swh_Latn" in note for note in found.notes)
    assert (len(found.runs_a), len(found.runs_b)) == (2, 1)

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from tests.analysis.synthetic import (
    GENERATION,
    LANGUAGES,
    PARTIAL,
    RANKING,
    STUDY_RUNS,
    TASKS,
    WITHOUT_SAMPLES,
    Run,
    StoreBuilder,
    build_study,
    draw,
)

from maple import languages
from maple.analysis import Summary, summarise
from maple.errors import StoreError
from maple.store.read import open_store

N = 60
BASE, TUNED = Run(method="none", rank=None), Run(rank=8)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("study")
    build_study(directory, n=N)
    return directory


@pytest.fixture(scope="module")
def summary(study: Path) -> Summary:
    return summarise(open_store(study))


@pytest.fixture(scope="module")
def truth(study: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """Scores by (task, run, language) and sample, read without the program's own reader."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for part in study.glob("evals/*/part-*.parquet"):
        if (part.parent / "done").exists():
            for row in pq.ParquetFile(part).read().to_pylist():
                key = (row["task"], row["run_id"], row["language"])
                found.setdefault(key, {})[row["sample_id"]] = row["score"]
    return found


def test_every_score_is_the_mean_of_its_samples(summary, truth) -> None:
    scores = {(s.task, s.run_id, s.language): s for s in summary.estimates.scores}
    assert scores.keys() == truth.keys()
    for key, samples in truth.items():
        assert scores[key].n == N
        assert scores[key].score == pytest.approx(np.mean(list(samples.values())))


def test_scores_of_a_ranking_task_have_wilsons_interval(summary, truth) -> None:
    for score in (s for s in summary.estimates.scores if s.task == RANKING):
        hits = int(sum(truth[score.task, score.run_id, score.language].values()))
        low, high = stats.binomtest(hits, N).proportion_ci(method="wilson")
        assert (score.low, score.high) == pytest.approx((low, high))
        assert score.is_above_chance == (low > 1 / 3)


def test_a_task_without_a_chance_level_is_not_held_against_one(summary) -> None:
    assert all(s.is_above_chance is None for s in summary.estimates.scores if s.task == GENERATION)


def test_a_mean_counts_each_language_once(summary, truth) -> None:
    for mean in summary.estimates.means:
        wanted = {
            "all": set(LANGUAGES),
            "non-english": set(LANGUAGES) - {"eng_Latn"},
        }.get(mean.group)
        if wanted is not None:
            present = [c for c in wanted if (mean.task, mean.run_id, c) in truth]
            cells = [list(truth[mean.task, mean.run_id, c].values()) for c in present]
            assert mean.score == pytest.approx(np.mean([np.mean(c) for c in cells]))
            assert (mean.n_languages, mean.n_languages_planned) == (len(present), len(wanted))


def test_resource_classes_are_those_of_the_language_table(summary) -> None:
    mean = next(m for m in summary.estimates.means if m.group == "class 2")
    expected = [c for c in LANGUAGES if languages.find(c).resource_class == 2]
    assert mean.n_languages_planned == len(expected) > 0


def test_a_delta_is_the_paired_difference_to_the_base_at_the_same_bits(summary, truth) -> None:
    bits = {run.id: run.quantization for run in STUDY_RUNS}
    assert summary.estimates.deltas
    for delta in summary.estimates.deltas:
        assert bits[delta.run_id] == bits[delta.base_run_id]
        tuned = truth[delta.task, delta.run_id, delta.group]
        base = truth[delta.task, delta.base_run_id, delta.group]
        difference = np.array([tuned[i] - base[i] for i in tuned])
        error = (difference.var(ddof=1) / N + 1 / N**2) ** 0.5
        t = stats.t.ppf(0.975, N - 1)
        assert delta.delta == pytest.approx(difference.mean())
        assert delta.standard_error == pytest.approx(error)
        assert delta.low == pytest.approx(difference.mean() - t * error)


def test_a_mean_delta_equals_its_definition_on_parallel_items(summary, truth) -> None:
    codes = [c for c in LANGUAGES if c != "eng_Latn"]
    checked = 0
    for delta in summary.estimates.mean_deltas:
        if delta.group != "non-english" or delta.n_languages < len(codes):
            continue
        per_item = np.zeros(N)
        for code in codes:
            tuned = truth[delta.task, delta.run_id, code]
            base = truth[delta.task, delta.base_run_id, code]
            per_item += np.array([tuned[i] - base[i] for i in sorted(tuned)]) / len(codes)
        flip = (1 / (len(codes) * N)) ** 2
        assert delta.delta == pytest.approx(per_item.mean())
        assert delta.standard_error**2 == pytest.approx(stats.sem(per_item) ** 2 + flip)
        checked += 1
    assert checked == 15


def test_what_is_missing_is_a_gap_with_its_reason_and_never_a_number(summary) -> None:
    gaps = {(g.run_id, g.task, g.language): g.reason for g in summary.gaps}
    reasons = {run.id: run.status for run in STUDY_RUNS}
    by_status = {
        "failed": "run failed",
        "missing": "run not started",
        "unfinished": "run unfinished",
    }
    for run in STUDY_RUNS:
        for task in TASKS:
            for code in LANGUAGES:
                reason = gaps.get((run.id, task.name, code))
                if run.status != "done":
                    assert reason == by_status[reasons[run.id]]
                elif run is WITHOUT_SAMPLES or (
                    run is PARTIAL and task.name == RANKING and code == "yor_Latn"
                ):
                    assert reason == "not evaluated"
                elif run is PARTIAL and task.name == RANKING and code == "tha_Thai":
                    assert reason == f"evaluation unfinished: {N} of {N + 7} samples stored"
                else:
                    assert reason is None


def test_failed_runs_are_counted(summary) -> None:
    assert summary.count_runs() == {"done": 11, "failed": 1, "unfinished": 1, "missing": 1}
    assert len(summary.costs) == len(STUDY_RUNS)


def test_curves_average_seeds_and_keep_bits_and_ranks_apart(summary, truth) -> None:
    points = [
        p
        for p in summary.estimates.curves
        if p.task == GENERATION and p.group == "all" and p.quantity == "delta"
    ]
    assert {(p.quantization, p.rank) for p in points} == {
        (q, r) for q in ("bf16", "nf4") for r in (4, 16)
    }
    assert {p.series for p in points} == {"lora"}
    for point in points:
        runs = [
            r for r in STUDY_RUNS if (r.quantization, r.rank) == (point.quantization, point.rank)
        ]
        base = next(r for r in STUDY_RUNS if r.is_base and r.quantization == point.quantization)
        values = [
            np.mean(
                [
                    truth[GENERATION, run.id, c][i] - x
                    for i, x in truth[GENERATION, base.id, c].items()
                ]
            )
            for run in runs
            for c in LANGUAGES
        ]
        assert point.n_seeds == len(runs) == 2
        assert point.value == pytest.approx(np.mean(values))
        assert point.low < point.value < point.high


def test_costs_come_from_the_training_record(summary) -> None:
    cost = next(c for c in summary.costs if c.run_id == PARTIAL.id)
    assert (cost.trainable_parameters, cost.adapter_bytes) == (4000, 16000)
    assert cost.tokens_per_second == pytest.approx(50)
    base = next(c for c in summary.costs if c.run_id == STUDY_RUNS[0].id)
    assert base.trainable_parameters is None
    assert base.evaluate_seconds == pytest.approx(2.5 * 12)


def test_further_metrics_are_averaged_beside_the_headline(summary, truth) -> None:
    found = {
        (m.task, m.run_id, m.language): m for m in summary.metrics if m.metric == "exact_match"
    }
    assert found.keys() == truth.keys()
    for key, samples in truth.items():
        hits = sum(score == 1 for score in samples.values())
        low, _ = stats.binomtest(hits, N).proportion_ci(method="wilson")
        assert (found[key].mean, found[key].low) == pytest.approx((hits / N, low))


def test_effects_find_a_strong_truth_and_its_sign(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    runs = [Run(method="none", rank=None, quantization=q) for q in ("bf16", "nf4")]
    runs += [Run(rank=r, quantization=q) for q in ("bf16", "nf4") for r in (4, 64)]
    builder.study(runs)
    for run in runs:
        for task in TASKS:
            for code in LANGUAGES:
                builder.evaluation(run, task, code, draw(run, task, code, 400))
    effects = {(e.factor, e.group): e for e in summarise(open_store(tmp_path)).estimates.effects}
    for factor in ("tuning", "rank", "bits"):
        assert effects[factor, "non-english"].low > 0, factor
    assert effects["tuning", "english"].high < 0
    assert effects["rank", "non-english"].contrast == "rank 64 - rank 4"
    assert effects["rank", "english"].low < 0 < effects["rank", "english"].high


def test_samples_that_only_one_run_answered_are_left_out_of_the_pair(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE, TUNED])
    ids = ["a", "b", "c", "d"]
    builder.evaluation(BASE, TASKS[0], "swh_Latn", np.array([0, 1, 0, 1.0]), sample_ids=ids)
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", np.array([1, 1.0]), sample_ids=["b", "c"])
    (delta,) = summarise(open_store(tmp_path)).estimates.deltas
    assert (delta.n, delta.delta) == (2, 0.5)


def test_a_run_without_a_base_at_its_bits_says_so(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    tuned = Run(rank=8, quantization="nf4")
    builder.study([BASE, tuned])
    for run in (BASE, tuned):
        builder.evaluation(run, TASKS[0], "swh_Latn", np.array([0, 1, 0, 1.0]))
    (delta,) = summarise(open_store(tmp_path)).estimates.deltas
    assert not delta.has_same_bits


def test_two_ways_of_asking_one_task_are_never_mixed(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE], tasks=TASKS[:1])
    prompt = {"form": "lm-eval", "instruction_language": "english", "template": "plain", "shots": 0}
    builder.evaluation(BASE, TASKS[0], "swh_Latn", np.array([0, 0.0]))
    builder.evaluation(BASE, TASKS[0], "swh_Latn", np.array([1, 1.0]), prompt=prompt)
    scores = summarise(open_store(tmp_path)).estimates.scores
    assert {(s.task, s.score) for s in scores} == {
        ("xnli (form=mega)", 0.0),
        ("xnli (form=lm-eval)", 1.0),
    }


def test_an_evaluation_of_an_older_adapter_is_set_aside(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([TUNED])
    builder.run(TUNED)
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", np.array([1, 1.0]), adapter="sha-old")
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", np.array([0, 1.0]))
    summary = summarise(open_store(tmp_path))
    assert [s.score for s in summary.estimates.scores] == [0.5]
    assert [s.reason for s in summary.set_aside] == [
        "the run's adapter has other bytes than the one that was scored"
    ]


def test_a_done_mark_with_rows_lost_is_a_gap(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE], tasks=TASKS[:1])
    eval_id = builder.evaluation(BASE, TASKS[0], "swh_Latn", np.ones(6))
    next((tmp_path / "evals" / eval_id).glob("part-000003*")).unlink()
    summary = summarise(open_store(tmp_path))
    assert not summary.estimates.scores
    assert any("not all of its 6 rows" in gap.reason for gap in summary.gaps)


def test_a_score_outside_0_to_1_is_refused_by_name(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE])
    eval_id = builder.evaluation(BASE, TASKS[0], "swh_Latn", np.array([0, 37.5]))
    with pytest.raises(StoreError, match=rf"{eval_id}, sample 00001: score 37.5"):
        summarise(open_store(tmp_path))


def test_a_language_no_table_has_is_still_scored(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE], tasks=())
    builder.evaluation(BASE, TASKS[0], "zzz_Zzzz", np.array([0, 1.0]))
    summary = summarise(open_store(tmp_path))
    assert {m.group for m in summary.estimates.means} >= {"all", "class unknown"}


def test_an_evaluation_of_an_undescribed_run_is_still_scored(tmp_path: Path) -> None:
    StoreBuilder(tmp_path).evaluation(BASE, TASKS[0], "swh_Latn", np.array([0, 1.0]))
    summary = summarise(open_store(tmp_path))
    assert [s.run_id for s in summary.estimates.scores] == [BASE.id]


def test_labels_tell_runs_apart_by_what_varies(summary) -> None:
    labels = list(summary.labels.values())
    assert len(set(labels)) == len(labels)
    assert labels[0] == "untouched base · bf16"
    assert labels[2] == "lora rank=4 · bf16 · seed 0"


def test_a_hundred_thousand_rows_summarise_in_seconds(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    runs = [BASE, TUNED]
    builder.study(runs)
    for run in runs:
        for task in TASKS:
            for code in LANGUAGES:
                builder.evaluation(run, task, code, draw(run, task, code, 4200))
    started = time.perf_counter()
    summary = summarise(open_store(tmp_path))
    assert sum(s.n for s in summary.estimates.scores) == 100_800
    assert time.perf_counter() - started < 8

import dataclasses

import numpy as np
import pytest
from scipy import stats
from tests.analysis.synthetic import TASKS, Run, StoreBuilder

from maple.analysis import summarise
from maple.analysis.groups import LanguageGroup
from maple.analysis.intervals import holm
from maple.analysis.means import mean_over_languages
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel
from maple.analysis.ties import tied_runs
from maple.store.read import open_store

MODE = Mode(label="t", task="t", settings={}, evaluations={})
BOTH = LanguageGroup(kind="all", name="all", languages=("l0", "l1"))


def panel(probabilities: dict[str, float], n: int = 200, seed: int = 0) -> Panel:
    rng = np.random.default_rng(seed)
    scores = {
        language: np.array([rng.random(n) < p for p in probabilities.values()], float)
        for language in BOTH.languages
    }
    items = {language: np.arange(n) for language in scores}
    return Panel(mode=MODE, run_ids=tuple(probabilities), scores=scores, items=items)


def alone(answers: Panel) -> list[tuple[str, ...]]:
    return [(run,) for run in answers.run_ids]


@pytest.mark.parametrize("is_partial", [False, True])
def test_every_pair_is_compared_as_if_it_were_alone(is_partial: bool) -> None:
    answers = panel({"a": 0.8, "b": 0.7, "c": 0.4, "d": 0.42})
    if is_partial:
        answers.scores["l1"][1, :40] = np.nan
    rows = tied_runs("t", [(answers, BOTH)], alone(answers))
    best = rows[0].run_id
    pairs = [(i, j) for k, i in enumerate(answers.run_ids) for j in answers.run_ids[k + 1 :]]
    means = {
        pair: mean_over_languages(answers.contrasts(BOTH.languages, {pair[0]: 1.0, pair[1]: -1.0}))
        for pair in pairs
    }
    adjusted = dict(zip(pairs, holm([means[pair].p for pair in pairs]), strict=True))
    for row in rows[1:]:
        pair = next(p for p in pairs if set(p) == {best, row.run_id})
        mean = means[pair]
        sign = 1 if pair[0] == row.run_id else -1
        assert row.difference == pytest.approx(sign * mean.value)
        assert row.high - row.low == pytest.approx(mean.interval.high - mean.interval.low)
        assert row.p_holm == pytest.approx(adjusted[pair])
    told = {frozenset(pair): p < 0.05 for pair, p in adjusted.items()}
    assert len(set(told.values())) == 2
    for x in rows:
        for y in rows:
            if x is not y:
                shares = bool(set(x.letters) & set(y.letters))
                assert shares != told[frozenset((x.run_id, y.run_id))]


def test_limits_from_the_best_stay_within_a_difference_of_scores() -> None:
    rows = tied_runs("t", [(few := panel({"a": 0.98, "b": 0.02}, n=3), BOTH)], alone(few))
    assert -1 <= rows[1].low < rows[1].difference < -0.5
    free = mean_over_languages(few.contrasts(BOTH.languages, {"b": 1.0, "a": -1.0}))
    assert dataclasses.replace(free, reach=np.inf).interval.low < -1


def test_on_the_null_no_winner_is_declared() -> None:
    declared = 0
    for seed in range(120):
        answers = panel(dict.fromkeys("abcdef", 0.6), n=60, seed=seed)
        rows = tied_runs("t", [(answers, BOTH)], alone(answers))
        declared += not any(row.is_tied_with_best for row in rows[1:])
    assert declared == 0


def test_any_pair_is_told_apart_by_chance_in_at_most_one_study_of_twenty() -> None:
    n_told = 0
    for seed in range(200):
        answers = panel(dict.fromkeys("abcd", 0.6), n=60, seed=seed)
        rows = tied_runs("t", [(answers, BOTH)], alone(answers))
        n_told += len({row.letters for row in rows}) > 1
    assert n_told <= stats.binom.ppf(0.999, 200, 0.05)


def test_a_run_without_a_language_is_compared_with_none() -> None:
    answers = panel({"a": 0.8, "b": 0.7, "c": 0.4})
    answers.scores["l1"][0, :] = np.nan
    rows = tied_runs("t", [(answers, BOTH)], alone(answers))
    assert [row.run_id for row in rows] == ["b", "c"]
    assert {row.n_languages for row in rows} == {2}


def test_seeds_that_scatter_tie_what_their_items_would_tell_apart() -> None:
    answers = panel({"a0": 0.9, "a1": 0.5, "b0": 0.55, "b1": 0.6}, n=400)
    by_run = tied_runs("t", [(answers, BOTH)], alone(answers))
    assert not by_run[1].is_tied_with_best
    by_configuration = tied_runs("t", [(answers, BOTH)], [("a0", "a1"), ("b0", "b1")])
    assert all(row.is_tied_with_best for row in by_configuration)
    assert {row.letters for row in by_configuration} == {"a"}
    assert {row.n_seeds for row in by_configuration} == {2}
    assert by_configuration[0].score == pytest.approx(
        np.mean([m[:2].mean() for m in answers.scores.values()])
    )


def test_the_mean_over_tasks_adds_up_independent_tasks() -> None:
    first, second = panel({"a": 0.8, "b": 0.7}, seed=1), panel({"a": 0.6, "b": 0.65}, seed=2)
    both = tied_runs("mean", [(first, BOTH), (second, BOTH)], alone(first))
    single = [tied_runs("t", [(p, BOTH)], alone(p)) for p in (first, second)]
    differences = []
    for rows in single:
        score = {row.run_id: row.score for row in rows}
        differences.append(score["a"] - score["b"])
    assert abs(both[1].difference) == pytest.approx(abs(np.mean(differences)))
    widths = [(rows[1].high - rows[1].low) / 2 for rows in single]
    assert both[1].high - both[1].difference == pytest.approx(np.hypot(*widths) / 2, rel=0.01)


def test_a_study_has_ties_for_every_task_and_group_and_for_their_mean(tmp_path) -> None:
    builder = StoreBuilder(tmp_path)
    runs = [Run(method="none", rank=None), Run(rank=8), Run(rank=16)]
    builder.study(runs)
    for number, run in enumerate(runs):
        for task in TASKS:
            for code in ("eng_Latn", "swh_Latn"):
                scores = (np.arange(90) % 10 < 4 + 2 * number).astype(float)
                builder.evaluation(run, task, code, scores)
    ties = summarise(open_store(tmp_path)).estimates.tied_groups
    tasks = {tie.task for tie in ties}
    assert tasks == {"xnli", "xquad", "mean over tasks"}
    for task in tasks:
        rows = [tie for tie in ties if tie.task == task and tie.group == "non-english"]
        assert [(row.run_id, row.place) for row in rows] == [
            (run.id, place) for place, run in enumerate(reversed(runs), 1)
        ]
        assert [row.letters for row in rows] == ["a", "b", "c"]


def test_nothing_is_said_of_a_single_run() -> None:
    answers = panel({"a": 0.8})
    assert tied_runs("t", [(answers, BOTH)], alone(answers)) == []
    assert tied_runs("t", [(answers, BOTH)], [("unknown",), ("other",)]) == []

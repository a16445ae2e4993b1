"""Rates of output checks, from rows of known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder

from maple.analysis import summarise
from maple.analysis.checks import CheckRate
from maple.store.read import open_store

BASE, TUNED = Run(method="none", rank=None), Run()
RANKED, GENERATED = TASKS
SCORES = np.array([0.0, 1.0, 0.0, 1.0])
FOUND = [
    {"empty": True, "not_extracted": True},
    {"empty": False, "not_extracted": False},
    {"empty": False, "not_extracted": True},
    {"empty": False, "not_extracted": False},
]
ADDED = ("unconditional", "checks")


def rates(directory: Path) -> dict[tuple[str, str, str], CheckRate]:
    """What the summary of a store holds, by run, language and check."""
    found = summarise(open_store(directory)).checks
    return {(rate.run_id, rate.language, rate.check): rate for rate in found}


def forget(folder: Path, parts: slice) -> None:
    """Rewrites parts as a Maple wrote them that had no checks."""
    for part in sorted(folder.glob("part-*"))[parts]:
        pq.write_table(pq.ParquetFile(part).read().drop_columns(list(ADDED)), part)


@pytest.fixture
def builder(tmp_path: Path) -> StoreBuilder:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE, TUNED])
    builder.run(BASE)
    builder.run(TUNED)
    return builder


def test_a_rate_is_a_share_with_wilsons_interval(builder: StoreBuilder) -> None:
    builder.evaluation(BASE, GENERATED, "swh_Latn", SCORES, checks=FOUND)
    found = rates(builder.directory)
    assert len(found) == 2
    rate = found[BASE.id, "swh_Latn", "not_extracted"]
    assert (rate.n, rate.n_found, rate.rate) == (4, 2, 0.5)
    interval = binomtest(2, 4).proportion_ci(method="wilson")
    assert (rate.low, rate.high) == pytest.approx((interval.low, interval.high))
    assert (rate.score, rate.score_otherwise) == (0.5, 1.0)
    assert rate.task == GENERATED.name


def test_where_every_answer_fails_there_is_no_score_of_the_others(builder: StoreBuilder) -> None:
    builder.evaluation(BASE, GENERATED, "swh_Latn", SCORES, checks=[{"empty": True}] * 4)
    rate = rates(builder.directory)[BASE.id, "swh_Latn", "empty"]
    assert (rate.rate, rate.high, rate.score_otherwise) == (1.0, 1.0, None)


def test_a_score_that_a_judge_has_yet_to_give_is_none(builder: StoreBuilder) -> None:
    waiting = np.full(4, np.nan)
    builder.evaluation(BASE, GENERATED, "swh_Latn", waiting, checks=FOUND)
    for rate in rates(builder.directory).values():
        assert (rate.score, rate.score_otherwise) == (None, None)


def test_rankings_and_unfinished_evaluations_have_no_rates(builder: StoreBuilder) -> None:
    builder.evaluation(BASE, RANKED, "swh_Latn", SCORES)
    builder.evaluation(TUNED, GENERATED, "swh_Latn", SCORES, checks=FOUND, is_done=False)
    assert rates(builder.directory) == {}


@pytest.mark.parametrize("parts", [slice(None), slice(1), slice(1, None)], ids=str)
def test_parts_written_before_there_were_checks_are_read(
    builder: StoreBuilder, parts: slice
) -> None:
    eval_id = builder.evaluation(BASE, GENERATED, "swh_Latn", SCORES, checks=FOUND)
    whole = builder.evaluation(BASE, GENERATED, "yor_Latn", SCORES, checks=FOUND)
    forget(builder.directory / "evals" / eval_id, parts)
    rows = open_store(builder.directory).query("SELECT * FROM samples ORDER BY ALL")
    assert rows["eval_id"].to_pylist().count(eval_id) == 4
    by_eval = dict(zip(rows["eval_id"].to_pylist(), rows["checks"].to_pylist(), strict=True))
    assert len(by_eval[whole]) == 2
    found = rates(builder.directory)
    assert found[BASE.id, "yor_Latn", "empty"].n == 4
    n_left = 0 if parts == slice(None) else 2
    if n_left:
        assert found[BASE.id, "swh_Latn", "empty"].n == n_left
    else:
        assert (BASE.id, "swh_Latn", "empty") not in found


def test_a_store_without_any_checks_is_read(builder: StoreBuilder) -> None:
    eval_id = builder.evaluation(BASE, GENERATED, "swh_Latn", SCORES)
    forget(builder.directory / "evals" / eval_id, slice(None))
    store = open_store(builder.directory)
    rows = store.samples().to_arrow_table()
    for name in ADDED:
        assert rows[name].to_pylist() == [None] * 4
    assert rates(builder.directory) == {}

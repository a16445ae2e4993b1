from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.large_store import Size, write_store
from tests.analysis.synthetic import GENERATION, TASKS, Run, StoreBuilder

from maple.analysis import answers, summarise
from maple.analysis.answers import read_answers
from maple.analysis.modes import find_modes
from maple.store.read import Store, open_store

BASE = Run(method="none", rank=None)
SIZE = Size(runs=12, tasks=2, languages=3, samples=40)
METRICS = """
    SELECT run_id, task, language, entry.key AS name, count(*) AS n, avg(entry.value) AS mean
    FROM (SELECT *, unnest(map_entries(metrics)) AS entry FROM samples) GROUP BY ALL
"""
CHECKS = """
    SELECT run_id, task, language, entry.key AS name, count(*) AS n,
        count(*) FILTER (entry.value) AS n_found,
        avg(score) FILTER (NOT entry.value) AS score_otherwise
    FROM (SELECT *, unnest(map_entries(checks)) AS entry FROM samples) GROUP BY ALL
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    write_store(directory, SIZE)
    return directory


def test_metrics_and_checks_are_those_that_sql_finds(large: Path) -> None:
    store = open_store(large)
    summary = summarise(store)
    metrics = {(m.run_id, m.task, m.language, m.metric): m for m in summary.metrics}
    rows = store.query(METRICS).to_pylist()
    assert len(metrics) == len(rows) == 12 * 3 * (1 + 2)
    for row in rows:
        found = metrics[row["run_id"], row["task"], row["language"], row["name"]]
        assert (found.n, found.mean) == (row["n"], pytest.approx(row["mean"]))
    checks = {(c.run_id, c.task, c.language, c.check): c for c in summary.checks}
    rows = store.query(CHECKS).to_pylist()
    assert len(checks) == len(rows) == 12 * 3 * 2
    for row in rows:
        found = checks[row["run_id"], row["task"], row["language"], row["name"]]
        assert (found.n, found.n_found) == (row["n"], row["n_found"])
        assert found.score_otherwise == pytest.approx(row["score_otherwise"])


def test_every_part_is_opened_once_for_all_estimates(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    whole = Store.stored_rows

    def stored_rows(self, columns, eval_id):
        opened.extend([eval_id] if "score" in columns else [])
        return whole(self, columns, eval_id)

    def query(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("rows were read a second time")

    monkeypatch.setattr(Store, "stored_rows", stored_rows)
    monkeypatch.setattr(Store, "query", query)
    assert len(summarise(open_store(large)).estimates.scores) == 12 * 2 * 3
    assert len(opened) == len(set(opened)) == 12 * 2 * 3


def test_blocks_of_languages_give_what_one_block_gives(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = summarise(open_store(large))
    monkeypatch.setattr(answers, "ROWS_AT_ONCE", 1)
    store = open_store(large)
    modes, _ = find_modes(store.evaluations(), store.runs())
    assert [len(list(read_answers(store, mode))) for mode in modes] == [3, 3]
    assert summarise(store).estimates == whole.estimates


def test_a_store_begun_is_completed(large: Path, tmp_path: Path) -> None:
    write_store(tmp_path, Size(runs=2, tasks=2, languages=3, samples=40))
    assert len(list(tmp_path.glob("evals/*/done"))) == 12
    write_store(tmp_path, SIZE)
    assert summarise(open_store(tmp_path)).estimates == summarise(open_store(large)).estimates


def test_a_sample_stored_twice_counts_once_in_every_estimate(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE])
    found = [{"empty": False}] * 4
    scores = np.array([0.0, 1.0, 1.0, 0.5])
    eval_id = builder.evaluation(BASE, TASKS[1], "swh_Latn", scores, checks=found)
    folder = tmp_path / "evals" / eval_id
    first = pq.ParquetFile(next(folder.glob("part-000000-*"))).read()
    changed = pa.array([1.0] * first.num_rows)
    twice = first.set_column(first.schema.get_field_index("score"), "score", changed)
    pq.write_table(twice, folder / "part-999999-2.parquet")
    summary = summarise(open_store(tmp_path))
    (score,) = summary.estimates.scores
    assert (score.n, score.score) == (4, pytest.approx(scores.mean()))
    assert {(m.metric, m.n) for m in summary.metrics} == {("f1", 4), ("exact_match", 4)}
    assert [(c.check, c.n, c.task) for c in summary.checks] == [("empty", 4, GENERATION)]


def test_parts_of_an_older_maple_are_read_beside_newer_ones(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE])
    eval_id = builder.evaluation(BASE, TASKS[0], "swh_Latn", np.array([0.0, 1.0, 1.0, 1.0]))
    part = sorted((tmp_path / "evals" / eval_id).glob("part-*"))[0]
    pq.write_table(pq.ParquetFile(part).read().drop_columns(["checks", "unconditional"]), part)
    (score,) = summarise(open_store(tmp_path)).estimates.scores
    assert (score.n, score.score) == (4, 0.75)

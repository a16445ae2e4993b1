import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.analysis.synthetic import STUDY_RUNS, TASKS, Run, StoreBuilder, build_study

from maple.errors import StoreError
from maple.records import CURVE_SCHEMA, SAMPLE_SCHEMA
from maple.store.read import open_store

BASE = Run(method="none", rank=None)
SCORES = np.array([0.0, 1.0, 1.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("study")
    build_study(directory, n=12)
    return directory


def one_evaluation(directory: Path) -> Path:
    builder = StoreBuilder(directory)
    builder.study([BASE])
    builder.run(BASE)
    return directory / "evals" / builder.evaluation(BASE, TASKS[0], "swh_Latn", SCORES)


def test_runs_stand_in_the_plans_order_with_their_status(study: Path) -> None:
    runs = open_store(study).runs()
    assert [run.run_id for run in runs] == [run.id for run in STUDY_RUNS]
    assert [run.status for run in runs] == [run.status for run in STUDY_RUNS]
    failed = next(run for run in runs if run.status == "failed")
    assert failed.failure is not None
    assert failed.failure.stage == "train"
    trained = next(run for run in runs if run.train is not None)
    assert trained.train is not None
    assert trained.train.run_id == trained.run_id
    assert trained.cell.bits == 16
    assert trained.environment["maple"] == "0.1.0"


def test_a_trained_run_whose_evaluation_failed_is_failed(tmp_path: Path) -> None:
    one_evaluation(tmp_path)
    failure = {"stage": "evaluate", "error": "e", "traceback": "t", "time": ""}
    (tmp_path / "runs" / BASE.id / "failed.json").write_text(json.dumps(failure))
    (run,) = open_store(tmp_path).runs()
    assert run.status == "failed"


def test_a_run_that_no_plan_names_is_read_from_its_spec(tmp_path: Path) -> None:
    run = Run(rank=4, quantization="nf4")
    StoreBuilder(tmp_path).run(run)
    (stored,) = open_store(tmp_path).runs()
    assert (stored.cell.model, stored.cell.method, stored.cell.rank) == ("tiny", "lora", 4)
    assert stored.cell.mixture == "native"


def test_curves_and_their_absence(study: Path) -> None:
    store = open_store(study)
    trained = next(run for run in STUDY_RUNS if run.status == "done" and not run.is_base)
    assert store.curve(trained.id)["step"].to_pylist() == list(range(1, 31))
    assert store.curve(STUDY_RUNS[0].id).schema == CURVE_SCHEMA
    assert store.curve(STUDY_RUNS[0].id).num_rows == 0


def test_samples_are_those_written_and_temporary_files_are_passed_by(tmp_path: Path) -> None:
    folder = one_evaluation(tmp_path)
    store = open_store(tmp_path)
    rows = store.samples().order("sample_id").to_arrow_table()
    assert rows.schema.names == SAMPLE_SCHEMA.names
    assert rows["score"].to_pylist() == SCORES.tolist()
    assert rows["eval_id"].to_pylist() == [folder.name] * 5
    assert list(folder.glob(".tmp-*"))


def test_a_sample_stored_twice_counts_once_and_the_first_file_wins(tmp_path: Path) -> None:
    folder = one_evaluation(tmp_path)
    first = pq.ParquetFile(next(folder.glob("part-000000-*"))).read()
    flipped = first.set_column(
        first.schema.get_field_index("score"), "score", pa.array([9.0] * first.num_rows)
    )
    pq.write_table(flipped, folder / "part-999999-2.parquet")
    rows = open_store(tmp_path).samples().order("sample_id").to_arrow_table()
    assert rows["score"].to_pylist() == SCORES.tolist()


def test_an_unfinished_evaluation_is_counted_by_its_rows(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.evaluation(BASE, TASKS[0], "swh_Latn", SCORES, is_done=False)
    (evaluation,) = open_store(tmp_path).evaluations()
    assert (evaluation.is_done, evaluation.n_samples, evaluation.available) == (False, 5, 12)
    assert evaluation.chance_level == pytest.approx(1 / 3)


def test_a_folder_killed_before_its_spec_was_written_is_passed_by(tmp_path: Path) -> None:
    one_evaluation(tmp_path)
    (tmp_path / "evals" / "0000000000000000").mkdir()
    (tmp_path / "runs" / "0000000000000000").mkdir()
    store = open_store(tmp_path)
    assert len(store.evaluations()) == 1
    assert [run.run_id for run in store.runs()] == [BASE.id]


def test_a_store_without_rows_answers_with_no_rows(tmp_path: Path) -> None:
    StoreBuilder(tmp_path).study([BASE])
    store = open_store(tmp_path)
    assert store.evaluations() == []
    assert store.samples().to_arrow_table().num_rows == 0
    assert store.query("SELECT count(*) AS n FROM samples")["n"].to_pylist() == [0]
    assert store.prompts("none").num_rows == 0


def test_a_path_with_glob_characters_is_a_path(tmp_path: Path) -> None:
    directory = tmp_path / "a [1] *?"
    one_evaluation(directory)
    assert open_store(directory).samples().to_arrow_table().num_rows == 5


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else"])
def test_a_broken_part_is_named(tmp_path: Path, content: bytes) -> None:
    folder = one_evaluation(tmp_path)
    broken = folder / "part-000005-5.parquet"
    broken.write_bytes(content)
    with pytest.raises(StoreError, match=str(broken)):
        open_store(tmp_path).query("SELECT * FROM samples")


def test_a_part_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    folder = one_evaluation(tmp_path)
    part = sorted(folder.glob("part-*"))[-1]
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(StoreError, match=part.name):
        open_store(tmp_path).query("SELECT * FROM samples")


def test_a_part_without_a_column_is_named(tmp_path: Path) -> None:
    folder = one_evaluation(tmp_path)
    part = sorted(folder.glob("part-*"))[0]
    pq.write_table(pq.ParquetFile(part).read().drop_columns(["score"]), part)
    with pytest.raises(StoreError, match=rf"{part.name} lacks the column.* score"):
        open_store(tmp_path).query("SELECT * FROM samples")


@pytest.mark.parametrize("name", ["spec.json", "train.json", "environment.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_broken_json_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    run = Run()
    builder = StoreBuilder(tmp_path)
    builder.study([run])
    builder.run(run)
    path = tmp_path / "runs" / run.id / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=str(path)):
        open_store(tmp_path).runs()


def test_a_missing_key_is_named_with_its_file(tmp_path: Path) -> None:
    folder = one_evaluation(tmp_path)
    (folder / "done").write_text('{"time": 3}')
    with pytest.raises(StoreError, match=rf"{folder.name}.*'samples' is missing"):
        open_store(tmp_path).evaluations()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no store"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="no directory"):
        open_store(tmp_path / "nowhere")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match="this Maple reads format 1"):
        open_store(tmp_path)


def test_the_relation_outlives_the_call_that_made_it(study: Path) -> None:
    relation = open_store(study).samples()
    assert isinstance(relation, duckdb.DuckDBPyRelation)
    assert relation.aggregate("count(*) AS n").fetchall() == [(len(relation.fetchall()),)]


def test_reading_analysing_and_reporting_never_import_torch(study: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from maple.report import write_report; "
        f"write_report(Path({str(study)!r})); "
        "found = {'torch', 'transformers', 'peft'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

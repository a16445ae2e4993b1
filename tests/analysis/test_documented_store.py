"""A store written by hand from docs/results_format.md, with pyarrow and json alone."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from maple.analysis import Summary, summarise
from maple.errors import StoreError
from maple.records import SAMPLE_SCHEMA, TrainRecord
from maple.store.read import open_store

DOCUMENT = (Path(__file__).parents[2] / "docs" / "results_format.md").read_text(encoding="utf-8")
TYPES = {
    "string": pa.string(),
    "string or null": pa.string(),
    "double": pa.float64(),
    "list of string": pa.list_(pa.string()),
    "list of double": pa.list_(pa.float64()),
    "list of bool": pa.list_(pa.bool_()),
    "list of int32": pa.list_(pa.int32()),
    "map string -> double": pa.map_(pa.string(), pa.float64()),
    "map string -> bool": pa.map_(pa.string(), pa.bool_()),
}
LANGUAGES = ("eng_Latn", "swh_Latn", "tha_Thai")
RUNS = {"base": "none", "small": "lora", "large": "lora"}
Scores = np.ndarray[Any, np.dtype[np.float64]]


def documented_columns() -> dict[str, pa.DataType]:
    table = DOCUMENT.partition("## Columns of a sample row")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\w, ]+) \| ([^|]+) \|", table, re.MULTILINE)
    return {
        name: TYPES[kind.strip()]
        for names, kind in rows
        if kind.strip() in TYPES
        for name in names.split(", ")
    }


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_study(directory: Path, runs: dict[str, str], asked: list[tuple[str, str]]) -> None:
    cells = [
        {
            "run_id": run,
            "label": run,
            "model": "m",
            "method": method,
            "parameters": {} if method == "none" else {"rank": 8 if run == "small" else 64},
            "quantization": "bf16",
            "bits": 16,
            "mixture": None if method == "none" else "native",
            "seed": 0,
            "stands_for": 1,
        }
        for run, method in runs.items()
    ]
    content = {
        "format": 1,
        "name": "by hand",
        "study": {},
        "cells": cells,
        "skipped": [],
        "evaluations": [{"task": t, "language": c, "english_only": False} for t, c in asked],
        "missing": [],
        "limit": None,
        "created": "2026-01-01T00:00:00+00:00",
    }
    write_json(directory / "study.json", content)


def write_run(directory: Path, run: str, method: str) -> None:
    folder = directory / "runs" / run
    spec = {
        "id": run,
        "model": {"name": "m", "revision": "1", "family": None},
        "method": {"name": method, "parameters": {}},
        "quantization": "bf16",
        "mixture": None,
        "training": None,
        "seed": 0,
        "loop_version": 1,
    }
    write_json(folder / "spec.json", spec)
    write_json(folder / "environment.json", {})
    write_json(folder / "done", {"time": "2026-01-01T00:00:00+00:00"})


def write_evaluation(
    directory: Path, run: str, task: str, language: str, scores: Scores, **changed: Any
) -> Path:
    """Writes one evaluation; ``changed`` replaces columns of its rows."""
    n, name = len(scores), f"{run}-{task}-{language}"
    folder = directory / "evals" / name
    spec = {
        "id": name,
        "run_id": run,
        "adapter": "none",
        "task": task,
        "task_version": 1,
        "language": language,
        "data": "abc",
        "split": "test",
        "prompt": {"form": "mega", "shots": 0},
        "decoding": {"max_new_tokens": None},
        "prompts": "p",
        "chance_level": 0.5,
        "headline": "accuracy",
        "available": n,
    }
    write_json(folder / "spec.json", spec)
    columns: dict[str, Any] = {
        "eval_id": [name] * n,
        "run_id": [run] * n,
        "task": [task] * n,
        "language": [language] * n,
        "sample_id": [str(i) for i in range(n)],
        "prompt_hash": ["0"] * n,
        "gold": [["1"]] * n,
        "prediction": ["1"] * n,
        "score": scores,
        "metrics": [{"accuracy": float(s)} for s in scores],
        "loglikelihoods": [[-1.0, -2.0]] * n,
        "is_greedy": [[True, False]] * n,
        "n_tokens": [[1, 1]] * n,
        "text": [None] * n,
        "finish": [None] * n,
        "unconditional": [[]] * n,
        "checks": [{}] * n,
    }
    arrays = {
        column: changed[column] if column in changed else column_of(kind, columns[column])
        for column, kind in documented_columns().items()
    }
    pq.write_table(pa.table(arrays), folder / f"part-000000-{n}.parquet")
    write_json(folder / "done", {"samples": n, "limit": None, "seconds": 1.0})
    return folder


def column_of(kind: pa.DataType, values: Any) -> pa.Array:
    if pa.types.is_map(kind):
        values = [list(entries.items()) for entries in values]
    return pa.array(values, kind)


def draw(run: str, language: str, n: int = 80) -> Scores:
    number = [*itertools.product(RUNS, LANGUAGES)].index((run, language))
    return (np.random.default_rng(number).random(n) < 0.6).astype(float)


def by_hand(directory: Path) -> Path:
    write_study(directory, RUNS, [("xnli", code) for code in LANGUAGES])
    for run, method in RUNS.items():
        write_run(directory, run, method)
        for code in LANGUAGES:
            write_evaluation(directory, run, "xnli", code, draw(run, code))
    return directory


def test_the_documented_columns_are_those_that_are_written() -> None:
    assert documented_columns() == {field.name: field.type for field in SAMPLE_SCHEMA}


def test_the_documented_training_record_is_the_one_that_is_read() -> None:
    text = DOCUMENT.partition("## train.json")[2].partition("**flops** counts")[0]
    assert [n for n in TrainRecord.__dataclass_fields__ if not re.search(rf"\b{n}\b", text)] == []


def test_a_store_written_from_the_document_alone_is_summarised(tmp_path: Path) -> None:
    summary = summarise(open_store(by_hand(tmp_path)))
    found = {(s.run_id, s.language): s.score for s in summary.estimates.scores}
    assert found == {key: draw(*key).mean() for key in itertools.product(RUNS, LANGUAGES)}
    assert (summary.gaps, summary.set_aside) == ((), ())
    assert summary.count_runs()["done"] == 3
    deltas = {(d.run_id, d.group): d for d in summary.estimates.deltas}
    assert len(deltas) == 6
    change = draw("small", "swh_Latn") - draw("base", "swh_Latn")
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    delta = deltas["small", "swh_Latn"]
    assert (delta.delta, delta.test) == (change.mean(), "mcnemar exact")
    assert delta.p == pytest.approx(stats.binomtest(wins, wins + losses).pvalue)


def without_base(directory: Path) -> None:
    write_study(directory, {"small": "lora"}, [("xnli", "swh_Latn")])
    write_run(directory, "small", "lora")
    write_evaluation(directory, "small", "xnli", "swh_Latn", draw("small", "swh_Latn"))


def base_alone(directory: Path) -> None:
    write_study(directory, {"base": "none"}, [("xnli", "eng_Latn")])
    write_evaluation(directory, "base", "xnli", "eng_Latn", draw("base", "eng_Latn"))


def nothing_finished(directory: Path) -> None:
    write_study(directory, RUNS, [("xnli", "swh_Latn")])
    failure = {"stage": "train", "error": "out of memory", "traceback": "", "time": ""}
    for run in RUNS:
        write_json(directory / "runs" / run / "failed.json", failure)


def without_scores(directory: Path) -> None:
    write_study(directory, {"base": "none"}, [("xnli", "swh_Latn")])
    write_run(directory, "base", "none")
    write_evaluation(directory, "base", "xnli", "swh_Latn", np.full(5, np.nan))


def empty_evaluation(directory: Path) -> None:
    write_study(directory, {"base": "none"}, [("xnli", "swh_Latn")])
    write_run(directory, "base", "none")
    write_evaluation(directory, "base", "xnli", "swh_Latn", np.zeros(0))


def no_study_file(directory: Path) -> None:
    write_evaluation(directory, "base", "xnli", "swh_Latn", draw("base", "swh_Latn"))


@pytest.mark.parametrize(
    ("write", "n_scores", "reasons"),
    [
        (without_base, 1, []),
        (base_alone, 1, []),
        (nothing_finished, 0, ["run failed"] * 3),
        (without_scores, 0, ["evaluation is marked done, but"]),
        (empty_evaluation, 0, ["evaluation is marked done, but"]),
        (no_study_file, 1, []),
    ],
)
def test_a_store_that_lacks_something_says_what(
    tmp_path: Path, write: Callable[[Path], None], n_scores: int, reasons: list[str]
) -> None:
    write(tmp_path)
    summary = summarise(open_store(tmp_path))
    assert len(summary.estimates.scores) == n_scores
    assert not summary.estimates.deltas
    assert len(summary.gaps) == len(reasons)
    for gap, reason in zip(summary.gaps, reasons, strict=True):
        assert gap.reason.startswith(reason)


def one_language_missing(tmp_path: Path) -> Summary:
    by_hand(tmp_path)
    for file in (tmp_path / "evals" / "small-xnli-tha_Thai").iterdir():
        file.unlink()
    return summarise(open_store(tmp_path))


def test_a_missing_cell_is_a_gap_and_in_no_mean(tmp_path: Path) -> None:
    summary = one_language_missing(tmp_path)
    assert [(g.run_id, g.language, g.reason) for g in summary.gaps] == [
        ("small", "tha_Thai", "not evaluated")
    ]
    mean = next(m for m in summary.estimates.means if (m.run_id, m.group) == ("small", "all"))
    codes = [code for code in LANGUAGES if code != "tha_Thai"]
    assert (mean.n_languages, mean.n_languages_planned) == (2, 3)
    assert mean.score == pytest.approx(np.mean([draw("small", code).mean() for code in codes]))


def test_samples_without_a_number_are_left_out_of_scores_metrics_and_pairs(tmp_path: Path) -> None:
    write_study(tmp_path, {"base": "none", "small": "lora"}, [("xnli", "swh_Latn")])
    scores = np.array([0.0, 1.0, 1.0, np.nan, 0.0, np.nan])
    write_evaluation(tmp_path, "base", "xnli", "swh_Latn", np.array([0, 0, 1, 1, 0, 0.0]))
    write_evaluation(tmp_path, "small", "xnli", "swh_Latn", scores)
    summary = summarise(open_store(tmp_path))
    score = next(s for s in summary.estimates.scores if s.run_id == "small")
    (metric,) = [m for m in summary.metrics if m.run_id == "small"]
    (delta,) = summary.estimates.deltas
    assert (score.n, score.score, metric.n, metric.mean) == (4, 0.5, 4, 0.5)
    assert (delta.n, delta.delta) == (4, 0.25)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sample_id": pa.array(["0", None, "2"])}, "a row without sample_id"),
        ({"metrics": pa.array([{"accuracy": 1.0}] * 3)}, "column metrics is struct"),
        ({"score": pa.array(["a", "b", "c"])}, "column score is string"),
        ({"score": pa.array([0.0, 1.0, 100.0])}, "sample 2: score 100.0 is outside 0..1"),
    ],
)
def test_a_column_that_is_not_as_documented_is_named(
    tmp_path: Path, changed: dict[str, pa.Array], message: str
) -> None:
    write_study(tmp_path, {"base": "none"}, [("xnli", "swh_Latn")])
    write_evaluation(tmp_path, "base", "xnli", "swh_Latn", np.ones(3), **changed)
    with pytest.raises(StoreError, match=re.escape(message)):
        summarise(open_store(tmp_path))


def test_numbers_of_another_width_are_read_as_numbers(tmp_path: Path) -> None:
    write_study(tmp_path, {"base": "none"}, [("xnli", "swh_Latn")])
    changed = {"score": pa.array([1, 0, 1], pa.int32()), "sample_id": pa.array([5, 6, 7])}
    write_evaluation(tmp_path, "base", "xnli", "swh_Latn", np.ones(3), **changed)
    (score,) = summarise(open_store(tmp_path)).estimates.scores
    assert (score.n, score.score) == (3, pytest.approx(2 / 3))

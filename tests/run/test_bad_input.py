"""Whatever is wrong with the input: one clear error, and nothing stored is lost."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.run.program import Outcome, Program
from tests.run.tiny import INSTRUCTIONS, leftovers, small_study, stored_rows, write_study

from maple.store.read import open_store

ROW = {"instruction": "Taja namba.", "output": "Namba ni moja.", "language": "sw"}


@pytest.fixture(scope="module")
def finished(
    program: Program, model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a small study that has run: ``study.yaml``, ``data`` and ``out``."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(data, folder / "data")
    write_study(folder / "study.yaml", small_study(model))
    outcome = program("run", "study.yaml", "--data-dir", "data", "--out", "out", cwd=folder)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path) -> Path:
    """A copy of ``finished`` that a test may break."""
    return Path(shutil.copytree(finished, tmp_path / "here"))


def contents(out: Path) -> dict[str, bytes]:
    """Every result of a store; the report, the plan and the lock are not results."""
    files = [f for part in ("runs", "evals", "prompts") for f in (out / part).rglob("*")]
    return {f.relative_to(out).as_posix(): f.read_bytes() for f in files if f.is_file()}


def fails(program: Program, here: Path, *words: str, code: int = 1, out: str = "out") -> Outcome:
    """Runs the study: one line of error with those words, everything stored still there."""
    before = contents(here / "out")
    outcome = program("run", "study.yaml", "--data-dir", "data", "--out", out, cwd=here)
    complaint = outcome.complaint
    assert outcome.code == code, (outcome.out, complaint)
    for word in words:
        assert word in complaint, complaint
    assert complaint.count("maple: ") == 1, complaint
    assert contents(here / "out").items() >= before.items()
    assert leftovers(here) == []
    open_store(here / "out").runs()
    open_store(here / "out").evaluations()
    return outcome


def lines(*rows: Any) -> str:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)


BAD_INSTRUCTIONS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", (INSTRUCTIONS, "no rows")),
    "blank rows only": (lines({**ROW, "output": " "}).encode(), ("mixture 'own' is empty",)),
    "other languages only": (
        lines({**ROW, "language": "th"}).encode(),
        ("mixture 'own' is empty",),
    ),
    "truncated in the middle": (
        lines(ROW, '{"instruction": "Taja', ROW).encode(),
        (f"{INSTRUCTIONS}, line 2", "remove the line"),
    ),
    "truncated at the end": (
        lines(ROW, ROW).encode() + b'{"instruction": "Taja',
        (f"{INSTRUCTIONS}, line 3", "truncated", "fetch the file again"),
    ),
    "a field of the wrong type": (
        lines(ROW, {**ROW, "instruction": 5}).encode(),
        (f"{INSTRUCTIONS}, line 2", "'instruction'", "text"),
    ),
    "a field missing": (
        lines(ROW, {"instruction": "Taja", "language": "sw"}).encode(),
        (f"{INSTRUCTIONS}, line 2", "'output'", "missing"),
    ),
    "not an object": (lines(ROW, "[1, 2]").encode(), (f"{INSTRUCTIONS}, line 2", "JSON object")),
    "not UTF-8": (lines(ROW).encode() + b'{"instruction": "\xff"}\n', (f"{INSTRUCTIONS}, line 2",)),
    "an unknown language": (
        lines({**ROW, "language": "swahilli"}).encode(),
        (f"{INSTRUCTIONS}, line 1", "'swahilli'", "Did you mean"),
    ),
}


@pytest.mark.parametrize("name", BAD_INSTRUCTIONS)
def test_broken_instructions_name_file_and_line(program: Program, here: Path, name: str) -> None:
    content, words = BAD_INSTRUCTIONS[name]
    (here / "data" / INSTRUCTIONS).write_bytes(content)
    fails(program, here, *words)


def _cut(path: Path, keep: float = 0.66) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


BAD_BENCHMARKS: dict[str, tuple[str, Callable[[Path], Any], tuple[str, ...]]] = {
    "xcopa truncated": ("xcopa/data/tr/test.tr.jsonl", _cut, ("test.tr.jsonl, line", "truncated")),
    "xquad truncated": ("xquad/xquad.tr.json", _cut, ("xquad.tr.json", "not JSON")),
    "xnli short of labels": (
        "xnli/gold_labels_jsonl/en.test.jsonl",
        lambda path: path.write_text('{"label": "neutral"}\n'),
        ("test-tr.tsv has 10 rows", "labels 1"),
    ),
    "xnli with a column too many": (
        "xnli/test-tr.tsv",
        lambda path: path.write_text("a\tb\na\tb\tc\td\n"),
        ("test-tr.tsv, line 2", "columns"),
    ),
    "xcopa with a wrong label": (
        "xcopa/data/tr/test.tr.jsonl",
        lambda path: path.write_text(path.read_text().replace('"label": 1', '"label": 7')),
        ("test.tr.jsonl, line 2", "'label'"),
    ),
    "xquad empty": ("xquad/xquad.tr.json", lambda path: path.write_text(""), ("xquad.tr.json",)),
}


@pytest.mark.parametrize("name", BAD_BENCHMARKS)
def test_broken_benchmarks_name_the_file(
    program: Program, here: Path, model: Path, name: str
) -> None:
    path, break_it, words = BAD_BENCHMARKS[name]
    evaluate = {"tasks": [path.split("/")[0]], "languages": ["tr"]}
    write_study(here / "study.yaml", small_study(model, evaluate=evaluate))
    break_it(here / "data" / path)
    fails(program, here, *words)


def test_a_missing_data_directory_is_named(program: Program, here: Path) -> None:
    shutil.rmtree(here / "data")
    fails(program, here, "data directory data", "--data-dir")


def test_a_missing_instruction_file_is_named(program: Program, here: Path) -> None:
    (here / "data" / INSTRUCTIONS).unlink()
    fails(program, here, INSTRUCTIONS, "path")


def test_a_store_that_is_a_file_is_refused(program: Program, here: Path) -> None:
    (here / "taken").write_text("mine")
    fails(program, here, "taken", "Choose another --out", out="taken")
    assert (here / "taken").read_text() == "mine"
    fails(program, here, "taken", "Choose another --out", out="taken/below")


def test_a_store_of_another_study_is_refused(program: Program, here: Path, model: Path) -> None:
    write_study(here / "study.yaml", small_study(model, name="another"))
    fails(program, here, "'tiny'", "'another'", "--out")


def test_a_store_that_another_process_writes_is_refused(program: Program, here: Path) -> None:
    with (here / "out" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fails(program, here, "another maple run")
    assert program("run", "study.yaml", "--data-dir", "data", "--out", "out", cwd=here).code == 0


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("study.json", "Delete that file"),
        ("evals/*/done", "Delete that file"),
    ],
)
def test_a_broken_mark_in_the_store_is_named(
    program: Program, here: Path, pattern: str, advice: str
) -> None:
    (path,) = (here / "out").glob(pattern)
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    outcome = program("run", "study.yaml", "--data-dir", "data", "--out", "out", cwd=here)
    assert outcome.code == 1
    assert str(path.relative_to(here)) in outcome.complaint
    assert advice in outcome.complaint
    path.unlink()
    assert program("run", "study.yaml", "--data-dir", "data", "--out", "out", cwd=here).code == 0


def test_a_broken_part_is_named_and_replaced_once_deleted(program: Program, here: Path) -> None:
    rows = stored_rows(here / "out")
    (part,) = (here / "out").glob("evals/*/part-*.parquet")
    (done,) = (here / "out").glob("evals/*/done")
    done.unlink()
    _cut(part)
    outcome = program("run", "study.yaml", "--data-dir", "data", "--out", "out", cwd=here)
    assert outcome.code == 1
    assert part.name in outcome.complaint
    part.unlink()
    assert program("run", "study.yaml", "--data-dir", "data", "--out", "out", cwd=here).code == 0
    assert stored_rows(here / "out") == rows


def test_a_broken_base_is_named(program: Program, here: Path, model: Path) -> None:
    for name, break_it in {
        "truncated weights": lambda folder: _cut(folder / "model.safetensors"),
        "no weights": lambda folder: (folder / "model.safetensors").unlink(),
        "no tokenizer": lambda folder: [p.unlink() for p in folder.glob("tokenizer*")],
        "a broken config": lambda folder: _cut(folder / "config.json"),
    }.items():
        broken = Path(shutil.copytree(model, here / name.replace(" ", "-")))
        break_it(broken)
        write_study(here / "study.yaml", small_study(broken))
        outcome = program("run", "study.yaml", "--data-dir", "data", "--out", "new", cwd=here)
        assert outcome.code in (1, 2), name
        assert broken.name in outcome.complaint, (name, outcome.err)


def test_a_model_directory_that_does_not_exist_is_named(
    program: Program, here: Path, tmp_path: Path
) -> None:
    write_study(here / "study.yaml", small_study(tmp_path / "nowhere"))
    outcome = program("run", "study.yaml", "--data-dir", "data", "--out", "new", cwd=here)
    assert outcome.code == 1
    assert "nowhere" in outcome.complaint

"""Certificates as JSON, as rows and as pages; the command; the embedded world; the real files."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.certify.conftest import N_ROWS, copa_rows, write_copa
from typer.testing import CliRunner

import maple.certify
from maple.atlas import base_model_path, build
from maple.catalog import entry_names
from maple.certify import (
    certificate_page,
    certify,
    load_counter,
    read_certificates,
    summary_rows,
    write_certificate,
)
from maple.certify.deviations import deviations_of
from maple.cli import app
from maple.errors import CatalogError, DataError, SourceError, UsageError
from maple.files import Files

VOID = {"meta", "br", "hr", "link", "img", "input"}


class Balance(HTMLParser):
    """Every element is closed, in order; keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Balance:
    page = Balance()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def test_a_certificate_is_the_same_after_json(copa: Files, tmp_path: Path) -> None:
    certificate = certify("xcopa", copa, split="validation")
    path = write_certificate(certificate, tmp_path / "out")
    assert path.name == "xcopa.json"
    assert read_certificates(tmp_path / "out") == [certificate]
    assert json.loads(path.read_text(encoding="utf-8"))["status"] == "green"
    assert read_certificates(tmp_path / "nowhere") == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "task": "xcopa"}'])
def test_a_file_that_is_no_certificate_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "xcopa.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"xcopa\.json: .*Run `maple certify` again"):
        read_certificates(tmp_path)


def test_a_row_says_what_is_worst(copa: Files) -> None:
    assert copa.directory is not None
    write_copa(copa.directory, "sw", copa_rows("sw")[:-1])
    rows = summary_rows([certify("xcopa", copa, split="validation")])
    assert [row["status"] for row in rows] == ["green", "green", "red"]
    assert rows[2] == {
        "task": "xcopa",
        "language": "swh_Latn",
        "split": "validation",
        "items": 99,
        "declared": 100,
        "status": "red",
        "worst_message": "count: 99 items are there and 100 are declared.",
    }
    assert rows[0]["worst_message"] == ""


def test_a_page_holds_markup_of_the_data_as_text_and_fetches_nothing(copa: Files) -> None:
    assert copa.directory is not None
    rows = copa_rows("sw")
    rows[0]["premise"] = "<script>alert(1)</script> & <b>Mwalimu</b>"
    write_copa(copa.directory, "sw", rows)
    certificate = certify("xcopa", copa, split="validation")
    html = certificate_page(certificate)
    page = parsed(html)
    assert "<script>alert(1)</script> & <b>Mwalimu</b>" in page.text
    assert not page.names & {"script", "img", "link", "b"}
    assert not re.search(r"(?:src|href)=\"(?!#)", html)
    for one in certificate.languages:
        for check in one.checks:
            assert check.message in page.text


def test_every_deviation_is_of_a_task_and_says_from_what() -> None:
    named = {task: deviations_of(task) for task in entry_names("tasks")}
    for deviations in named.values():
        for deviation in deviations:
            assert deviation.against.split()[0] in {"paper", "upstream", "lm-eval", "lighteval"}
            assert deviation.what.endswith(".")
    assert deviations_of("mlqa:en") == deviations_of("mlqa")
    assert "drops the last character" in named["xcopa"][0].what


def test_the_reader_imports_no_tensors() -> None:
    import os
    import subprocess

    code = "import maple.certify, sys; print([m for m in sys.modules if '.' not in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert not {"torch", "transformers", "peft"} & set(re.findall(r"\w+", done.stdout))


# --------------------------------------------------------------------------------- the tokens


def test_the_stand_in_counts_as_its_own_tokenizer_does() -> None:
    from tokenizers import Tokenizer

    counter = load_counter()
    assert (counter.name, counter.max_length, counter.is_asked) == ("atlas-base", 1024, False)
    own = Tokenizer.from_file(str(base_model_path() / "tokenizer.json"))
    texts = ["Mwalimu wa shule", "ครู", "", "The capital of Kenya is Nairobi."]
    assert counter.count(texts, special=False) == [
        len(own.encode(text, add_special_tokens=False).ids) for text in texts
    ]
    assert load_counter("atlas-qwen", 64).max_length == 64


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the tokenizer .*nowhere.* cannot be loaded"):
        load_counter(str(tmp_path / "nowhere"))


# --------------------------------------------------------------------------------- the command


@pytest.fixture
def run(copa: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs ``maple certify`` on the good files, counting no tokens."""
    monkeypatch.setattr(maple.certify, "load_counter", lambda *_: None)

    def _run(*arguments: str) -> Any:
        out = ["--data-dir", str(copa.directory), "--out", str(tmp_path / "out")]
        return CliRunner().invoke(app, ["certify", *arguments, *out])

    return _run


def test_all_tasks_are_certified_and_those_without_files_do_not_fail(
    run: Any, tmp_path: Path
) -> None:
    done = run("--all")
    assert done.exit_code == 0, done.output
    pages = sorted(path.name for path in (tmp_path / "out").glob("*.html"))
    assert pages == sorted(["index.html", *(f"certificate-{t}.html" for t in entry_names("tasks"))])
    index = parsed((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "xcopa" in index.text
    assert "no files" in index.text


def test_a_red_check_fails_the_command_and_is_told(run: Any, copa: Files) -> None:
    assert copa.directory is not None
    write_copa(copa.directory, "sw", copa_rows("sw")[:-1])
    done = run("xcopa", "--split", "validation")
    assert done.exit_code == 1
    assert "red: xcopa swh_Latn: count: 99 items" in done.output


def test_rows_are_printed_as_json(run: Any) -> None:
    done = run("xcopa", "--split", "validation", "--languages", "sw,it", "--json")
    assert done.exit_code == 0
    rows = json.loads(done.output)
    assert [(row["language"], row["items"]) for row in rows] == [
        ("ita_Latn", N_ROWS),
        ("swh_Latn", N_ROWS),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["xnli"], SourceError, "xnli: no files to certify"),
        (["xcopa", "--languages", "th"], SourceError, "xcopa: no files to certify"),
        (["xcopy"], CatalogError, "Did you mean 'xcopa'"),
        (["--all", "--split", "tset"], SourceError, "no task has files to certify"),
        ([], UsageError, "name tasks, or --all"),
        (["xcopa", "--all"], UsageError, "name tasks, or --all"),
    ],
)
def test_what_cannot_be_certified_is_an_error(
    arguments: list[str], error: type[Exception], message: str, run: Any
) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


# ----------------------------------------------------------------------- the embedded world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The embedded world in three of its languages."""
    with pytest.MonkeyPatch.context() as patch:
        # The package's function of the same name hides the module from an import.
        module = sys.modules["maple.atlas.build"]
        patch.setattr(module, "LANGUAGES", ("eng_Latn", "swh_Latn", "arb_Arab"))
        return Files(directory=build(tmp_path_factory.mktemp("atlas") / "world"))


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_the_embedded_world_has_nothing_red(task: str, world: Files) -> None:
    certificate = certify(task, world)
    if not certificate.languages:
        pytest.skip(f"the embedded world has no {task}")
    assert certificate.source == "atlas"
    wanted = {"eng_Latn"} if task == "atlas-open" else {"arb_Arab", "eng_Latn", "swh_Latn"}
    assert {one.language for one in certificate.languages} == wanted
    assert [row for row in summary_rows([certificate]) if row["status"] == "red"] == []
    parsed(certificate_page(certificate))


# ------------------------------------------------------------------------------ the real files


def test_real_files_are_green_with_the_flaws_of_their_release(shared_data: Path) -> None:
    wanted = ["eng_Latn", "swh_Latn", "tha_Thai"]
    certificate = certify("xcopa", Files(directory=shared_data), wanted=wanted)
    assert [(one.language, one.items, one.status) for one in certificate.languages] == [
        (code, 500, "green") for code in wanted
    ]
    known = {
        (one.language, check.name): check.examples
        for one in certificate.languages
        for check in one.checks
        if check.is_known
    }
    assert known == {
        ("eng_Latn", "white space"): ("190", "204"),
        ("tha_Thai", "NFC"): ("309",),
    }
    page = parsed(certificate_page(certificate))
    assert "Items not in Unicode's normal form C: 1 of 500. Known of the release." in page.text


def test_mlqa_is_not_parallel_and_its_dev_split_stands_in_for_test(shared_data: Path) -> None:
    wanted = ["eng_Latn", "spa_Latn"]
    certificate = certify("mlqa", Files(directory=shared_data), wanted=wanted)
    for one in certificate.languages:
        statuses = {found.name: found.status for found in one.findings}
        assert (one.split, one.items) == ("validation", one.declared)
        assert {name for name, status in statuses.items() if status == "yellow"} == {"files"}
        assert (statuses["parallel"], statuses["spans"]) == ("grey", "green")

"""The command line: what it prints, and exit codes 0, 1 (failed) and 2 (usage)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from maple.catalog import entry_names
from maple.study.template import COMMENTED_STUDY

KINDS = ("methods", "tasks", "datasets", "quantization", "models", "languages")
STUDIES = Path(__file__).parents[1] / "studies"
MAPLE = [sys.executable, "-c", "from maple.cli import main; main()"]


def maple(
    *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command line; a traceback is never what a user should see."""
    done = subprocess.run(
        [*MAPLE, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_listed(kind: str) -> None:
    done = maple("list", kind, "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    if kind == "languages":
        assert len(rows) > 200
        (swahili,) = (row for row in rows if row["code"] == "swh_Latn")
        assert swahili["tag"] == "sw"
        assert {"xnli", "xcopa"} <= set(swahili["tasks"])
    else:
        assert [row["name"] for row in rows] == entry_names(kind)
        assert all(row["description"] for row in rows)
    table = maple("list", kind)
    assert table.returncode == 0, table.stderr
    assert f"{len(rows)} {kind}" in table.stdout


def test_what_cannot_be_listed_is_a_usage_error() -> None:
    done = maple("list", "methodes")
    assert done.returncode == 2
    assert "methodes" in done.stderr


def test_the_schema_of_study_files_is_valid_and_takes_the_studies_here() -> None:
    schema = json.loads(maple("schema").stdout)
    assert schema["type"] == "object"
    assert set(schema["required"]) == {"name", "models", "methods"}
    jsonschema = pytest.importorskip("jsonschema", reason="checks structure only without it")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    texts = [path.read_text(encoding="utf-8") for path in STUDIES.glob("*.yaml")]
    assert texts
    for text in [*texts, COMMENTED_STUDY]:
        study = yaml.safe_load(text)
        validator.validate(study)
        assert not validator.is_valid(study | {"trainning": {}})
        assert not validator.is_valid(study | {"seeds": ["zero"]})


def test_a_study_that_init_wrote_can_be_planned(tmp_path: Path) -> None:
    done = maple("init", "mine.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "wrote mine.yaml. Next: maple plan mine.yaml\n")
    plan = maple("plan", "mine.yaml", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert "scored on:" in plan.stdout
    assert json.loads(maple("plan", "mine.yaml", "--json", cwd=tmp_path).stdout)["cells"]
    again = maple("init", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    nowhere = maple("init", "no/such/folder/mine.yaml", cwd=tmp_path)
    assert nowhere.returncode == 2
    assert "cannot be written" in nowhere.stderr


@pytest.mark.parametrize("command", ["plan", "run", "fetch"])
def test_what_is_wrong_with_a_study_names_its_file(tmp_path: Path, command: str) -> None:
    content = {"name": "s", "models": ["m"], "methods": ["lorra"]}
    for methods, words in (
        (["lorra"], "no method 'lorra'. Did you mean 'lora'"),
        ([{"lora": {"rank": 0}}], "lora: rank = 0"),
        (["none", 3], "is not a method"),
    ):
        study = content | {"methods": methods, "mixtures": {"a": {"multialpaca": 1}}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        # A model directory of one's own, so that nothing is asked of the Hub.
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / "config.json").write_text('{"model_type": "llama"}')
        done = maple(command, "mine.yaml", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("maple: mine.yaml")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_arguments_that_make_no_sense_are_usage_errors(tmp_path: Path) -> None:
    for arguments in (
        ["plan"],
        ["plan", "absent.yaml"],
        ["plan", "."],
        ["bogus"],
        ["run", "absent.yaml", "--limit", "0"],
        ["eval", "m"],
        ["export", ".", "--to", "excel"],
    ):
        done = maple(*arguments, cwd=tmp_path)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr


@pytest.mark.parametrize("command", ["status", "report", "export"])
def test_a_directory_that_is_no_store_is_refused(tmp_path: Path, command: str) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        done = maple(command, directory)
        assert done.returncode == 1, done.stderr
        assert str(directory) in done.stderr


def test_help_names_every_command() -> None:
    text = maple("--help").stdout
    for command in ("quickstart", "init", "schema", "plan", "fetch", "run", "eval", "status",
                    "report", "export", "list"):  # fmt: skip
        assert f"  {command} " in text
        assert maple(command, "--help").returncode == 0


@pytest.mark.parametrize("arguments", [["run", "s.yaml"], ["fetch", "s.yaml"]])
def test_without_a_network_the_error_is_clear_and_quick(
    tmp_path: Path, arguments: list[str]
) -> None:
    content = {
        "name": "s",
        "models": ["org/base"],
        "methods": ["none"],
        "evaluate": {"tasks": ["xnli"], "languages": ["sw"]},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with socket.socket() as taken:
        # Bound and not listening: a connection is refused at once.
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        done = maple(
            *arguments, cwd=tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0",
            HF_HOME=str(tmp_path / "home"),
        )  # fmt: skip
        seconds = time.monotonic() - began
    assert done.returncode == 1
    assert f"cannot reach the Hub at {endpoint} for model org/base" in done.stderr
    assert "--data-dir" in done.stderr
    assert seconds < 30
    offline = maple(*arguments, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    assert "maple fetch" in offline.stderr
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_says_that_what_is_stored_is_whole(tmp_path: Path) -> None:
    """Ctrl-C is one line and exit code 1, wherever it lands once the program has begun."""
    code = (
        "import os, signal, sys\n"
        "from maple import cli\n"
        "@cli.app.command()\n"
        "def wait() -> None:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['maple', 'wait']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, signal.SIGINT) == (1, 2)
    assert "interrupted" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr

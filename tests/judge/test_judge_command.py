"""``maple judge``: what it reads, says, writes and refuses; killed and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.judge.judge_server import JudgeServer, completion, outputs_of, ranked
from tests.judge.test_length import write_gamed
from typer.testing import CliRunner, Result

from maple.analysis.summary import summarise
from maple.cli import app
from maple.errors import DataError, SourceError, StoreError, UsageError
from maple.judge import read_annotations, read_outputs, write_outputs
from maple.store.read import open_store

N = 6


@pytest.fixture(autouse=True)
def _no_judge_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "MAPLE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """``ref.json`` and ``model.json``: the model's answer is the longer one for even numbers."""
    write_outputs(tmp_path / "ref.json", outputs_of("ref", N, lambda i: f"answer {i}"))
    longer = outputs_of("my model", N, lambda i: f"a {i}" if i % 2 else f"my answer: {i}")
    write_outputs(tmp_path / "model.json", longer)
    return tmp_path


def call(*arguments: object, server: JudgeServer | None = None) -> Result:
    environment = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"} if server else {}
    return CliRunner().invoke(app, ["judge", *map(str, arguments)], env=environment)


def judge(folder: Path, server: JudgeServer, *more: object) -> Result:
    model, reference = folder / "model.json", folder / "ref.json"
    fixed = ["--reference", reference, "--judge", "j", "--prompt", "pairwise", "--out", "out"]
    return call(model, *fixed, *more, server=server)


def raised(result: Result) -> BaseException:
    assert result.exception is not None, result.output
    return result.exception


# --------------------------------------------------------------------------- published verdicts


def test_published_verdicts_give_the_published_rate(shared_data: Path) -> None:
    folder = shared_data / "alpaca_eval/results/alpaca-7b"
    verdicts = folder / "alpaca_eval_gpt4/annotations.json"
    result = call(folder / "model_outputs.json", "--annotations", verdicts)
    assert result.exit_code == 0, result.output
    assert "alpaca-7b against text_davinci_003, by alpaca_eval_gpt4" in result.output
    assert "win rate 26.4596 (standard error 1.5357): 205 wins, 584 losses, 16" in result.output
    assert "no length-controlled win rate: AlpacaEval's df_gamed.csv is missing" in result.output
    assert "instruction_difficulty.csv" in result.output
    assert not Path("runs").exists()


def test_with_alpaca_evals_files_the_rate_is_length_controlled(
    shared_data: Path, tmp_path: Path, oracle
) -> None:
    path = shared_data / "alpaca_eval/results/alpaca-7b/alpaca_eval_gpt4/annotations.json"
    gamed = write_gamed(tmp_path, 0)
    result = call(path.parents[1], "--annotations", path, "--data-dir", tmp_path, "--json")
    found = json.loads(result.stdout)["results"][0]
    rows = json.loads(path.read_text(encoding="utf-8"))
    expected = oracle("rates", annotations=rows, gamed=str(gamed))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_verdicts_about_another_model_are_refused(files: Path, shared_data: Path) -> None:
    path = shared_data / "alpaca_eval/results/alpaca-7b/alpaca_eval_gpt4/annotations.json"
    error = raised(call(files / "model.json", "--annotations", path))
    assert isinstance(error, DataError)
    assert "no verdict about the answers of my model: it is about alpaca-7b" in str(error)


# ------------------------------------------------------------------------------ asking a judge


def test_verdicts_are_asked_for_written_and_never_asked_again(files: Path, server) -> None:
    result = judge(files, server, "--yes", "--price-in", 10, "--price-out", 30)
    assert result.exit_code == 0, result.output
    assert f"j (pairwise): {N} requests (0 verdicts kept from before, 0 equal" in result.output
    assert "prompt tokens (characters / 4) and at most 600 completion tokens; cost" in result.output
    assert "win rate 50.0000 (standard error 22.3607): 3 wins, 3 losses, 0 draws" in result.output
    folder = Path("out/my-model/maple-pairwise-j")
    rows = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    assert [row["preference"] for row in rows] == [2.0, 1.0] * 3
    assert rows[0] | {"raw_completion": None} == {
        "instruction": "Say 0.", "output_1": "answer 0", "generator_1": "ref", "dataset": "koala",
        "output_2": "my answer: 0", "generator_2": "my model", "annotator": "maple-pairwise-j",
        "preference": 2.0, "raw_completion": None, "is_switched": rows[0]["is_switched"],
        "prompt_tokens": 7, "completion_tokens": 3,
    }  # fmt: skip
    assert "'rank'" in rows[0]["raw_completion"]["message"]["content"]
    rates = json.loads((folder / "win_rate.json").read_text(encoding="utf-8"))
    assert (rates["win_rate"], rates["n_total"], rates["n_unparsable"]) == (50.0, N, 0)
    again = judge(files, server)
    assert f"0 requests ({N} verdicts kept" in again.output
    assert again.exit_code == 0
    assert len(server.asked) == N
    read = call(files / "model.json", "--annotations", folder / "annotations.json", "--json")
    assert json.loads(read.stdout)["results"][0]["win_rate"] == 50.0


def test_alpaca_eval_reads_what_was_written(files: Path, server, oracle) -> None:
    judge(files, server, "--yes")
    path = Path("out/my-model/maple-pairwise-j/annotations.json")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert oracle("plain", annotations=rows)["win_rate"] == 50.0
    gamed = write_gamed(files, 0)
    assert 0 < oracle("rates", annotations=rows, gamed=str(gamed))["lc_standard_error"] < 50


def test_without_a_terminal_nothing_is_sent_unasked(files: Path, server) -> None:
    error = raised(judge(files, server))
    assert isinstance(error, UsageError)
    assert "6 requests would be sent" in str(error)
    assert "--yes" in str(error)
    assert not server.asked


def test_unreadable_verdicts_are_counted_and_left_out(files: Path, server) -> None:
    def reply(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], Any]:
        return (200, {}, completion("Hm.")) if number % 2 else ranked(body, number)

    server.reply = reply
    result = judge(files, server, "--yes", "--concurrency", 1)
    assert "3 of 6 verdicts could not be read: left out" in result.output
    assert result.exit_code == 0
    server.reply = lambda body, number: (200, {}, completion("Hm."))
    result = judge(files, server, "--yes", "--out", "other", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["results"][0]
    assert (found["win_rate"], found["n_unparsable"]) == (None, N)
    assert "none of the 6 verdicts states a preference" in found["no_win_rate"]


def test_weighted_verdicts_are_means_of_probabilities(files: Path, server) -> None:
    tokens = [{"token": "m", "logprob": -0.5108256}, {"token": "M", "logprob": -0.9162907}]
    content = [{"token": "m", "logprob": -0.51, "bytes": [109], "top_logprobs": tokens}]
    answer = completion("m", logprobs={"content": content})
    server.reply = lambda body, number: (200, {}, answer)
    result = judge(files, server, "--yes", "--prompt", "weighted", "--limit", 4)
    assert result.exit_code == 0, result.output
    body = server.asked[0]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 5)
    rows = read_annotations(Path("out/my-model/maple-weighted-j/annotations.json"))
    assert len(rows) == 4
    for row in rows:
        assert row.preference == pytest.approx(1.6 if row.pair.is_switched else 1.4, abs=1e-6)


def test_a_server_without_logprobs_is_told_from_a_broken_one(files: Path, server) -> None:
    server.reply = lambda body, number: (422, {}, {"error": {"message": "logprobs unsupported"}})
    error = raised(judge(files, server, "--yes", "--prompt", "weighted"))
    assert isinstance(error, SourceError)
    assert "--prompt pairwise" in str(error)


def test_what_to_judge_by_must_be_named(files: Path) -> None:
    assert "--judge" in str(raised(call(files / "model.json")))
    both = call(files / "model.json", "--judge", "j", "--annotations", files / "ref.json")
    assert "choose one" in str(raised(both))
    assert isinstance(raised(call("nothing.json", "--judge", "j")), UsageError)


def test_a_reference_that_cannot_be_had_is_named(files: Path, server) -> None:
    error = raised(call(files / "model.json", "--judge", "j", server=server))
    assert "the outputs of the reference gpt4_1106_preview cannot be had" in str(error)
    assert "--reference" in str(error)


def test_a_killed_command_asks_again_what_was_under_way_alone(files: Path, server) -> None:
    def slow(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], Any]:
        time.sleep(0.02)
        return ranked(body, number)

    server.reply = slow
    n = 60
    write_outputs(files / "ref.json", outputs_of("ref", n, lambda i: f"answer {i}"))
    write_outputs(files / "model.json", outputs_of("my model", n, lambda i: f"a {i}"))
    arguments = ["judge", "model.json", "--reference", "ref.json", "--judge", "j", "--yes"]
    arguments += ["--prompt", "pairwise", "--out", "out", "--concurrency", "2"]
    code = "import sys; from maple.cli import main; sys.argv[0] = 'maple'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=files,
        env={**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"},
        stdout=subprocess.DEVNULL,
    )
    cache = files / "out/verdicts.jsonl"
    end = time.monotonic() + 60
    while not (cache.exists() and cache.read_bytes().count(b"\n") >= 10):
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cache.read_bytes().count(b"\n") < n
    result = judge(files, server, "--yes")
    assert result.exit_code == 0, result.output
    assert n <= len(server.asked) <= n + 2


# ------------------------------------------------------------------------------------- a store


def test_a_stores_answers_are_exported_judged_and_set_aside(
    model_directory: Callable[..., Path], server, tmp_path: Path
) -> None:
    rows = [{"instruction": f"Say {i}.", "output": str(i), "dataset": "koala"} for i in range(3)]
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(rows), encoding="utf-8")
    command = ["eval", model_directory("llama"), "--tasks", "alpaca-eval", "--languages", "en"]
    command += ["--data-dir", tmp_path, "--out", "store", "--template", "alpaca"]
    command += ["--quantization", "fp32"]
    done = CliRunner().invoke(app, [str(part) for part in command])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "3 outputs" in done.output
    assert "nan" not in done.output
    summary = summarise(open_store(Path("store")))
    reason = "generated, not judged: run `maple judge <store>`"
    assert [aside.reason for aside in summary.set_aside] == [reason]
    assert not summary.estimates.scores
    assert not summary.modes

    write_outputs(Path("ref.json"), outputs_of("ref", 3, lambda i: f"answer {i}"))
    arguments = ["store", "--data-dir", tmp_path, "--reference", "ref.json", "--judge", "j"]
    result = call(*arguments, "--prompt", "pairwise", "--yes", server=server)
    assert result.exit_code == 0, (result.output, result.exception)
    (run,) = open_store(Path("store")).runs()
    folder = Path("store/alpaca_eval") / run.run_id
    outputs = read_outputs(folder / "model_outputs.json")
    assert [o.instruction for o in outputs] == [row["instruction"] for row in rows]
    assert {o.generator for o in outputs} == {run.cell.label}
    assert len(read_annotations(folder / "maple-pairwise-j/annotations.json")) == 3
    after = summarise(open_store(Path("store"))).set_aside
    assert [a.reason for a in after] == [f"judged: win rates in alpaca_eval/{run.run_id}"]

    rows[1]["instruction"] = "Say something else."
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(rows), encoding="utf-8")
    error = raised(call(*arguments, "--yes", server=server))
    assert isinstance(error, DataError)
    assert "sample 1 of" in str(error)


def test_a_store_without_finished_answers_says_so(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    error = raised(call(tmp_path, "--judge", "j"))
    assert isinstance(error, StoreError)
    assert "no finished evaluation of alpaca-eval" in str(error)

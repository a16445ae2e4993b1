"""``maple eval`` and studies by another engine: audited, stored, resumed at the sample."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.engines.completion_server import CompletionServer, shifted
from tests.run.tiny import stored_rows, study, write_study
from typer.testing import CliRunner

from maple.cli.app import data_files
from maple.errors import StudyError, UsageError
from maple.plan import Evaluation
from maple.report.page import write_report
from maple.run import Progress, evaluate_models
from maple.run.endpoint_only import evaluate_endpoint
from maple.run.evaluate import EvaluationRequest
from maple.run.local import StudyOutcome, run_study
from maple.store.read import open_store
from maple.study import EngineSettings, EvalSpec, PromptSettings
from maple.study.file import load_study

Scores = Callable[..., StudyOutcome]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return "sk-very-secret"


@pytest.fixture
def score(data: Path, model_directory: Callable[..., Path], server: CompletionServer) -> Scores:
    """``score(out, ["xcopa"], ...)``: the tiny base by the server, in this process."""

    def call(
        out: Path,
        tasks: list[str],
        *,
        engine: dict[str, Any] | None = None,
        has_reference: bool = True,
        prompt: dict[str, Any] | None = None,
        **changes: Any,
    ) -> StudyOutcome:
        model = str(model_directory("llama"))
        settings: dict[str, Any] = {"name": "openai", "endpoint": server.url, "audit_samples": 4}
        request = EvaluationRequest(
            **{
                "model": model if has_reference else "big-one",
                "tokenizer": None if has_reference else model,
                "quantization": "fp32" if has_reference else None,
                "evaluations": tuple(Evaluation(task=t, language="swh_Latn") for t in tasks),
                "prompt": PromptSettings(**(prompt or {})),
                "engine": EngineSettings(**(settings | (engine or {}))),
                **changes,
            }
        )
        run = evaluate_models if has_reference else evaluate_endpoint
        progress = Progress(Console(file=io.StringIO()))
        return run(request, data_files(str(data), out), out, progress=progress)

    return call


def rows_of(out: Path, *left_out: str) -> list[dict[str, Any]]:
    keys = {"eval_id", "run_id", "loglikelihoods", "unconditional", *left_out}
    return [{k: v for k, v in row.items() if k not in keys} for row in stored_rows(out)]


def spec(out: Path, task: str) -> dict[str, Any]:
    (found,) = [e.spec for e in open_store(out).evaluations() if e.task == task]
    return dict(found)


def test_an_endpoint_stores_the_rows_of_the_reference(
    score: Scores, server: CompletionServer, tmp_path: Path, secret: str
) -> None:
    tasks = ["xcopa", "xquad"]
    assert not score(tmp_path / "own", tasks, engine={"name": "openai"}).failures
    asked = len(server.asked)
    assert asked > 0
    reference = EngineSettings().model_dump()
    assert not score(tmp_path / "ref", tasks, engine=reference).failures
    assert len(server.asked) == asked, "the reference engine asks nobody"
    mine, other = tmp_path / "own", tmp_path / "ref"
    assert rows_of(mine, "metrics", "n_tokens") == rows_of(other, "metrics", "n_tokens")
    pairs = list(zip(stored_rows(mine), stored_rows(other), strict=True))
    assert len(pairs) == 12
    for a, b in pairs:
        assert a["loglikelihoods"] == pytest.approx(b["loglikelihoods"], rel=1e-4)
        assert a["unconditional"] == pytest.approx(b["unconditional"], rel=1e-4)
        assert a["eval_id"] != b["eval_id"]
        assert a["run_id"] == b["run_id"]
    assert not any(secret in p.read_text("utf-8", "ignore") for p in mine.rglob("*.json"))


def test_the_audit_and_what_was_used_are_stored_and_shown(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    score(tmp_path, ["xcopa", "xquad"])
    stored = spec(tmp_path, "xcopa")
    audit = stored["audit"]
    assert stored["engine"] == "openai tokens"
    assert audit["is_parity"] is True
    assert (audit["samples"], audit["equal_decisions"], audit["problems"]) == (4, 1.0, [])
    assert audit["largest_difference"] < 1e-4
    assert audit["engine"]["url"] == server.url
    assert audit["engine"]["reported_model"] == "tiny-served"
    assert spec(tmp_path, "xquad")["audit"]["equal_texts"] == 1.0
    used = [json.loads(p.read_text()) for p in tmp_path.glob("evals/*/usage.json")]
    assert sum(u["requests"] for u in used) == len(server.asked)
    assert all(u["prompt_tokens"] > 0 for u in used)
    page = write_report(tmp_path).read_text("utf-8")
    assert "openai tokens: held against the reference, at least 100% equal decisions" in page


@pytest.mark.parametrize("api", ["text", "chat"])
def test_text_and_chat_give_the_texts_of_the_reference(
    api: str, score: Scores, tmp_path: Path
) -> None:
    prompt = {"template": "chat" if api == "chat" else "plain"}
    out, reference = tmp_path / "own", tmp_path / "ref"
    assert not score(out, ["xquad"], engine={"api": api}, prompt=prompt).failures
    score(reference, ["xquad"], engine=EngineSettings().model_dump(), prompt=prompt)
    assert [r["text"] for r in stored_rows(out)] == [r["text"] for r in stored_rows(reference)]


def test_a_chat_endpoint_under_another_template_is_refused_at_once(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--template chat"):
        score(tmp_path / "out", ["xquad"], engine={"api": "chat"})
    assert not server.asked
    assert not (tmp_path / "out").exists()


def test_another_model_is_refused_with_its_audit_and_without_a_row(
    score: Scores, other_server: CompletionServer, tmp_path: Path
) -> None:
    outcome = score(tmp_path, ["xcopa", "xquad"], engine={"endpoint": other_server.url})
    ((_, error),) = outcome.failures
    assert "EngineError" in error
    assert "xcopa swh_Latn: engine openai" in error
    assert "xquad swh_Latn" in error
    assert "disagrees with the reference engine on 4 samples" in error
    assert stored_rows(tmp_path) == []
    assert spec(tmp_path, "xcopa")["audit"]["problems"]
    (run,) = open_store(tmp_path).runs()
    assert run.failure is not None
    assert "disagrees" in write_report(tmp_path).read_text("utf-8")


def test_a_refused_task_leaves_the_others_their_scores(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    server.spoil = shifted(0.4)  # of rankings alone
    outcome = score(tmp_path, ["xcopa", "xquad"])
    ((_, error),) = outcome.failures
    assert "xcopa" in error
    assert "xquad" not in error
    assert {row["task"] for row in stored_rows(tmp_path)} == {"xquad"}
    server.spoil = lambda body, number, honest: honest()
    before = len(server.asked)
    assert not score(tmp_path, ["xcopa", "xquad"]).failures
    assert len(stored_rows(tmp_path)) == 12
    assert all(body.get("echo") for body in server.asked[before:]), "xquad was scored already"


def failing_from(number: int, lasting: tuple[int, dict[str, str], bytes]) -> Any:
    def spoil(body: dict[str, Any], n: int, honest: Any) -> Any:
        return lasting if n >= number else honest()

    return spoil


@pytest.mark.parametrize("task", ["xcopa", "xquad"])
def test_a_failing_server_loses_no_answer_and_the_same_command_goes_on(
    task: str, score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    one = {"concurrency": 1, "audit_samples": 1}
    score(whole, [task], engine=one)
    total, server.asked[:] = len(server.asked), []
    out = tmp_path / "out"
    server.spoil = failing_from(total - 1, (401, {}, b"{}"))
    ((_, error),) = score(out, [task], engine=one).failures
    assert "SourceError" in error
    assert "Answers so far are kept" in error
    kept = len(stored_rows(out))
    assert 2 < kept < 6
    stored = json.loads(next(out.glob("evals/*/usage.json")).read_text())["requests"]
    assert stored == total - 2, "what was paid for is counted where the run failed, too"
    server.spoil, server.asked[:] = (lambda body, n, honest: honest()), []
    assert not score(out, [task], engine=one).failures
    assert rows_of(out) == rows_of(whole)
    assert len(server.asked) < total
    counted = json.loads(next(out.glob("evals/*/usage.json")).read_text())["requests"]
    assert counted == stored + len(server.asked)


def test_answers_behind_a_failed_one_are_kept(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    score(tmp_path / "whole", ["xquad"], engine={"audit_samples": 1, "concurrency": 1})
    audited = server.asked[0]
    first = server.asked[1]["prompt"]
    assert first != audited["prompt"]

    def spoil(body: dict[str, Any], n: int, honest: Any) -> Any:
        if body["prompt"] == first:
            while len(server.asked) < 6:  # it fails when others have been answered
                time.sleep(0.01)
            return 403, {}, b"{}"
        return honest()

    server.asked[:], server.spoil = [], spoil
    out = tmp_path / "out"
    outcome = score(out, ["xquad"], engine={"audit_samples": 1, "concurrency": 4})
    assert outcome.failures
    assert len(stored_rows(out)) >= 3


def test_an_evaluation_that_is_answered_is_not_asked_again(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    score(tmp_path, ["xcopa"])
    before = len(server.asked)
    assert not score(tmp_path, ["xcopa"]).failures
    assert len(server.asked) == before


# ---------------------------------------------------------------- a model without a reference


def test_a_model_behind_an_endpoint_alone_is_a_run_that_says_it_was_not_audited(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    assert not score(tmp_path, ["xcopa", "xquad"], has_reference=False).failures
    (run,) = open_store(tmp_path).runs()
    assert (run.cell.model, run.cell.method) == ("big-one", "none")
    assert (run.cell.quantization, run.cell.bits) == ("endpoint", None)
    assert {body["model"] for body in server.asked} == {"big-one"}
    assert len(stored_rows(tmp_path)) == 12
    audit = spec(tmp_path, "xcopa")["audit"]
    assert audit["is_parity"] is False
    assert audit["context_difference"] == pytest.approx(0, abs=1e-5)
    assert "not audited against the reference" in audit["statement"]
    page = write_report(tmp_path).read_text("utf-8")
    assert "not audited against the reference" in page
    asked = [json.dumps(b["prompt"]) for b in server.asked if "stop" in b]
    assert max(asked.count(p) for p in asked) == 2, "each audited prompt is asked twice"


def test_it_is_asked_in_text_or_chat_where_no_tokenizer_is_named(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    engine = {"api": "text"}
    assert not score(
        tmp_path / "t", ["xcopa"], has_reference=False, tokenizer=None, engine=engine
    ).failures
    assert all(isinstance(b["prompt"], str) for b in server.asked)
    outcome = score(
        tmp_path / "c",
        ["xcopa", "xquad"],
        has_reference=False,
        tokenizer=None,
        engine={"api": "chat"},
        prompt={"template": "chat"},
    )
    ((_, error),) = outcome.failures
    assert "xcopa" in error
    assert "--scoring generation" in error
    assert {row["task"] for row in stored_rows(tmp_path / "c")} == {"xquad"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer": None}, "--tokenizer"),
        ({"quantization": "nf4"}, "--adapter and --quantization"),
        ({"adapters": (Path("a"),)}, "--adapter and --quantization"),
        ({"engine": {"name": "reference", "endpoint": None}}, "--engine openai"),
    ],
)
def test_what_cannot_be_asked_of_it_is_refused_first(
    changes: dict[str, Any], said: str, score: Scores, tmp_path: Path
) -> None:
    if "engine" in changes:
        changes = {"engine": {"name": "reference", "endpoint": None, "audit_samples": 32}}
    with pytest.raises(UsageError, match=said):
        score(tmp_path / "out", ["xcopa"], has_reference=False, **changes)
    assert not (tmp_path / "out").exists()


def test_log_likelihoods_that_change_from_call_to_call_are_refused(
    score: Scores, server: CompletionServer, tmp_path: Path
) -> None:
    def spoil(body: dict[str, Any], n: int, honest: Any) -> Any:
        answer = honest()
        found = answer["choices"][0]["logprobs"]
        found["token_logprobs"] = [v and v - 0.01 * n for v in found["token_logprobs"]]
        return answer

    server.spoil = spoil
    ((_, error),) = score(tmp_path, ["xcopa"], has_reference=False).failures
    assert "disagrees with itself when asked again" in error
    assert stored_rows(tmp_path) == []


# ------------------------------------------------------------------------ studies, commands


def test_a_study_scores_by_the_engine_it_names(
    model_directory: Callable[..., Path], data: Path, server: CompletionServer, tmp_path: Path
) -> None:
    engine = {"name": "openai", "endpoint": server.url, "audit_samples": 2}
    content = study(
        model_directory("llama"),
        methods=["none"],
        quantization=["fp32"],
        mixtures={},
        evaluate={"tasks": ["xcopa"], "languages": ["sw"], "limit": 4, "engine": engine},
    )
    chosen = load_study(write_study(tmp_path / "s.yaml", content))
    files = data_files(str(data), tmp_path)
    out = tmp_path / "out"
    quiet = Progress(Console(file=io.StringIO()))
    assert not run_study(chosen, files, out, workers=1, progress=quiet).failures
    asked = len(server.asked)
    assert asked
    assert spec(out, "xcopa")["audit"]["samples"] == 2
    again = Progress(Console(file=io.StringIO()))
    assert not run_study(chosen, files, out, workers=1, progress=again).failures
    assert len(server.asked) == asked, "what is stored is not asked again"


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"name": "openai"}, "train adapters that no endpoint has"),
        ({"name": "vllm", "endpoint": "http://x/v1"}, "endpoint means nothing to the engine"),
        ({"name": "reference", "audit_samples": 3}, "audit_samples means nothing"),
        ({"name": "openai", "modell": "x"}, "Did you mean 'model'"),
        ("llama.cpp", "reference"),
    ],
)
def test_an_engine_that_cannot_be_fails_in_the_study_file(
    engine: Any, said: str, tmp_path: Path
) -> None:
    content = study("atlas-base")
    content["evaluate"]["engine"] = engine
    with pytest.raises(StudyError, match=said):
        load_study(write_study(tmp_path / "s.yaml", content))


def test_identities_without_an_engine_are_what_they_were() -> None:
    fields = {
        "run_id": "r", "adapter": "none", "task": "xnli", "task_version": 1,
        "language": "swh_Latn", "data": "d", "split": "test",
    }  # fmt: skip
    plain = EvalSpec(**fields)
    assert "engine" not in plain.model_dump()
    assert EvalSpec(**fields, engine=EngineSettings().identity).id == plain.id
    others = [
        EngineSettings(name="vllm"),
        EngineSettings(name="openai"),
        EngineSettings(name="openai", api="text"),
        EngineSettings(name="openai", model="m"),
    ]
    ids = {EvalSpec(**fields, engine=s.identity).id for s in others}
    assert len(ids | {plain.id}) == 5
    elsewhere = EngineSettings(name="openai", endpoint="http://x/v1", concurrency=2)
    assert elsewhere.identity == EngineSettings(name="openai").identity


def test_the_command_scores_by_an_endpoint(
    model_directory: Callable[..., Path], data: Path, server: CompletionServer, tmp_path: Path
) -> None:
    from maple.cli import app

    out = tmp_path / "out"
    call = [
        "eval", str(model_directory("llama")), "--tasks", "xcopa", "--languages", "sw",
        "--data-dir", str(data), "--out", str(out), "--limit", "3", "--quantization", "fp32",
        "--engine", "openai", "--endpoint", server.url, "--engine-model", "tiny",
        "--audit-samples", "2",
    ]  # fmt: skip
    outcome = CliRunner().invoke(app, call)
    assert outcome.exit_code == 0, outcome.output
    assert len(stored_rows(out)) == 3
    assert {body["model"] for body in server.asked} == {"tiny"}
    wrong = CliRunner().invoke(app, [*call, "--engine", "vllm"])
    assert isinstance(wrong.exception, UsageError)
    assert "means nothing to the engine 'vllm'" in str(wrong.exception)

"""Asking a judge over HTTP: retries, rate limits, what is kept and what is never asked twice."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.judge.judge_server import JudgeServer, completion, outputs_of, ranked

from maple.errors import SourceError, UsageError
from maple.judge import (
    Endpoint,
    EndpointSettings,
    Pair,
    VerdictCache,
    annotate,
    ask_all,
    estimate,
    load_protocol,
    pair_outputs,
)

PROTOCOL = load_protocol("pairwise")


def pairs_of(n: int) -> list[Pair]:
    """The model's answer is the longer one for even instructions."""
    reference = outputs_of("ref", n, lambda i: f"answer {i}")
    return pair_outputs(
        reference, outputs_of("model", n, lambda i: f"a {i}" if i % 2 else f"my answer: {i}")
    )


def ask(
    server: JudgeServer, pairs: list[Pair], cache: VerdictCache, *, concurrency: int = 4, **changes
) -> int:
    endpoint = server.endpoint(**changes)
    try:
        return ask_all(pairs, PROTOCOL, endpoint=endpoint, cache=cache, concurrency=concurrency)
    finally:
        endpoint.close()


def failing(first: list[tuple[int, dict[str, str]]]) -> Any:
    """Fails the first requests with those statuses and headers, then ranks."""

    def reply(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], Any]:
        if number <= len(first):
            status, headers = first[number - 1]
            return status, headers, {"error": {"message": "not now", "code": None}}
        return ranked(body, number)

    return reply


def test_verdicts_are_turned_back_to_reference_and_model(server, tmp_path: Path) -> None:
    pairs, cache = pairs_of(12), VerdictCache(tmp_path / "v.jsonl")
    assert ask(server, pairs, cache) == 12
    assert len({p.is_switched for p in pairs}) == 2
    found = annotate(pairs, PROTOCOL, judge="j", annotator="a", cache=cache)
    assert [a.preference for a in found] == [1.0 if i % 2 else 2.0 for i in range(12)]


def test_a_request_carries_the_protocols_parameters(server, tmp_path: Path) -> None:
    ask(server, pairs_of(1), VerdictCache(tmp_path / "v.jsonl"))
    body = server.asked[0]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("j", 100, 0)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert load_protocol("weighted").settings == {
        "max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 5,
    }  # fmt: skip


def test_nothing_is_asked_twice(server, tmp_path: Path) -> None:
    pairs, path = pairs_of(6), tmp_path / "v.jsonl"
    ask(server, pairs[:4], VerdictCache(path))
    cache = VerdictCache(path)
    before = estimate(pairs, PROTOCOL, judge="j", cache=cache)
    assert (before.requests, before.cached, before.same) == (2, 4, 0)
    assert ask(server, pairs, cache) == 2
    assert ask(server, pairs, VerdictCache(path)) == 0
    assert len(server.asked) == 6


def test_another_judge_prompt_or_answer_is_asked_anew(server, tmp_path: Path) -> None:
    pairs, cache = pairs_of(2), VerdictCache(tmp_path / "v.jsonl")
    ask(server, pairs, cache)
    weighted = load_protocol("weighted")
    assert estimate(pairs, PROTOCOL, judge="k", cache=cache).requests == 2
    assert estimate(pairs, weighted, judge="j", cache=cache).requests == 2
    other = pair_outputs(outputs_of("ref", 2, str), outputs_of("model", 2, lambda i: f"a {i}"))
    assert estimate(other, PROTOCOL, judge="j", cache=cache).requests == 2


def test_equal_answers_are_a_draw_that_nobody_is_asked_about(server, tmp_path: Path) -> None:
    same = pair_outputs(outputs_of("ref", 3, str), outputs_of("model", 3, str))
    cache = VerdictCache(tmp_path / "v.jsonl")
    assert ask(server, same, cache) == 0
    found = annotate(same, PROTOCOL, judge="j", annotator="a", cache=cache)
    assert [a.preference for a in found] == [1.5] * 3
    assert not server.asked


def test_an_unreadable_verdict_is_kept_and_is_no_loss(server, tmp_path: Path) -> None:
    server.reply = lambda body, number: (200, {}, completion("Both are fine."))
    pairs, path = pairs_of(3), tmp_path / "v.jsonl"
    ask(server, pairs, VerdictCache(path))
    cache = VerdictCache(path)
    assert ask(server, pairs, cache) == 0
    found = annotate(pairs, PROTOCOL, judge="j", annotator="a", cache=cache)
    assert [a.preference for a in found] == [None] * 3
    assert found[0].raw["message"]["content"] == "Both are fine."


def test_the_estimate_counts_characters_over_four(tmp_path: Path) -> None:
    pairs, cache = pairs_of(5), VerdictCache(tmp_path / "v.jsonl")
    found = estimate(pairs, PROTOCOL, judge="j", cache=cache)
    asked = [m for p in pairs for m in PROTOCOL.messages(p.instruction, *p.shown)]
    assert found.prompt_tokens == -(-sum(len(m["content"]) for m in asked) // 4)
    assert found.completion_tokens == 500
    assert found.cost(2.0, 10.0) == pytest.approx(found.prompt_tokens * 2e-6 + 0.005)


# ------------------------------------------------------------------------- a server that fails


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_passing_failure_is_tried_again(status: int, server, tmp_path: Path) -> None:
    server.reply = failing([(status, {}), (status, {})])
    cache = VerdictCache(tmp_path / "v.jsonl")
    assert ask(server, pairs_of(1), cache) == 1
    assert (len(server.asked), len(cache)) == (3, 1)


def test_what_retry_after_demands_is_waited_by_all_threads(server, tmp_path: Path) -> None:
    def limited(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], Any]:
        if number == 1:
            return 429, {"retry-after": "0.8"}, {"error": {"message": "slow down"}}
        time.sleep(0.05)  # three threads would ask on for half a second
        return ranked(body, number)

    server.reply = limited
    ask(server, pairs_of(30), VerdictCache(tmp_path / "v.jsonl"), concurrency=3)
    since = [moment - server.times[0] for moment in server.times]
    assert not [t for t in since if 0.4 < t < 0.75]
    assert [t for t in since if t >= 0.75]
    assert len(server.asked) == 31


def test_a_rate_limit_spaces_requests(server, tmp_path: Path) -> None:
    ask(server, pairs_of(4), VerdictCache(tmp_path / "v.jsonl"), requests_per_minute=600)
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert server.times[-1] - server.times[0] > 0.25
    assert min(gaps) > 0.03


def test_a_timeout_is_tried_again(server, tmp_path: Path) -> None:
    def slow(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], Any]:
        time.sleep(0.6 if number == 1 else 0)
        return ranked(body, number)

    server.reply = slow
    cache = VerdictCache(tmp_path / "v.jsonl")
    assert ask(server, pairs_of(1), cache, timeout_seconds=0.3) == 1
    assert len(server.asked) == 2


def test_a_lasting_failure_says_so_and_keeps_what_came_before(server, tmp_path: Path) -> None:
    server.reply = lambda body, n: ranked(body, n) if n <= 3 else (503, {}, {"error": "down"})
    pairs, path = pairs_of(6), tmp_path / "v.jsonl"
    with pytest.raises(SourceError, match=r"judge 'j' at http.*failed after 3 tries: .*503.*kept"):
        ask(server, pairs, VerdictCache(path), concurrency=1, tries=3)
    assert (len(VerdictCache(path)), len(server.asked)) == (3, 6)
    server.reply = ranked
    assert ask(server, pairs, VerdictCache(path)) == 3


@pytest.mark.parametrize(
    ("status", "code", "headers", "advice"),
    [
        (401, None, {}, "OPENAI_API_KEY"),
        (404, None, {}, "Check --judge and OPENAI_BASE_URL"),
        (422, None, {}, "Try again later"),
        (429, "insufficient_quota", {}, "requests-per-minute"),
        (429, None, {"retry-after": "86400"}, "asks to wait 86400 s"),
    ],
)
def test_a_refusal_is_not_tried_again(status, code, headers, advice, server, tmp_path) -> None:
    server.reply = lambda body, n: (status, headers, {"error": {"message": "no", "code": code}})
    with pytest.raises(SourceError, match=advice):
        ask(server, pairs_of(1), VerdictCache(tmp_path / "v.jsonl"))
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    endpoint = Endpoint(
        EndpointSettings(
            judge="j", base_url="http://127.0.0.1:9/v1", tries=2, first_wait_seconds=0.01
        )
    )
    cache = VerdictCache(tmp_path / "v.jsonl")
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9/v1 failed after 2 tries.*server runs"):
        ask_all(pairs_of(1), PROTOCOL, endpoint=endpoint, cache=cache)
    endpoint.close()


def test_without_a_server_or_a_key_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="neither OPENAI_BASE_URL nor OPENAI_API_KEY is set"):
        Endpoint(EndpointSettings(judge="j"))


# ------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_costs_one_verdict(cut: int, server, tmp_path: Path) -> None:
    pairs, path = pairs_of(4), tmp_path / "v.jsonl"
    ask(server, pairs, VerdictCache(path))
    path.write_bytes(path.read_bytes()[:-cut])
    expected = 0 if cut == 1 else 1  # less its line end alone, the last line is still whole
    cache = VerdictCache(path)
    assert len(cache) == 4 - expected
    assert ask(server, pairs, cache) == expected
    assert len(VerdictCache(path)) == 4
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 + expected
    assert json.loads(lines[-1])["protocol"] == "pairwise"

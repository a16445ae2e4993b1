"""An endpoint answers as the reference engine does, or says clearly that it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.engines.completion_server import CompletionServer, failing_first, slow

import maple.endpoint
from maple.base import LoadedBase
from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.endpoint import Server, ServerSettings
from maple.engines import OpenAIEngine, TextEncoder
from maple.engines.seeds import seed_of
from maple.errors import EngineError, SourceError, UsageError
from maple.evaluate import Engine
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.study import DecodingSettings, PromptSettings

RANKINGS = [
    RankingRequest(context="The capital of Kenya is", continuations=("Nairobi.", "Add 3 and 4.")),
    RankingRequest(context="Mji mkuu wa Kenya ni ", continuations=("Nairobi.", "4")),
    RankingRequest(context="", continuations=("Name the capital.", "Taja mji.")),
]
THAI = RankingRequest(context="เมืองหลวงของเคนยาคือ", continuations=("ไนโรบี", "สี่"), delimiter="")
PROMPTS = [
    GenerationRequest(context="Name the capital of Kenya.", stop=("\n",), max_new_tokens=9),
    GenerationRequest(context="计算三加四。", stop=("\n", "<"), max_new_tokens=6),
    GenerationRequest(context="Jumlisha 3 na 4.", stop=(), max_new_tokens=12),
]


def encoded(base: LoadedBase, requests: Any, template: str = "plain") -> list[EncodedRequest]:
    prompt = PromptSettings(template=template)
    encoder = Encoder(base.tokenizer, base.family, prompt, max_length=base.max_length)
    return [
        encoder.ranking(r) if isinstance(r, RankingRequest) else encoder.generation(r, None)
        for r in requests
    ]


def as_text(requests: Any, *, template: str = "plain", is_chat: bool = False) -> list[Any]:
    return TextEncoder(PromptSettings(template=template), is_chat=is_chat).encode(requests)


@contextmanager
def asking(server: CompletionServer, **settings: Any) -> Iterator[OpenAIEngine]:
    engine = server.engine(**settings)
    try:
        yield engine
    finally:
        engine.close()


def test_token_ids_are_scored_as_the_reference_scores_them(base, server) -> None:
    requests = encoded(base, [*RANKINGS, THAI])
    with asking(server) as engine:
        found = engine.loglikelihoods(requests)
    for mine, reference in zip(
        found, Engine(base.model, base).loglikelihoods(requests), strict=True
    ):
        assert mine.loglikelihoods == pytest.approx(reference.loglikelihoods, rel=1e-4)
        assert mine.n_tokens == reference.n_tokens
        assert mine.is_greedy == reference.is_greedy
    assert {body["max_tokens"] for body in server.asked} == {0}
    assert all(body["echo"] and isinstance(body["prompt"], list) for body in server.asked)


def test_a_greedy_option_is_told(base, server) -> None:
    (prompt,) = encoded(base, [PROMPTS[2]])
    written = Engine(base.model, base).generate([prompt])[0].text
    ranking = RankingRequest(
        context=PROMPTS[2].context, continuations=(written[:6], "zzz"), delimiter=""
    )
    requests = encoded(base, [ranking])
    (reference,) = Engine(base.model, base).loglikelihoods(requests)
    with asking(server) as engine:
        (mine,) = engine.loglikelihoods(requests)
    assert mine.is_greedy == reference.is_greedy


def test_text_is_scored_as_token_ids_are(base, server) -> None:
    reference = Engine(base.model, base).loglikelihoods(encoded(base, RANKINGS))
    with asking(server, api="text") as engine:
        found = engine.loglikelihoods(as_text(RANKINGS))
    assert [r.n_tokens for r in found] == [r.n_tokens for r in reference]
    for mine, other in zip(found, reference, strict=True):
        assert mine.loglikelihoods == pytest.approx(other.loglikelihoods, rel=1e-4)
    assert all(isinstance(body["prompt"], str) for body in server.asked)


def test_echoed_tokens_that_cut_characters_are_refused_in_text(server) -> None:
    # One Georgian character is several tokens of this vocabulary, each a broken one by itself.
    georgian = RankingRequest(context="დედაქალაქი:", continuations=("ა", "ბ"))
    with asking(server, api="text") as engine, pytest.raises(EngineError, match="do not spell"):
        engine.loglikelihoods(as_text([georgian]))


@pytest.mark.parametrize("api", ["tokens", "text", "chat"])
def test_texts_are_those_of_the_reference(api, base, server) -> None:
    template = "chat" if api == "chat" else "plain"
    reference = Engine(base.model, base).generate(encoded(base, PROMPTS, template))
    requests = (
        encoded(base, PROMPTS)
        if api == "tokens"
        else as_text(PROMPTS, template=template, is_chat=api == "chat")
    )
    with asking(server, api=api) as engine:
        found = engine.generate(requests)
    assert [r.text for r in found] == [r.text for r in reference]
    assert [r.finish for r in found] == [r.finish for r in reference]
    assert {body["temperature"] for body in server.asked} == {0}


def test_a_stop_string_is_cut_here_where_the_server_heeds_none(base, server) -> None:
    requests = encoded(base, [PROMPTS[2]])
    whole = Engine(base.model, base).generate(requests)[0].text
    stop = whole[4:6]
    server.spoil = lambda body, n, honest: (body.pop("stop"), honest())[1]
    asked = encoded(base, [GenerationRequest(context=PROMPTS[2].context, stop=(stop,))])
    with asking(server) as engine:
        (answer,) = engine.generate(asked)
    assert answer.text == whole[: whole.find(stop)]
    assert answer.finish == "stop"


def test_drawn_answers_carry_settings_and_a_seed_of_the_sample(base, server) -> None:
    (greedy,) = encoded(base, [PROMPTS[0]])
    settings = DecodingSettings(temperature=0.7, top_p=0.9, top_k=5, seed=3)
    drawn = [
        EncodedRequest(prompt=greedy.prompt, max_new_tokens=2, sampling=settings, draw_key=key)
        for key in ("a", "b")
    ]
    with asking(server) as engine:
        engine.generate(drawn)
    asked = sorted((b["temperature"], b["top_p"], b["top_k"], b["seed"]) for b in server.asked)
    assert asked == sorted((0.7, 0.9, 5, seed_of(r)) for r in drawn)
    assert seed_of(drawn[0]) != seed_of(drawn[1])


def test_several_requests_are_under_way_at_once_and_never_more(base, server) -> None:
    requests = encoded(base, [GenerationRequest(context=f"Add {n}.") for n in range(12)])
    server.spoil = lambda body, n, honest: (time.sleep(0.03), honest())[1]
    with asking(server, concurrency=3) as engine:
        found = engine.generate(requests)
    assert [r.text for r in found] == [r.text for r in Engine(base.model, base).generate(requests)]
    assert server.most_at_once == 3


def test_equal_requests_are_asked_once(base, server) -> None:
    requests = encoded(base, [PROMPTS[0]] * 4)
    with asking(server) as engine:
        engine.generate(requests)
        engine.expect(requests)
        engine.generate(requests)
    assert len(server.asked) == 1


def test_a_settled_engine_takes_requests_again(base, server) -> None:
    requests = encoded(base, PROMPTS)
    with asking(server, concurrency=1) as engine:
        server.spoil = lambda body, n, honest: (403, {}, b"{}") if n == 2 else honest()
        engine.expect(requests)
        with pytest.raises(SourceError):
            engine.generate(requests)
        engine.settle()
        assert [engine.has(r) for r in requests] == [True, False, False]
        engine.expect(requests)
        assert len(engine.generate(requests)) == 3
    assert len(server.asked) == 4, "what was answered is not asked again"


def test_usage_is_counted_and_taken_once(base, server) -> None:
    with asking(server) as engine:
        engine.generate(encoded(base, PROMPTS[:2]))
        used = engine.take_usage()
        assert engine.take_usage().requests == 0
    assert used.requests == 2
    assert used.prompt_tokens == sum(len(b["prompt"]) for b in server.asked)
    assert used.completion_tokens > 0


# -------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    "failures",
    [
        [(500, {}, b"{}"), (503, {}, b"oops")],
        [(429, {"retry-after": "0"}, b"{}")],
        [(200, {}, b"not json"), (200, {}, b"[1, 2]")],
        [(200, {"content-length": "4000"}, b'{"choices": [')],
    ],
    ids=["server error", "rate limit", "no JSON", "dropped connection"],
)
def test_what_passes_is_tried_again(failures, base, server) -> None:
    server.spoil = failing_first(failures)
    requests = encoded(base, [PROMPTS[0]])
    with asking(server) as engine:
        (found,) = engine.generate(requests)
    assert found.text == Engine(base.model, base).generate(requests)[0].text
    assert len(server.asked) == 1 + len(failures)


def test_a_timeout_is_tried_again(base, server) -> None:
    server.spoil = slow(0.8, number=1)
    with asking(server, timeout=0.4) as engine:
        assert engine.generate(encoded(base, [PROMPTS[0]]))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, {}, b'{"error": {"message": "bad key sk-secret"}}'), r"bad key \*\*\*.*OPENAI_API"),
        ((404, {}, b"{}"), "Check --engine-model"),
        ((400, {}, b'{"error": {"message": "too long"}}'), "too long.*does not take"),
        ((500, {}, b"{}"), "failed after 3 tries"),
        ((200, {}, b"<html>"), "failed after 3 tries: its answer is no JSON: '<html>'"),
        ((200, {"content-length": "99"}, b"{"), "after 3 tries: its answer broke off"),
    ],
)
def test_a_lasting_failure_is_one_clear_error_without_the_key(reply, said, base, server) -> None:
    server.spoil = lambda body, n, honest: reply
    with asking(server) as engine, pytest.raises(SourceError, match=said) as failure:
        engine.generate(encoded(base, [PROMPTS[0]]))
    assert "sk-secret" not in str(failure.value)
    assert "Answers so far are kept" in str(failure.value)
    assert server.keys == {"Bearer sk-secret"}
    assert "sk-secret" not in repr(ServerSettings(api_key="sk-secret"))


def test_an_endless_answer_is_not_read_to_its_end(base, server, monkeypatch) -> None:
    monkeypatch.setattr(maple.endpoint, "_LARGEST_ANSWER_BYTES", 1 << 20)
    server.spoil = lambda body, n, honest: (200, {}, b"[" * (3 << 20))
    with asking(server) as engine, pytest.raises(SourceError, match="larger than 1 MiB"):
        engine.generate(encoded(base, [PROMPTS[0]]))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [{}, {"choices": []}, {"choices": [3]}, {"choices": [{"text": None}]}, {"choices": "x"}],
)
def test_an_answer_that_is_no_completion_is_refused(answer, base, server) -> None:
    server.spoil = lambda body, n, honest: answer
    with asking(server) as engine, pytest.raises(EngineError, match="no completion"):
        engine.generate(encoded(base, [PROMPTS[0]]))


def spoil_echo(**changes: Any) -> Any:
    def spoil(body: dict[str, Any], number: int, honest: Any) -> Any:
        answer = honest()
        found = answer["choices"][0]["logprobs"]
        for key, change in changes.items():
            found[key] = change(found[key])
        return answer

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda b, n, honest: {"choices": [{"text": "", "logprobs": None}]},
            "without log-probabilities",
        ),
        (spoil_echo(token_logprobs=lambda v: v[:-1]), "not a list as long"),
        (spoil_echo(tokens=lambda v: v[-1:], token_logprobs=lambda v: v[-1:]), "echoes 1 tokens"),
        (spoil_echo(token_logprobs=lambda v: [*v[:-1], None]), "no log-probability of token"),
        (spoil_echo(token_logprobs=lambda v: [*v[:-1], float("nan")]), "'nan'"),
        (spoil_echo(token_logprobs=lambda v: [*v[:-1], 0.5]), "'0.5'"),
        (spoil_echo(token_logprobs=lambda v: [*v[:-1], "-1"]), "'-1'"),
        (spoil_echo(token_logprobs=lambda v: [*v[:-1], True]), "'True'"),
        (lambda b, n, honest: (400, {}, b'{"error": "echo unsupported"}'), "does not echo"),
    ],
)
def test_log_probabilities_that_cannot_be_relied_on_are_refused(spoil, said, base, server) -> None:
    server.spoil = spoil
    with asking(server) as engine, pytest.raises(EngineError, match=said) as refusal:
        engine.loglikelihoods(encoded(base, RANKINGS[:1]))
    assert "--scoring generation" in str(refusal.value)


def test_a_server_that_must_generate_is_asked_for_one_token_which_is_left_out(base, server) -> None:
    def spoil(body: dict[str, Any], number: int, honest: Any) -> Any:
        if body["max_tokens"] == 0:
            return 400, {}, b'{"error": "max_tokens must be at least 1"}'
        answer = honest()
        found = answer["choices"][0]["logprobs"]
        found["tokens"].append("x")
        found["token_logprobs"].append(-0.1)
        found["top_logprobs"].append({"x": -0.1})
        answer["usage"]["completion_tokens"] = 1
        return answer

    server.spoil = spoil
    requests = encoded(base, RANKINGS[:1])
    with asking(server, concurrency=1) as engine:
        (mine,) = engine.loglikelihoods(requests)
    (reference,) = Engine(base.model, base).loglikelihoods(requests)
    assert mine.loglikelihoods == pytest.approx(reference.loglikelihoods, rel=1e-4)
    assert [body["max_tokens"] for body in server.asked] == [0, 1, 1]


def test_a_chat_endpoint_ranks_nothing(server) -> None:
    with asking(server, api="chat") as engine, pytest.raises(EngineError, match="chat endpoint"):
        engine.loglikelihoods(as_text(RANKINGS))
    assert not server.asked


def test_a_chat_that_knows_the_limit_by_its_newer_name_is_asked_by_it(server) -> None:
    def spoil(body: dict[str, Any], number: int, honest: Any) -> Any:
        if "max_tokens" in body:
            return 400, {}, b'{"error": {"message": "use max_completion_tokens instead"}}'
        return honest()

    server.spoil = spoil
    with asking(server, api="chat", concurrency=2) as engine:
        found = engine.generate(as_text(PROMPTS, is_chat=True, template="chat"))
    assert len(found) == 3


@pytest.mark.parametrize(
    "url", ["http://me:pass@host/v1", "http://host/v1?key=1", "ftp://host", "host:8000", "http://["]
)
def test_an_address_with_a_secret_or_without_a_host_is_refused(url) -> None:
    pytest.importorskip("openai")
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as refusal:
        Server(ServerSettings(base_url=url), asker="a test")
    assert "pass" not in str(refusal.value).replace("password", "")


def test_texts_come_back_whole_out_of_their_bytes() -> None:
    (request,) = as_text([RankingRequest(context="คือ ", continuations=("ไนโรบี", "\ud800"))])
    from maple.engines.text import text_of

    assert [text_of(o.ids) for o in request.options] == ["คือ  ไนโรบี", "คือ  ?"]
    assert {text_of(o.ids[: o.start]) for o in request.options} == {"คือ"}
    assert request.options[0] == EncodedOption(request.options[0].ids, len("คือ".encode()))

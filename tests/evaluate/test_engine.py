"""The engine against plain forwards, one option and one prompt at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.tiny_models import FAMILIES, TEXTS, settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.catalog.contracts import (
    GenerationRequest,
    RankingRequest,
    RankingResponse,
)
from maple.errors import MapleError
from maple.evaluate import Engine
from maple.evaluate.batches import token_budget_batches
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.evaluate.engine import _token_scores
from maple.run.adapters import detach
from maple.study import PromptSettings

Bases = Callable[..., LoadedBase]

PLAIN = PromptSettings(template="plain")


def rankings(n: int = 8) -> list[RankingRequest]:
    """Contexts and options of several scripts and lengths; one has no context."""
    texts = list(TEXTS.values())
    made = []
    for index in range(n):
        question, answer, other = texts[index % len(texts)]
        context = "" if index % 5 == 4 else f"{question} {index} " * (index % 3 + 1)
        made.append(RankingRequest(context=context, continuations=(answer, other, question)))
    return made


def prompts(n: int = 8) -> list[GenerationRequest]:
    texts = list(TEXTS.values())
    return [
        GenerationRequest(
            context=f"{texts[i % len(texts)][0]} {i} " * (i % 3 + 1),
            stop=(),
            max_new_tokens=6 + i % 4,
        )
        for i in range(n)
    ]


def encode(
    base: LoadedBase, requests: Sequence[Any], max_length: int = 512
) -> list[EncodedRequest]:
    encoder = Encoder(base.tokenizer, base.family, PLAIN, max_length=max_length)
    return [
        encoder.ranking(r) if isinstance(r, RankingRequest) else encoder.generation(r, None)
        for r in requests
    ]


def in_batches(
    call: Callable[[list[EncodedRequest]], list[Any]], encoded: list[EncodedRequest], size: int
) -> list[Any]:
    """Answers in order of the requests, from batches as scoring makes them."""
    batches = token_budget_batches(
        [e.width for e in encoded],
        [max(1, len(e.rows)) for e in encoded],
        max_tokens=100_000,
        max_requests=size,
    )
    found: dict[int, Any] = {}
    for batch in batches:
        found |= dict(zip(batch, call([encoded[i] for i in batch]), strict=True))
    return [found[i] for i in range(len(encoded))]


def naive_loglikelihood(model: Any, ids: Sequence[int], start: int) -> tuple[float, bool]:
    """Log-probability of ``ids[start:]`` after ``ids[:start]``, and whether it is greedy."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    chosen = torch.log_softmax(logits, dim=-1)[torch.arange(start - 1, len(ids) - 1)]
    targets = torch.tensor(ids[start:])
    picked = chosen.gather(1, targets[:, None])
    return float(picked.sum()), bool((chosen.argmax(-1) == targets).all())


def naive_generation(model: Any, ids: Sequence[int], limit: int, ends: set[int]) -> list[int]:
    """Greedy tokens, the whole sequence anew for each: no cache, no padding, no batch."""
    new: list[int] = []
    while len(new) < limit:
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *new]]), use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token in ends:
            break
        new.append(token)
    return new


# ---------------------------------------------------------------------------- log-likelihoods


@pytest.mark.parametrize("family", FAMILIES)
def test_loglikelihoods_equal_a_forward_per_option(shared_base: Bases, family: str) -> None:
    base = shared_base(family)
    encoded = encode(base, rankings())
    for request, response in zip(
        encoded, Engine(base.model, base).loglikelihoods(encoded), strict=True
    ):
        for option, value, greedy, n_tokens in zip(
            request.options,
            response.loglikelihoods,
            response.is_greedy,
            response.n_tokens,
            strict=True,
        ):
            expected, is_greedy = naive_loglikelihood(base.model, option.ids, option.start)
            # float32 logits in another order of sums, over some 20 tokens.
            assert value == pytest.approx(expected, abs=1e-4, rel=1e-5)
            assert greedy == is_greedy
            assert n_tokens == len(option.ids) - option.start


def test_a_greedy_continuation_is_recognised(shared_base: Bases) -> None:
    base = shared_base()
    prompt = base.tokenizer(TEXTS["eng_Latn"][0])["input_ids"]
    new = naive_generation(base.model, prompt, 5, set())
    last = 7 if new[-1] != 7 else 8
    both = ((*prompt, *new), (*prompt, *new[:-1], last))
    encoded = EncodedRequest(options=tuple(EncodedOption(ids, len(prompt)) for ids in both))
    (response,) = Engine(base.model, base).loglikelihoods([encoded])
    assert response.is_greedy == (True, False)


def test_log_softmax_is_float32_on_16_bit_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(3000, 500, generator=generator) * 3).to(torch.bfloat16)
    targets = torch.randint(0, 500, (3000,), generator=generator)
    values, greedy = _token_scores(logits, torch.arange(len(targets)), targets)
    exact = torch.log_softmax(logits.double(), dim=-1).gather(1, targets[:, None])[:, 0]
    # One float32 rounding at magnitude 10; a bfloat16 softmax would be off by 0.03.
    assert max(abs(v - float(e)) for v, e in zip(values, exact, strict=True)) < 2e-6
    assert greedy == (logits.float().argmax(-1) == targets).tolist()
    rough = torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0]
    assert float((rough.double() - exact).abs().max()) > 1e-2


def test_scores_of_a_16_bit_model_have_no_16_bit_ties(shared_base: Bases) -> None:
    base = shared_base("llama", "bf16")
    answers = Engine(base.model, base).loglikelihoods(encode(base, rankings()))
    values = [v for a in answers for v in a.loglikelihoods]
    as_bf16 = torch.tensor(values).to(torch.bfloat16).double().tolist()
    assert sum(v != r for v, r in zip(values, as_bf16, strict=True)) > len(values) / 2


# -------------------------------------------------------------------------------- generation


@pytest.mark.parametrize("family", FAMILIES)
def test_generations_equal_greedy_decoding_one_by_one(shared_base: Bases, family: str) -> None:
    base = shared_base(family)
    requests = prompts()
    encoded = encode(base, requests)
    answers = Engine(base.model, base).generate(encoded)
    for request, prompt, answer in zip(requests, encoded, answers, strict=True):
        new = naive_generation(base.model, prompt.prompt, request.max_new_tokens, {1})
        assert answer.text == base.tokenizer.decode(new, skip_special_tokens=True)
        assert answer.n_tokens == len(new)
        assert answer.finish == ("length" if len(new) == request.max_new_tokens else "stop")


def ends_after(base: LoadedBase, request: EncodedRequest, n_tokens: int) -> int:
    """A token that greedy decoding first writes at place ``n_tokens``, to serve as an end."""
    new = naive_generation(base.model, request.prompt, 12, set())
    assert new[n_tokens] not in new[:n_tokens], "choose another prompt"
    return new[n_tokens]


@pytest.mark.parametrize("padding", ["own", "eos"])
def test_an_answer_ends_at_any_of_the_end_tokens(fresh_base: Bases, padding: str) -> None:
    base = fresh_base()
    encoded = encode(base, prompts(6))
    end = ends_after(base, encoded[0], 3)
    base.model.generation_config.eos_token_id = [1, end]
    if padding == "eos":
        base.tokenizer.pad_token = base.tokenizer.eos_token
    expected = [naive_generation(base.model, e.prompt, e.max_new_tokens, {1, end}) for e in encoded]
    assert len(expected[0]) == 3
    for size in (1, 6):
        answers = in_batches(Engine(base.model, base).generate, encoded, size)
        assert [a.n_tokens for a in answers] == [len(new) for new in expected]
        for answer, new, request in zip(answers, expected, encoded, strict=True):
            assert answer.text == base.tokenizer.decode(new, skip_special_tokens=True)
            assert answer.finish == ("stop" if len(new) < request.max_new_tokens else "length")


@pytest.mark.parametrize("padding", ["own", "eos"])
def test_how_an_answer_ended_does_not_depend_on_its_batch(fresh_base: Bases, padding: str) -> None:
    # Rows that end early are padded until the longest is done; where the padding is EOS, or
    # stands after a stop string, it must not be taken for the answer's.
    base = fresh_base()
    if padding == "eos":
        base.tokenizer.pad_token = base.tokenizer.eos_token
    texts = [
        base.tokenizer.decode(naive_generation(base.model, e.prompt, 12, {1}))
        for e in encode(base, prompts(4))
    ]
    requests = [
        GenerationRequest(context=prompts(4)[0].context, max_new_tokens=2, stop=()),
        GenerationRequest(context=prompts(4)[1].context, max_new_tokens=12, stop=(texts[1][3:5],)),
        GenerationRequest(context=prompts(4)[2].context, max_new_tokens=12, stop=()),
        GenerationRequest(context=prompts(4)[3].context, max_new_tokens=5, stop=("no such text",)),
    ]
    encoded = encode(base, requests)
    engine = Engine(base.model, base)
    together = engine.generate(encoded)
    assert together == [engine.generate([e])[0] for e in encoded]
    assert [a.finish for a in together] == ["length", "stop", "length", "length"]
    assert [a.n_tokens for a in together][::2] == [2, 12]


def test_a_stop_string_is_cut_off_with_what_follows(shared_base: Bases) -> None:
    base = shared_base()
    (request,) = prompts(1)
    whole = Engine(base.model, base).generate(encode(base, [request]))[0].text
    assert len(whole) > 4
    stop = whole[2:4]
    wanted = GenerationRequest(context=request.context, stop=("zz", stop), max_new_tokens=6)
    (answer,) = Engine(base.model, base).generate(encode(base, [wanted]))
    assert answer.text == whole[: whole.find(stop)]
    assert answer.finish == "stop"


def test_sampling_settings_of_a_checkpoint_do_not_change_greedy_decoding(
    model_directory: Callable[..., Any], shared_base: Bases, tmp_path: Any
) -> None:
    # Instruction checkpoints ship a repetition penalty, which would act on greedy decoding too.
    import json
    import shutil

    from maple.base import load_base

    directory = shutil.copytree(model_directory(), tmp_path / "model")
    path = directory / "generation_config.json"
    config = json.loads(path.read_text()) | {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.8,
        "repetition_penalty": 1.9,
        "max_length": 16,
        "no_repeat_ngram_size": 1,
    }
    path.write_text(json.dumps(config))
    base = load_base(str(directory), quantization="fp32", device=torch.device("cpu"))
    plain = shared_base()
    encoded = encode(plain, prompts())
    found = Engine(base.model, base).generate(encoded)
    assert found == Engine(plain.model, plain).generate(encoded)


# ------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("size", [7, 64])
def test_batch_size_changes_no_decision_and_no_score_beyond_rounding(
    shared_base: Bases, size: int
) -> None:
    base = shared_base()
    engine, encoded = Engine(base.model, base), encode(base, rankings(64))
    alone = in_batches(engine.loglikelihoods, encoded, 1)
    together = in_batches(engine.loglikelihoods, encoded, size)
    for one, many in zip(alone, together, strict=True):
        assert one.loglikelihoods == pytest.approx(many.loglikelihoods, abs=1e-3)
        assert decision(one) == decision(many)
        assert (one.is_greedy, one.n_tokens) == (many.is_greedy, many.n_tokens)


@pytest.mark.parametrize("size", [7, 64])
def test_batch_size_changes_no_generation(shared_base: Bases, size: int) -> None:
    base = shared_base()
    engine, encoded = Engine(base.model, base), encode(base, prompts(64))
    assert in_batches(engine.generate, encoded, size) == in_batches(engine.generate, encoded, 1)


def decision(response: RankingResponse) -> int:
    return max(range(len(response.loglikelihoods)), key=lambda i: response.loglikelihoods[i])


@pytest.mark.xfail(reason="LLM.int8 chooses its 16-bit columns over the whole batch")
def test_batch_size_changes_no_score_on_int8(shared_base: Bases) -> None:
    # GAP: a column is kept in 16 bits if any row of the batch has an outlier in it, so a row's
    # products depend on its neighbours. Batches are a function of the requests alone, so two
    # runs of a study still meet the same ones.
    base = shared_base("llama", "int8", initializer_range=0.5)
    engine, encoded = Engine(base.model, base), encode(base, rankings(16))
    alone = in_batches(engine.loglikelihoods, encoded, 1)
    together = in_batches(engine.loglikelihoods, encoded, 16)
    # What bf16 differs by on the same requests.
    for one, many in zip(alone, together, strict=True):
        assert one.loglikelihoods == pytest.approx(many.loglikelihoods, abs=0.1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_batches_halve_while_memory_does_not_suffice(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    base = shared_base()
    engine = Engine(base.model, base)
    ranking = encode(base, rankings(7))
    expected = engine.loglikelihoods(ranking)
    sizes: list[int] = []
    monkeypatch.setattr(engine, "_rank", failing_above(2, engine._rank, error, sizes))
    found = engine.loglikelihoods(ranking)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    for one, other in zip(found, expected, strict=True):
        assert one.loglikelihoods == pytest.approx(other.loglikelihoods, abs=1e-3)


def failing_above(
    limit: int, call: Callable[[Any], Any], error: Exception, sizes: list[int]
) -> Callable[[Sequence[Any]], Any]:
    def limited(requests: Sequence[Any]) -> Any:
        sizes.append(len(requests))
        if len(requests) > limit:
            raise error
        return call(requests)

    return limited


def test_a_request_too_large_for_memory_says_what_to_do(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    engine = Engine(base.model, base)
    failing = failing_above(0, engine._rank, MemoryError("no room"), [])
    monkeypatch.setattr(engine, "_rank", failing)
    with pytest.raises(MapleError, match=r"single request does not fit.*fewer bits"):
        engine.loglikelihoods(encode(base, rankings(2)))


def test_another_error_is_not_taken_for_lack_of_memory(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    engine = Engine(base.model, base)
    failing = failing_above(0, engine._rank, RuntimeError("shapes do not match"), [])
    monkeypatch.setattr(engine, "_rank", failing)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.loglikelihoods(encode(base, rankings(2)))


# ----------------------------------------------------------------------------------- adapters


@pytest.mark.parametrize("quantization", ["fp32", "nf4", "int8"])
def test_adapters_on_one_base_do_not_influence_each_other(
    fresh_base: Bases, tmp_path: Any, quantization: str
) -> None:
    base = fresh_base("llama", quantization)
    method = load_method("lora", {"rank": 4, "alpha": 4, "dropout": 0.0})
    for seed in (0, 1):
        model, _ = train_on(base, method, settings(), seed=seed)
        (tmp_path / str(seed)).mkdir()
        method.save(model, tmp_path / str(seed))
        detach(model, base)

    def answers(base: LoadedBase, adapter: str | None) -> list[Any]:
        model = base.model if adapter is None else method.load(base.model, tmp_path / adapter)
        engine = Engine(model, base)
        found = [
            *engine.loglikelihoods(encode(base, rankings(4))),
            *engine.generate(encode(base, prompts(3))),
        ]
        detach(model, base)
        return found

    in_turn = {a: answers(base, a) for a in ("1", None, "0")}
    assert answers(base, "1") == in_turn["1"]
    for adapter, found in in_turn.items():
        assert answers(fresh_base("llama", quantization), adapter) == found
    assert in_turn["0"] != in_turn["1"] != in_turn[None]

"""Continuous batching against transformers' own ``generate``, each prompt alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import TEXTS, train_tokenizer

from maple.base import LoadedBase, load_base
from maple.catalog.contracts import GenerationResponse
from maple.errors import MapleError
from maple.evaluate import Engine
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.generation import Limits, generate_batched
from maple.evaluate.generation.endings import Endings
from maple.study import DecodingSettings

Bases = Callable[..., LoadedBase]
FEW = Limits(max_requests=3)


def requests(base: LoadedBase, n: int = 12) -> list[EncodedRequest]:
    """Prompts of several scripts and lengths, some alike at length, with budgets from one token."""
    texts = list(TEXTS.values())
    made = []
    for index in range(n):
        question, answer, other = texts[index // 3 % len(texts)]
        text = f"{answer} {question} {answer} {question} {other} " + f"{index} " * (index % 5)
        made.append(
            EncodedRequest(
                prompt=tuple(base.tokenizer(text)["input_ids"]),
                max_new_tokens=(1, 7, 12)[index % 3],
                draw_key=str(index),
            )
        )
    return made


def alone(base: LoadedBase, request: EncodedRequest) -> GenerationResponse:
    """What ``model.generate`` writes for one prompt, cut by the definition of an answer."""
    return cut(base, request, written_alone(base, request))


def written_alone(base: LoadedBase, request: EncodedRequest) -> list[int]:
    model: Any = base.model
    prompt = torch.tensor([request.prompt])
    written: list[int] = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=2,
    )[0, prompt.shape[1] :].tolist()
    return written


def cut(base: LoadedBase, request: EncodedRequest, written: Sequence[int]) -> GenerationResponse:
    """The shortest beginning that holds an end token or a stop string, else all of it."""
    ends = base.model.generation_config.eos_token_id
    for n in range(1, len(written) + 1):
        kept = list(written[:n])
        if kept[-1] in (ends if isinstance(ends, list) else [ends]):
            return answer(decode(base, kept[:-1]), "stop", n - 1)
        text = decode(base, kept)
        places = [text.find(s) for s in request.stop if s in text]
        if places:
            return answer(text[: min(places)], "stop", n)
    return answer(decode(base, written), "length", len(written))


def answer(text: str, finish: str, n_tokens: int) -> GenerationResponse:
    return GenerationResponse(text=text, finish=finish, n_tokens=n_tokens)


def decode(base: LoadedBase, ids: Sequence[int]) -> str:
    return str(base.tokenizer.decode(list(ids), skip_special_tokens=True))


def stream(engine: Engine, asked: Sequence[EncodedRequest], limits: Limits) -> list[Any]:
    found = dict(engine.generate_stream(asked, limits=limits))
    return [found[n] for n in range(len(asked))]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> LoadedBase:
    """Learned positions, one product for query, key and value."""
    import transformers

    directory: Path = tmp_path_factory.mktemp("gpt2")
    train_tokenizer(directory)
    config = transformers.GPT2Config(
        vocab_size=640, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(directory)
    return load_base(str(directory), quantization="fp32", device=torch.device("cpu"))


@pytest.fixture(scope="module")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> LoadedBase:
    """Positions by a bias, which cannot be told to it."""
    import transformers

    directory: Path = tmp_path_factory.mktemp("bloom")
    train_tokenizer(directory)
    config = transformers.BloomConfig(
        vocab_size=640, hidden_size=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BloomForCausalLM(config).save_pretrained(directory)
    return load_base(str(directory), quantization="fp32", device=torch.device("cpu"))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma2", "gpt2"])
def test_a_pool_of_slots_writes_what_generate_writes_alone(
    fresh_base: Bases, gpt2: LoadedBase, family: str
) -> None:
    base = gpt2 if family == "gpt2" else fresh_base(family)
    asked = requests(base)
    first = [alone(base, r) for r in asked]
    # An end that some answers meet, and a stop string that begins inside one token and ends in
    # another, or is part of one.
    written = [set(written_alone(base, r)[1:]) for r in asked]
    counts = Counter(token for ids in written for token in ids)
    base.model.generation_config.eos_token_id = [1, min(counts, key=lambda t: (counts[t], t))]
    asked[5] = replace(asked[5], stop=("never written", first[5].text[3:6]))
    asked[8] = replace(asked[8], stop=(first[8].text[4:5],))
    try:
        expected = [alone(base, r) for r in asked]
        engine = Engine(base.model, base)
        assert engine._passes is not None
        assert stream(engine, asked, FEW) == expected
        assert engine.generate(asked) == expected
    finally:
        base.model.generation_config.eos_token_id = 1
    assert {r.finish for r in expected} == {"stop", "length"}
    assert any(r.n_tokens == 1 for r in expected)
    assert expected[5] != first[5]


def test_an_answer_does_not_depend_on_slots_order_or_neighbours(shared_base: Bases) -> None:
    base = shared_base()
    engine, asked = Engine(base.model, base), requests(base)
    expected = [stream(engine, [r], Limits())[0] for r in asked]
    assert len({r.text for r in expected}) > 6
    for limits in (Limits(max_requests=1), Limits(max_requests=5), Limits(max_tokens=300)):
        assert stream(engine, asked, limits) == expected
    assert stream(engine, asked[::-1], FEW) == expected[::-1]
    assert stream(engine, asked[3:9], FEW) == expected[3:9]


def test_finished_slots_are_refilled_at_once(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    engine, asked = Engine(base.model, base), requests(base, 18)
    passes = engine._passes
    assert passes is not None
    sizes: list[int] = []
    own = passes.step
    monkeypatch.setattr(passes, "step", lambda s: sizes.append(len(s.active)) or own(s))
    found = stream(engine, asked, FEW)
    # A step for each token but an answer's first, which the reading of its prompt gives.
    wanted = sum(len_of(base, r, a) - 1 for r, a in zip(asked, found, strict=True))
    assert sum(sizes) == wanted
    assert max(sizes) == 3
    assert sizes.count(3) >= len(sizes) - 12, "slots stood empty before the prompts ran out"


def len_of(base: LoadedBase, request: EncodedRequest, answer: GenerationResponse) -> int:
    """Tokens written, the end token with them."""
    return min(request.max_new_tokens, answer.n_tokens + (answer.finish == "stop"))


def test_a_beginning_that_prompts_share_is_read_once(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base("mistral")
    text = " ".join(TEXTS["eng_Latn"] + TEXTS["swh_Latn"])
    passage = list(base.tokenizer(text)["input_ids"])
    asked = [
        EncodedRequest(prompt=(*passage, *range(5, 6 + n % 4), n + 3), max_new_tokens=6)
        for n in range(8)
    ]
    expected = [alone(base, r) for r in asked]
    assert len({e.text for e in expected}) > 4
    engine = Engine(base.model, base)
    fed: list[int] = []
    passes = engine._passes
    assert passes is not None
    own = passes.read
    monkeypatch.setattr(
        passes, "read", lambda rows: fed.append(sum(r.n_tokens for r in rows)) or own(rows)
    )
    assert stream(engine, asked, Limits(max_requests=16)) == expected
    assert len(passage) > 40
    assert sum(fed) < 2 * len(passage) + sum(len(r.prompt) - len(passage) for r in asked) + 8


def test_answers_come_while_others_are_written(shared_base: Bases) -> None:
    base = shared_base()
    engine, asked = Engine(base.model, base), requests(base)
    found = engine.generate_stream(asked, limits=FEW)
    first = [next(found)[0] for _ in range(4)]
    assert not torch.is_inference_mode_enabled()
    # Those of one token finish with their reading, whatever is longer waits.
    assert sorted([*first, *(n for n, _ in found)]) == list(range(len(asked)))


@pytest.mark.parametrize("call", ["read", "step"])
def test_slots_halve_while_memory_does_not_suffice(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    base = shared_base()
    engine, asked = Engine(base.model, base), requests(base)
    expected = engine.generate(asked)
    passes = engine._passes
    assert passes is not None
    own = getattr(passes, call)
    sizes: list[int] = []

    def limited(rows: Any) -> Any:
        sizes.append(sum(len(r.answers) for r in rows) if call == "read" else len(rows.active))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(rows)

    monkeypatch.setattr(passes, call, limited)
    assert engine.generate(asked) == expected
    assert max(sizes) > 4
    assert sizes[-1] <= 2


def test_one_prompt_too_large_for_memory_says_what_to_do(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    engine = Engine(base.model, base)

    def fails(error: Exception) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            raise error

        return call

    assert engine._passes is not None
    monkeypatch.setattr(engine._passes, "read", fails(MemoryError("no room")))
    with pytest.raises(MapleError, match=r"single request does not fit.*fewer bits"):
        engine.generate(requests(base, 3))
    monkeypatch.setattr(engine._passes, "read", fails(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.generate(requests(base, 3))


def test_a_model_that_takes_no_positions_is_left_to_generate(bloom: LoadedBase) -> None:
    engine, asked = Engine(bloom.model, bloom), requests(bloom)
    assert engine._passes is None
    asked[4] = replace(asked[4], stop=(alone(bloom, asked[4]).text[2:4],))
    assert stream(engine, asked, FEW) == [alone(bloom, r) for r in asked]


def test_a_model_whose_slots_go_wrong_is_left_to_generate(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    # A mask that hides nothing: every slot sees what lies behind its answer.
    name = "maple.evaluate.generation.passes.added_mask"
    monkeypatch.setattr(name, lambda sees, _: torch.zeros(sees.shape))
    assert Engine(base.model, base)._passes is None


@pytest.mark.parametrize("decoding", [
    DecodingSettings(temperature=0.8),
    DecodingSettings(temperature=1.3, top_k=20, top_p=0.9, seed=3),
])  # fmt: skip
def test_a_drawn_answer_is_its_samples_own(shared_base: Bases, decoding: Any) -> None:
    base = shared_base()
    engine = Engine(base.model, base)
    greedy = requests(base)
    asked = [replace(r, sampling=decoding) for r in greedy]
    found = stream(engine, asked, FEW)
    assert found == stream(engine, asked[::-1], Limits())[::-1]
    assert found[4:7] == engine.generate(asked[4:7])
    endings = Endings(base.tokenizer, engine.end_ids())
    by_generate = generate_batched(asked, base.model, base, endings, limits=FEW)
    assert dict(by_generate) == dict(enumerate(found))
    assert found != engine.generate(greedy)
    assert found != engine.generate([replace(r, draw_key=f"other {r.draw_key}") for r in asked])
    other = decoding.model_copy(update={"seed": 11})
    assert found != engine.generate([replace(r, sampling=other) for r in asked])


def test_greedy_and_drawn_answers_share_a_pool(shared_base: Bases) -> None:
    base = shared_base()
    engine, greedy = Engine(base.model, base), requests(base, 6)
    drawn = [replace(r, sampling=DecodingSettings(temperature=1.0)) for r in greedy]
    mixed = [m for pair in zip(greedy, drawn, strict=True) for m in pair]
    found = stream(engine, mixed, Limits(max_requests=4))
    assert found[::2] == engine.generate(greedy)
    assert found[1::2] == engine.generate(drawn)


def test_a_cold_draw_is_the_most_likely_token(shared_base: Bases) -> None:
    base = shared_base()
    engine, asked = Engine(base.model, base), requests(base, 6)
    cold = [replace(r, sampling=DecodingSettings(temperature=1e-4)) for r in asked]
    assert engine.generate(cold) == engine.generate(asked)


def test_generation_leaves_the_model_as_it_was(shared_base: Bases) -> None:
    base = shared_base()
    before = base.model.config._attn_implementation
    Engine(base.model, base).generate(requests(base, 4))
    assert base.model.config._attn_implementation == before == "sdpa"
    assert not any("forward" in vars(m) for m in base.model.modules())


@pytest.mark.parametrize("quantization", ["fp32", "bf16"])
def test_a_resumed_stream_reads_and_writes_as_an_uninterrupted_one(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    base = shared_base("llama", quantization)
    engine = Engine(base.model, base)
    asked = [replace(r, max_new_tokens=12) for r in requests(base, 18)]
    limits = Limits(max_requests=16)
    passes = engine._passes
    assert passes is not None
    fed: list[Any] = []
    own = passes.read

    def read(rows: Any) -> Any:
        fed.append([[a.number for a in r.answers] for r in rows])
        return own(rows)

    monkeypatch.setattr(passes, "read", read)
    whole = stream(engine, asked, limits)
    uninterrupted, fed[:] = list(fed), []
    rest = dict(engine.generate_stream(asked, limits=limits, wanted=[2, 3, 11]))
    assert rest == {n: whole[n] for n in (2, 3, 11)}
    assert [r for r in uninterrupted if {2, 3, 11} & {n for row in r for n in row}] == fed
    assert max(len(row) for r in uninterrupted for row in r) > 1

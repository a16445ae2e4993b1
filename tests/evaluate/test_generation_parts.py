"""The parts of generation against short definitions: endings, rows of prompts, draws, settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.tiny_models import TEXTS

from maple.base import LoadedBase
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.generation.answer import Answer
from maple.evaluate.generation.choice import draw, next_tokens
from maple.evaluate.generation.endings import Endings
from maple.evaluate.generation.prompts import bundles
from maple.study import DecodingSettings, EvalSpec
from maple.study.spec import canonical_json

# ------------------------------------------------------------------------------------ endings


@pytest.fixture(scope="module")
def metaspace() -> Any:
    """SentencePiece's way: a word's space is its first token's, and lost where a text begins."""
    import tokenizers
    import transformers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    pieces = tokenizers.decoders
    tokenizer.decoder = pieces.Sequence(
        [pieces.Replace("▁", " "), pieces.ByteFallback(), pieces.Fuse(), pieces.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=special[:3], show_progress=False,
        initial_alphabet=["▁", "\n"],
    )  # fmt: skip
    texts = [t for texts in list(TEXTS.values())[:2] for t in texts]
    tokenizer.train_from_iterator([*texts, *special[3:]], trainer)
    tokenizer.add_tokens(special[3:])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


STOPS: list[tuple[str, ...]] = [
    ("\n",), ("\n\n", "."), ("mkuu",), ("of Ken",), (" ",), ("肯尼",), ("เม",), ("", "i"),
    ("Nairobi. The capital of Kenya is",), ("no such text",),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["byte-level", "metaspace"])
def test_an_answer_ends_with_the_token_that_completes_a_stop_string(
    shared_base: Callable[..., LoadedBase], metaspace: Any, kind: str
) -> None:
    tokenizer = metaspace if kind == "metaspace" else shared_base().tokenizer
    endings = Endings(tokenizer, {1})
    ended = 0
    texts = [" ".join(texts) + "\n\nThe " for texts in TEXTS.values()]
    for text in [*texts, "".join(texts)]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for stop in STOPS:
            request = EncodedRequest(prompt=(3,), stop=stop, max_new_tokens=10_000)
            for n in range(1, min(len(ids), 400) + 1):
                written = tokenizer.decode(ids[:n], skip_special_tokens=True)
                expected = any(s and s in written for s in stop)
                assert endings.is_over(request, ids[:n]) == expected, (stop, n, written)
                if expected:
                    ended += 1
                    answer = endings.response(request, ids[:n])
                    assert (
                        answer.text
                        == written[: min(written.find(s) for s in stop if s in written and s)]
                    )
                    break
    assert ended > 20


def test_tokens_that_cannot_end_an_answer_are_not_decoded_again(
    shared_base: Callable[..., LoadedBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = shared_base().tokenizer
    endings = Endings(tokenizer, {1})
    lengths: list[int] = []
    own = endings._text
    monkeypatch.setattr(endings, "_text", lambda ids: lengths.append(len(ids)) or own(ids))
    ids = tokenizer(" ".join(TEXTS["eng_Latn"]) * 20, add_special_tokens=False)["input_ids"]
    request = EncodedRequest(prompt=(3,), stop=("\u2603",), max_new_tokens=10_000)
    assert not any(endings.is_over(request, ids[:n]) for n in range(1, len(ids) + 1))
    assert set(lengths) == {1}
    assert len(lengths) == len(set(ids))


def test_an_end_token_and_the_limit_end_an_answer(
    shared_base: Callable[..., LoadedBase],
) -> None:
    endings = Endings(shared_base().tokenizer, {1, 9})
    request = EncodedRequest(prompt=(3,), max_new_tokens=4)
    assert [endings.is_over(request, ids) for ids in ([5], [5, 9], [5, 6, 7, 8])] == [0, 1, 1]
    assert endings.response(request, [5, 9]).n_tokens == 1
    assert endings.response(request, [5, 9]).finish == "stop"
    assert endings.response(request, [5, 6, 7, 9]).finish == "stop"
    assert endings.response(request, [5, 6, 7, 8]).finish == "length"


# ------------------------------------------------------------------------------------ prompts


def answers(*prompts: tuple[int, ...]) -> list[Answer]:
    return [
        Answer(n, EncodedRequest(prompt=prompt, max_new_tokens=4))
        for n, prompt in enumerate(prompts)
    ]


def test_rows_hold_every_prompt_once_and_the_widest_come_first() -> None:
    passage, other = tuple(range(100, 180)), tuple(range(200, 260))
    asked = answers(
        (*passage, 1), (*other, 2, 3), (7, 8, 9), (*passage, 2, 5), (*passage, 2, 6), (*other, 2, 3)
    )
    made = bundles(asked, max_size=4, max_tokens=1000)
    assert [sorted(a.number for a in b.answers) for b in made] == [[0, 3, 4], [1, 5], [2]]
    assert [b.n_shared for b in made] == [80, 61, 0]
    assert [b.n_tokens for b in made] == [80 + 1 + 2 + 2, 61 + 1 + 1, 3]
    assert list(made[1].branches()) == [(61, 62), (62, 63)]
    again = bundles(asked[::-1], max_size=4, max_tokens=1000)
    assert [b.n_tokens for b in again] == [b.n_tokens for b in made]
    assert [len(b.answers) for b in bundles(asked, max_size=2, max_tokens=1000)] == [2, 1, 2, 1]
    assert all(len(b.answers) == 1 for b in bundles(asked, max_size=4, max_tokens=60))


# -------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("settings", [
    DecodingSettings(temperature=1.0),
    DecodingSettings(temperature=0.6),
    DecodingSettings(temperature=1.5, top_k=7),
    DecodingSettings(temperature=1.0, top_p=0.7),
    DecodingSettings(temperature=1.4, top_k=30, top_p=0.85),
    DecodingSettings(temperature=30.0, top_p=0.99),
])  # fmt: skip
def test_tokens_are_drawn_as_often_as_transformers_would(settings: DecodingSettings) -> None:
    from transformers.generation import logits_process as process

    # More tokens than are looked at first, so that a flat distribution needs all of them.
    logits = torch.randn(1, 1500, generator=torch.Generator().manual_seed(0)) * 4
    steps: list[Any] = [process.TemperatureLogitsWarper(settings.temperature)]
    if settings.top_k:
        steps.append(process.TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        steps.append(process.TopPLogitsWarper(settings.top_p))
    scores = logits
    for step in steps:
        scores = step(None, scores)
    expected = torch.softmax(scores, dim=-1)[0]
    n = 2_000
    uniforms = [(i + 0.5) / n for i in range(n)]
    drawn = draw(logits.expand(n, -1), uniforms, settings)
    counts = torch.bincount(torch.tensor(drawn), minlength=1500) / n
    # A token's share of an even grid is its probability, to a grid's step at either end.
    assert float((counts - expected).abs().max()) < 2.5 / n
    assert not counts[expected == 0].any()


def test_the_next_token_is_the_most_likely_without_settings() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert next_tokens(logits, answers((1,), (2,), (3,))) == logits.argmax(-1).tolist()


# ------------------------------------------------------------------------------------ settings


def test_new_settings_leave_what_is_stored_its_identity() -> None:
    spec = EvalSpec(
        run_id="r", adapter="none", task="xquad", task_version=1, language="eng_Latn",
        data="sha256:0", split="test", decoding=DecodingSettings(max_new_tokens=16),
    )  # fmt: skip
    assert spec.model_dump(mode="json")["decoding"] == {"max_new_tokens": 16}
    assert canonical_json(DecodingSettings()) == '{"max_new_tokens":null}'
    assert spec.id == FROZEN
    drawn = spec.model_copy(update={"decoding": DecodingSettings(temperature=0.7, seed=2)})
    assert drawn.id != spec.id
    assert drawn.decoding.model_dump(mode="json") == {
        "max_new_tokens": None, "temperature": 0.7, "seed": 2,
    }  # fmt: skip
    assert EvalSpec.model_validate_json(drawn.model_dump_json()) == drawn


FROZEN = "421bb484a2331d4c"
"""Of the commit before ``temperature`` was there."""


@pytest.mark.parametrize("wrong", [
    {"top_p": 0.9}, {"top_k": 5}, {"seed": 1}, {"temperature": -1.0},
    {"temperature": 1.0, "top_p": 0.0}, {"temperature": 1.0, "top_k": 0},
])  # fmt: skip
def test_settings_without_effect_or_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DecodingSettings(**wrong)

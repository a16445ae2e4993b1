"""Requests -> token ids: boundaries, truncation, what stands before an empty context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tiny_models import TEXTS

from maple.catalog import load_family
from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.data import render_instruction
from maple.evaluate.encode import EncodedOption, Encoder
from maple.study import PromptSettings
from maple.study.spec import Template


@pytest.fixture(scope="module")
def tokenizer(model_directory: Callable[..., Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_directory())


def encoder(tokenizer: Any, template: Template = "plain", max_length: int = 512) -> Encoder:
    prompt = PromptSettings(template=template)
    return Encoder(tokenizer, load_family("llama"), prompt, max_length=max_length)


def only_option(made: Encoder, context: str, continuation: str, delimiter: str) -> EncodedOption:
    request = RankingRequest(context=context, continuations=(continuation,), delimiter=delimiter)
    return made.ranking(request).options[0]


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("delimiter", [" ", "", "\n"])
def test_a_continuation_is_scored_from_its_first_character(
    tokenizer: Any, language: str, delimiter: str
) -> None:
    question, answer, _ = TEXTS[language]
    option = only_option(encoder(tokenizer), question, answer, delimiter)
    whole = tokenizer(question + delimiter + answer)["input_ids"]
    assert list(option.ids) == whole
    before = tokenizer.decode(option.ids[: option.start], skip_special_tokens=True)
    assert question.startswith(before)
    assert tokenizer.decode(option.ids[option.start :]).endswith(answer)


texts = st.text(
    st.sampled_from("".join(sorted({c for t in TEXTS.values() for s in t for c in s})) + " \n"),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(context=texts, continuation=texts)
def test_context_and_continuation_are_the_tokens_of_one_text(
    tokenizer: Any, context: str, continuation: str
) -> None:
    option = only_option(encoder(tokenizer), context, continuation, "")
    assert list(option.ids) == tokenizer(context + continuation)["input_ids"]
    assert 1 <= option.start < len(option.ids)
    head = tokenizer.decode(option.ids[: option.start], skip_special_tokens=True)
    # A character cut in two decodes to U+FFFD on the head's side.
    assert context.startswith(head.rstrip("\ufffd"))


@pytest.mark.parametrize("space", [" ", "\n", " \n "])
def test_white_space_that_ends_a_context_belongs_to_the_continuation(
    tokenizer: Any, space: str
) -> None:
    spaced = only_option(encoder(tokenizer), f"Taja mji:{space}", "Nairobi", "")
    plain = only_option(encoder(tokenizer), "Taja mji:", "Nairobi", space)
    assert spaced == plain


def test_the_line_break_that_ends_a_template_belongs_to_the_prompt(tokenizer: Any) -> None:
    made = encoder(tokenizer, "bactrian-x")
    request = RankingRequest(context="Taja.", continuations=("Nairobi",))
    option = made.ranking(request).options[0]
    assert tokenizer.decode(option.ids[option.start :]) == "Nairobi"


@pytest.mark.parametrize("context", ["", "  "])
def test_an_empty_context_is_the_first_token_of_all(tokenizer: Any, context: str) -> None:
    option = only_option(encoder(tokenizer), context, "Nairobi", "")
    own = tokenizer(context + "Nairobi", add_special_tokens=False)["input_ids"]
    assert option == EncodedOption((tokenizer.bos_token_id, *own), 1)


@pytest.mark.parametrize("context", ["", "  "])
def test_without_bos_an_empty_context_is_eos(tokenizer: Any, context: str) -> None:
    import copy

    import tokenizers

    without = copy.deepcopy(tokenizer)
    without.backend_tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    without.bos_token = None
    option = only_option(encoder(without), context, "Nairobi", "")
    own = without(context + "Nairobi")["input_ids"]
    assert option == EncodedOption((without.eos_token_id, *own), 1)
    prompt = encoder(without).generation(GenerationRequest(context=""), None).prompt
    assert prompt == (without.eos_token_id,)


def test_bos_that_a_continuation_spells_itself_is_not_doubled(tokenizer: Any) -> None:
    option = only_option(encoder(tokenizer), "", "<s>Nairobi", "")
    assert option == only_option(encoder(tokenizer), "", "Nairobi", "")


def test_a_long_context_loses_its_left_end(tokenizer: Any) -> None:
    context, answer = "Taja mji mkuu wa Kenya. " * 20, "Nairobi"
    whole = only_option(encoder(tokenizer), context, answer, "")
    request = RankingRequest(context=context, continuations=(answer, "x"), delimiter="")
    cut = encoder(tokenizer, max_length=32).ranking(request)
    assert cut.was_truncated
    # The last token is predicted and never fed: one more than the model's length fits.
    assert cut.options[0].ids == whole.ids[-33:]
    assert cut.options[0].ids[cut.options[0].start :] == whole.ids[whole.start :]
    assert cut.width == 33
    assert not encoder(tokenizer).ranking(request).was_truncated


def test_a_long_prompt_leaves_room_for_the_answer(tokenizer: Any) -> None:
    request = GenerationRequest(context="Taja mji mkuu wa Kenya. " * 20, max_new_tokens=12)
    whole = encoder(tokenizer).generation(request, None)
    cut = encoder(tokenizer, max_length=32).generation(request, None)
    assert cut.prompt == whole.prompt[-20:]
    assert (cut.was_truncated, whole.was_truncated) == (True, False)
    assert cut.width == 32


def test_decoding_settings_override_a_task_limit(tokenizer: Any) -> None:
    request = GenerationRequest(context="Taja", max_new_tokens=12)
    assert encoder(tokenizer).generation(request, None).max_new_tokens == 12
    assert encoder(tokenizer).generation(request, 5).max_new_tokens == 5
    assert encoder(tokenizer, max_length=8).generation(request, None).max_new_tokens == 7


@pytest.mark.parametrize("template", ["bactrian-x", "alpaca", "chat"])
def test_a_prompt_is_rendered_as_in_training(tokenizer: Any, template: Template) -> None:
    made = encoder(tokenizer, template)
    rendered = render_instruction(
        "Taja mji.", template=template, tokenizer=tokenizer, family=load_family("llama")
    )
    request = RankingRequest(context="Taja mji.", continuations=("Nairobi",), delimiter=" ")
    # A template ends where the answer begins: no delimiter is added.
    assert made.texts(request) == (rendered, ("Nairobi",))
    option = made.ranking(request).options[0]
    assert list(option.ids) == tokenizer(rendered + "Nairobi")["input_ids"]


def test_a_plain_prompt_is_the_text_itself(tokenizer: Any) -> None:
    request = GenerationRequest(context="Taja mji {mkuu}.")
    assert encoder(tokenizer).texts(request) == ("Taja mji {mkuu}.", ())

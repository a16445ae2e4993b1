"""The loss covers exactly the response and its EOS: every template, every script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.tiny_models import TEXTS

from maple.catalog import load_family
from maple.catalog.contracts import Conversation
from maple.data import Example, render_conversation, tokenize_example
from maple.data.tokenize import split_tokens
from maple.errors import TrainingError
from maple.study.spec import Template

TEMPLATES = get_args(Template)


@pytest.fixture(scope="module")
def tokenizer(model_directory: Callable[..., Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_directory())


@pytest.fixture(scope="module")
def metaspace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer made as LLaMA-2's is: spaces as U+2581, one in front, unknown bytes spelt."""
    import tokenizers
    import transformers

    made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, fuse_unk=True))
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))],
        show_progress=False,
    )
    made.train_from_iterator([t for texts in TEXTS.values() for t in texts], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def tokens_as_bytes(tokenizer: Any, ids: tuple[int, ...]) -> list[bytes]:
    """The bytes of each token of a byte-level vocabulary; special tokens are empty."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    table = {character: byte for byte, character in bytes_to_unicode().items()}
    special = set(tokenizer.all_special_ids)
    return [
        b"" if id in special else bytes(table[c] for c in tokenizer.convert_ids_to_tokens(id))
        for id in ids
    ]


def as_example(tokenizer: Any, prompt: str, response: str, max_length: int = 4096) -> Example:
    return tokenize_example(
        prompt,
        response,
        tokenizer=tokenizer,
        max_length=max_length,
        language="swh_Latn",
        dataset="made-up",
    )


def assert_labels_cover(tokenizer: Any, prompt: str, response: str) -> None:
    """The response's bytes, EOS, and no token before the first that holds a byte of it."""
    made = as_example(tokenizer, prompt, response)
    spelt = tokens_as_bytes(tokenizer, made.ids)
    head, tail = spelt[: made.label_start], spelt[made.label_start :]
    assert b"".join(spelt).decode() == prompt + response
    assert b"".join(tail).decode(errors="replace").endswith(response)
    assert len(b"".join(head)) <= len(prompt.encode())
    if response:
        assert len(b"".join(head)) + len(tail[0]) > len(prompt.encode())
    assert made.ids[-1] == tokenizer.eos_token_id
    assert made.ids[0] == tokenizer.bos_token_id
    assert made.n_labels == len(tail)


def scripts() -> st.SearchStrategy[str]:
    """Text of a few scripts with their punctuation, digits, spaces, line breaks and accents."""
    letters = "".join(sorted({c for texts in TEXTS.values() for text in texts for c in text}))
    return st.text(st.sampled_from(letters + " \n\t.!?，。؟।、é👍{}#:"), min_size=1, max_size=40)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("language", TEXTS)
def test_decoding_the_labels_gives_the_response(
    tokenizer: Any, template: Template, language: str
) -> None:
    question, answer, other = TEXTS[language]
    for turns in ((), (("user", other), ("assistant", answer))):
        conversation = Conversation(
            id="0", language=language, instruction=question, response=answer, turns=turns
        )
        prompt, response = render_conversation(
            conversation, template, tokenizer, load_family("llama")
        )
        made = as_example(tokenizer, prompt, response)
        labelled = tokenizer.decode(made.ids[made.label_start :], skip_special_tokens=True)
        assert response == answer
        assert labelled.lstrip("\n ") == answer
        assert_labels_cover(tokenizer, prompt, response)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(prompt="Output:\n", response="  two spaces first")
@example(prompt="Output:\n", response="\n\nlines first")
@example(prompt="ends in a space ", response="x")
@example(prompt="日", response="本")
@given(prompt=scripts(), response=scripts())
def test_labels_start_at_the_first_token_of_the_response_whatever_the_text(
    tokenizer: Any, prompt: str, response: str
) -> None:
    assert_labels_cover(tokenizer, prompt, response)


@pytest.mark.parametrize("language", TEXTS)
def test_labels_of_a_llama_2_like_tokenizer_decode_to_the_response(
    metaspace: Any, language: str
) -> None:
    question, answer, _ = TEXTS[language]
    made = as_example(metaspace, f"### Input:\n{question}\n\n### Output:\n", answer)
    assert metaspace.decode(made.ids[made.label_start : -1]).strip() == answer
    assert made.ids[-1] == metaspace.eos_token_id


def test_a_cut_example_has_no_eos_and_says_so(tokenizer: Any) -> None:
    whole = as_example(tokenizer, "Taja mji mkuu: ", "Nairobi " * 20)
    cut = as_example(tokenizer, "Taja mji mkuu: ", "Nairobi " * 20, max_length=20)
    assert cut.ids == whole.ids[:20]
    assert cut.was_truncated
    assert not whole.was_truncated
    assert cut.ids[-1] != tokenizer.eos_token_id


def test_an_example_whose_prompt_fills_the_length_carries_no_loss(tokenizer: Any) -> None:
    assert as_example(tokenizer, "Taja mji mkuu. " * 20, "Nairobi", max_length=20).n_labels == 0


def test_an_eos_that_the_tokenizer_writes_itself_is_not_doubled(tokenizer: Any) -> None:
    made = as_example(tokenizer, "a", "b</s>")
    assert made.ids.count(tokenizer.eos_token_id) == 1


def test_a_tokenizer_without_eos_is_refused(metaspace: Any) -> None:
    import copy

    endless = copy.deepcopy(metaspace)
    endless.eos_token = None
    with pytest.raises(TrainingError, match="EOS"):
        as_example(endless, "a", "b")


def test_a_slow_tokenizer_splits_at_the_length_of_the_head() -> None:
    class Slow:
        is_fast = False

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [7] * add_special_tokens + list(text.encode())}

    slow: Any = Slow()
    assert split_tokens("ab", "cd", slow) == ([7, 97, 98, 99, 100], 3)
    assert split_tokens("ab", "cd", slow, special=False) == ([97, 98, 99, 100], 2)

"""Templates, word for word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maple.catalog import load_family
from maple.catalog.contracts import Conversation
from maple.data import render_conversation, render_instruction, tokenize_example
from maple.study.spec import Template

# Source: templates/bactrian.json of mbzuai-nlp/bactrian-x; PROMPT_DICT in train.py of
# tatsu-lab/stanford_alpaca, with alpaca-lora's line break at the end.
EXPECTED: dict[tuple[str, bool], str] = {
    ("bactrian-x", False): "### Input:\nTaja mji.\n\n### Output:\n",
    ("bactrian-x", True): "### Input:\nTaja mji.\n\nKenya\n\n### Output:\n",
    ("alpaca", False): (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nTaja mji.\n\n### Response:\n"
    ),
    ("alpaca", True): (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nTaja mji.\n\n### Input:\nKenya\n\n### Response:\n"
    ),
    ("chat", False): "[INST] Taja mji. [/INST]",
    ("chat", True): "[INST] Taja mji.\n\nKenya [/INST]",
}


@pytest.fixture(scope="module")
def tokenizer(model_directory: Callable[..., Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_directory())


def render(tokenizer: Any, template: Any, *arguments: str, turns: Any = ()) -> str:
    return render_instruction(
        *arguments,
        template=template,
        tokenizer=tokenizer,
        family=load_family("llama"),
        turns=turns,
    )


@pytest.mark.parametrize(("template", "has_input"), EXPECTED)
def test_a_template_is_upstream_s(tokenizer: Any, template: Template, has_input: bool) -> None:
    arguments = ("Taja mji.", "Kenya") if has_input else ("Taja mji.",)
    assert render(tokenizer, template, *arguments) == EXPECTED[template, has_input]


@pytest.mark.parametrize("template", ["bactrian-x", "alpaca", "chat", "plain"])
def test_braces_in_a_text_are_text(tokenizer: Any, template: Template) -> None:
    instruction, given = "Use {input}, {instruction} and {0}.", "{instruction} {input} {}"
    text = render(tokenizer, template, instruction, given)
    assert text.count(instruction) == 1
    assert text.index(instruction) < text.index(given)


def test_a_tokenizer_s_own_chat_template_goes_before_the_family_s(tokenizer: Any) -> None:
    import copy

    own = copy.deepcopy(tokenizer)
    own.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    turns = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."))
    text = render(own, "chat", "Taja mji.", turns=turns)
    assert text == "<system>Be brief.<user>Hi<assistant>Hello.<user>Taja mji.<assistant>"
    # The template writes BOS, and so does the tokenizer: one of them is enough.
    example = tokenize_example(
        text, "Nairobi", tokenizer=own, max_length=200, language="swh_Latn", dataset="made-up"
    )
    assert example.ids.count(own.bos_token_id) == 1


@pytest.mark.parametrize("template", ["bactrian-x", "alpaca", "chat", "plain"])
def test_training_renders_what_evaluation_renders(tokenizer: Any, template: Template) -> None:
    conversation = Conversation(
        id="0", language="swh_Latn", instruction="Taja mji.", input="Kenya", response="Nairobi"
    )
    prompt, response = render_conversation(conversation, template, tokenizer, load_family("llama"))
    assert prompt == render(tokenizer, template, "Taja mji.", "Kenya")
    assert response == "Nairobi"

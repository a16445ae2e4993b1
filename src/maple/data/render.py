"""Instruction -> the text a model sees, by template; the same text in training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from maple.catalog.contracts import Conversation, ModelFamily
from maple.study.spec import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


def render_conversation(
    conversation: Conversation,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    family: ModelFamily,
) -> tuple[str, str]:
    """Returns the prompt and the response of one training example as text.

    The prompt ends where the response begins; the response carries no end-of-sequence text.
    """
    prompt = render_instruction(
        conversation.instruction,
        conversation.input,
        template=template,
        turns=conversation.turns,
        tokenizer=tokenizer,
        family=family,
    )
    return prompt, conversation.response


def render_instruction(
    instruction: str,
    input_text: str = "",
    *,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    family: ModelFamily,
    turns: Sequence[tuple[str, str]] = (),
) -> str:
    """Wraps an instruction in a template, ending where the answer begins.

    Args:
        instruction: what is asked.
        input_text: material the instruction speaks of; may be empty.
        template: ``bactrian-x``, ``alpaca``, ``chat`` or ``plain``.
        tokenizer: its chat template is used by ``chat`` where it has one.
        family: words the chat where the tokenizer has no template.
        turns: earlier turns of (role, text).

    Source: templates/bactrian.json of mbzuai-nlp/bactrian-x; train.py of tatsu-lab/stanford_alpaca,
    with a line break at its end, as alpaca-lora writes it.
    """
    if template == "chat":
        return _chat(instruction, input_text, turns, tokenizer, family)
    earlier = "".join(f"{text}\n\n" for _, text in turns)
    if template == "bactrian-x":
        body = f"{instruction}\n\n{input_text}" if input_text else instruction
        return f"### Input:\n{earlier}{body}\n\n### Output:\n"
    if template == "alpaca":
        form = _ALPACA_INPUT if input_text else _ALPACA
        # Not str.format on user text: a brace in an instruction is text, not a field.
        filled = form.replace("{instruction}", f"{earlier}{instruction}", 1)
        return _fill_input(filled, input_text) if input_text else filled
    # One line break before the answer, as evaluation puts it.
    body = f"{instruction}\n\n{input_text}" if input_text else instruction
    return f"{earlier}{body}\n"


def _fill_input(text: str, input_text: str) -> str:
    # The last occurrence is the template's own: the instruction stands before it.
    head, _, tail = text.rpartition("{input}")
    return f"{head}{input_text}{tail}"


def _chat(
    instruction: str,
    input_text: str,
    turns: Sequence[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    family: ModelFamily,
) -> str:
    user = f"{instruction}\n\n{input_text}" if input_text else instruction
    everything = [*turns, ("user", user)]
    if not getattr(tokenizer, "chat_template", None):
        return family.chat(everything)
    messages: list[dict[str, Any]] = [{"role": r, "content": t} for r, t in everything]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    # The tokenizer adds its BOS again when it encodes the text.
    return str(text).removeprefix(str(tokenizer.bos_token or ""))

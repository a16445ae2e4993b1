"""Prompt methods on packed rows: trained vectors in front of every example of a row.

    row     a a a b b          examples a and b, positions 0 1 2 0 1
    tokens  v v a a a v v b b  prompt and p-tuning: v vectors before each, positions 0..v-1
    cache   v v | a a a b b    prefix tuning: v keys and values a layer, seen by both, not across

``peft``'s own forward takes one example a row and drops the position ids that tell examples apart,
so ours stands in for it. Both are one function on one example. In ``generate`` the vectors stand
directly before the text, behind its left padding, so that an answer does not depend on its batch.
"""

from __future__ import annotations

import types
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import AttachContext, Method
from maple.catalog.peft import Positive
from maple.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import nn


class PromptMethod(Method):
    """A method that trains vectors in front of the text and leaves every layer as it is."""

    step_0: ClassVar[str | None] = "every token attends to the new vectors from the first step on"

    tokens: Positive = 20

    @abstractmethod
    def config(self) -> Any:
        """The ``peft`` config of the vectors."""

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Puts the vectors beside the base."""
        from peft import get_peft_model

        wrapped: Any = get_peft_model(model, self.config())
        wrapped.prompt_encoder.float()
        return pack_prompts(wrapped)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the stored vectors beside it."""
        return pack_prompts(super().load(model, directory))


def pack_prompts(model: nn.Module) -> nn.Module:
    """Replaces a prompt-learning ``PeftModel``'s forward and generate, on that object alone."""
    wrapped: Any = model
    is_prefix = str(wrapped.active_peft_config.peft_type.value) == "PREFIX_TUNING"
    wrapped.forward = types.MethodType(_forward_prefix if is_prefix else _forward_prompt, wrapped)
    wrapped.generate = types.MethodType(_generate, wrapped)
    return model


def _forward_prompt(
    model: Any, input_ids: torch.Tensor, position_ids: torch.Tensor, **inputs: Any
) -> Any:
    """Runs rows with the vectors inserted; the head sees the real tokens alone."""
    import torch

    n_virtual = model.active_peft_config.num_virtual_tokens
    begins = position_ids == 0
    counts = begins.cumsum(-1)
    rows, width = input_ids.shape
    # Where each real token goes, and each vector: the v places before an example's first token.
    places = torch.arange(width, device=input_ids.device) + n_virtual * counts
    embedded = model.word_embeddings(input_ids)
    prompt = model.get_prompt(batch_size=1)[0].to(embedded.dtype)
    longer = width + n_virtual * int(counts[:, -1].max())
    tokens = embedded.new_zeros(rows, longer, embedded.shape[-1])
    # What is left at the end of a row is a sequence of its own.
    positions = torch.arange(longer, device=input_ids.device).expand(rows, longer)
    positions = positions - (width + n_virtual * counts[:, -1:])
    row_of = torch.arange(rows, device=input_ids.device)[:, None]
    tokens = tokens.index_put((row_of.expand_as(places), places), embedded)
    positions = positions.index_put((row_of.expand_as(places), places), position_ids + n_virtual)
    first_rows, first_columns = begins.nonzero(as_tuple=True)
    steps = torch.arange(n_virtual, device=input_ids.device)
    before = places[first_rows, first_columns][:, None] - n_virtual + steps
    spread = (first_rows[:, None].expand_as(before), before)
    tokens = tokens.index_put(spread, prompt.expand(len(before), -1, -1))
    positions = positions.index_put(spread, steps.expand_as(before))

    def keep_real(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (arguments[0][row_of, places],)

    head = model.get_output_embeddings()
    # Before the hook that selects label positions, which counts in real tokens.
    handle = head.register_forward_pre_hook(keep_real, prepend=True)
    try:
        return model.base_model(inputs_embeds=tokens, position_ids=positions, **inputs)
    finally:
        handle.remove()


def _forward_prefix(
    model: Any, input_ids: torch.Tensor, position_ids: torch.Tensor, **inputs: Any
) -> Any:
    """Runs rows after the trained keys and values, which every example of a row sees."""
    base = model.base_model
    if model.training and base.is_gradient_checkpointing:
        raise TrainingError(
            "prefix-tuning keeps its keys in a cache, which a second forward would fill twice. Set "
            "training.gradient_checkpointing to false, or use prompt-tuning."
        )
    n_virtual = model.active_peft_config.num_virtual_tokens
    _check_window(base.config, n_virtual + input_ids.shape[1])
    return base(
        input_ids=input_ids,
        position_ids=position_ids + n_virtual,
        attention_mask=_prefix_masks(base.config, position_ids, n_virtual),
        past_key_values=model.get_prompt(len(input_ids)),
        **inputs,
    )


def _check_window(config: Any, n_tokens: int) -> None:
    window = getattr(config, "sliding_window", None)
    if window and n_tokens > window:
        raise TrainingError(
            f"prefix-tuning's keys would leave the model's sliding window of {window} tokens: "
            f"prefix and row have {n_tokens}. Set training.max_length lower, or use prompt-tuning."
        )


def _prefix_masks(config: Any, positions: torch.Tensor, n_virtual: int) -> Any:
    """(rows, 1, width, v + width) of what may be seen; by kind of layer where a model has several.

    No row is longer than a sliding window here, so all kinds see the same.
    """
    import torch

    sequence = (positions == 0).cumsum(-1)
    order = torch.arange(positions.shape[1], device=positions.device)
    own = (sequence[:, :, None] == sequence[:, None, :]) & (order[:, None] >= order)
    prefix = own.new_ones(*positions.shape, n_virtual)
    mask = torch.cat((prefix, own), dim=-1)[:, None]
    if config._attn_implementation == "eager":
        mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -1e30)
    kinds = getattr(config, "layer_types", None)
    return mask if kinds is None else dict.fromkeys(kinds, mask)


def _generate(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any
) -> torch.Tensor:
    """Continues left-padded prompts; returns them with what follows, as the base's own would."""
    import torch

    n_virtual = model.active_peft_config.num_virtual_tokens
    settings["stopping_criteria"] = [
        _Shifted(criterion, n_virtual) for criterion in settings.get("stopping_criteria") or []
    ]
    blank = input_ids.new_full((len(input_ids), n_virtual), settings.get("pad_token_id") or 0)
    ids = torch.cat((blank, input_ids), dim=1)
    if str(model.active_peft_config.peft_type.value) == "PREFIX_TUNING":
        _check_window(model.config, ids.shape[1] + int(settings.get("max_new_tokens", 0)))
        seen = torch.cat((torch.ones_like(blank), attention_mask), dim=1)
        inputs = {"past_key_values": model.get_prompt(len(input_ids))}
    else:
        prompt = model.get_prompt(batch_size=len(input_ids))
        embedded = model.word_embeddings(input_ids)
        seen = torch.cat((attention_mask, torch.ones_like(blank)), dim=1).sort(dim=1).values
        padding = (attention_mask == 0).sum(1)
        rows = [
            torch.cat((e[:n], p.to(e.dtype), e[n:]))
            for e, p, n in zip(embedded, prompt, padding.tolist(), strict=True)
        ]
        inputs = {"inputs_embeds": torch.stack(rows)}
    output = model.get_base_model().generate(
        input_ids=ids, attention_mask=seen, **inputs, **settings
    )
    written: torch.Tensor = output[:, n_virtual:]
    return written


class _Shifted:
    """A stopping criterion that counts in real tokens."""

    def __init__(self, criterion: Any, n_virtual: int) -> None:
        self._criterion = criterion
        self._n_virtual = n_virtual

    def __call__(self, input_ids: torch.Tensor, scores: Any, **settings: Any) -> Any:
        return self._criterion(input_ids[:, self._n_virtual :], scores, **settings)

"""Floating-point operations of training, by a closed form over the model as it is loaded.

    a linear layer, a token     2 in out        y = W x
                              + 2 in out        gradient of x, where a trained parameter lies below
                              + 2 in out        gradient of W, where W is trained
    attention, a pair of tokens 4 heads width   scores, and what they weigh
                              + 8 heads width   their gradients, where one is passed on
    the head                    as a linear layer, at label positions alone

A packed weight counts by the shape it stands for. A pair is a token and itself or an earlier one
of its example, within the window where there is one. Which layers pass a gradient on is read off
one pass over two tokens. Not counted: padding, what checkpointing computes again, embeddings,
norms, activations, rotary positions, softmax, the loss, the optimiser, dequantization; and of
adapters what is no linear layer (LoRA's and the bottleneck's are linear layers).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maple.base.head import label_logits
from maple.base.load import LoadedBase, compute_context

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class TrainingWork:
    """What one token, one label and one pair of tokens cost, forward and backward."""

    per_token: int
    per_label: int
    per_pair: tuple[tuple[int | None, int], ...] = ()
    """Sliding window (None: none) and operations, one entry for each of them."""
    virtual_tokens: int = 0
    """Tokens that the method puts in front of every example."""

    def flops(self, lengths: Iterable[int], label_tokens: int) -> float:
        """Operations of training on examples of these lengths, in tokens, once each."""
        real = [length + self.virtual_tokens for length in lengths]
        total = sum(real) * self.per_token + label_tokens * self.per_label
        for window, cost in self.per_pair:
            total += cost * sum(_pairs(length, window) for length in real)
        return float(total)


def training_work(model: nn.Module, base: LoadedBase) -> TrainingWork:
    """Counts what training an attached adapter costs, before anything else is put on the model.

    Args:
        model: the base with the adapter attached, as it will be trained.
        base: what it stands on.
    """
    trace = _traced(model, base)
    head = {id(m) for m in model.get_output_embeddings().modules()}  # type: ignore[operator]
    per_token = per_label = 0
    for layer, passes in _linear_layers(trace):
        size = 2 * int(layer.in_features) * int(layer.out_features)
        weight: Any = getattr(layer, "weight", None)
        cost = size * (1 + passes + bool(getattr(weight, "requires_grad", False)))
        if id(layer) in head:
            per_label += cost
        else:
            per_token += cost
    pairs: dict[int | None, int] = {}
    for attention in trace.attentions:
        width = int(attention.config.num_attention_heads) * int(attention.head_dim)
        window = getattr(attention, "sliding_window", getattr(attention.config, _WINDOW, None))
        cost = width * (12 if trace.passes_gradient(attention) else 4)
        pairs[window] = pairs.get(window, 0) + cost
    return TrainingWork(
        per_token=per_token,
        per_label=per_label,
        per_pair=tuple(pairs.items()),
        virtual_tokens=max(0, trace.tokens - _PROBE_TOKENS),
    )


_PROBE_TOKENS = 2
_WINDOW = "sliding_window"


def _pairs(length: int, window: int | None) -> int:
    """Pairs of a token and one it attends to, in an example of that length."""
    reach = length if window is None else min(length, window)
    return reach * (reach + 1) // 2 + (length - reach) * reach


@dataclass
class _Trace:
    """Which layers a forward pass called, in order, and whose input had a gradient to pass on."""

    called: list[tuple[nn.Module, bool]] = field(default_factory=list)
    attentions: list[Any] = field(default_factory=list)
    tokens: int = 0

    def see_layer(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments:
            self.called.append((module, bool(arguments[0].requires_grad)))

    def see_attention(self, module: nn.Module, _: Any, output: Any) -> None:
        first: torch.Tensor = output[0] if isinstance(output, tuple) else output
        self.attentions.append(module)
        self.tokens = first.shape[:-1].numel()

    def passes_gradient(self, attention: nn.Module) -> bool:
        """Whether the last layer of an attention, which reads its output, passes one on to it."""
        own = {id(child) for child in attention.children()}
        flags = [passes for layer, passes in self.called if id(layer) in own]
        return bool(flags) and flags[-1]


def _traced(model: nn.Module, base: LoadedBase) -> _Trace:
    """One pass over two tokens as in training; the random numbers it draws are put back.

    Not in evaluation mode: LLM.int8 then hands out views, which some adapters add to in place.
    """
    import torch

    trace = _Trace()
    handles = []
    for name, module in model.named_modules():
        if "prompt_encoder" in name:
            continue  # makes virtual tokens once a pass, not once a token
        if _is_linear(module) or _is_adapted(module):
            handles.append(module.register_forward_pre_hook(trace.see_layer))
        elif hasattr(module, "layer_idx") and hasattr(module, "head_dim"):
            handles.append(module.register_forward_hook(trace.see_attention))
    was_training = model.training
    model.train()
    ids = torch.zeros((1, _PROBE_TOKENS), dtype=torch.long, device=base.device)
    try:
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng(),
            torch.enable_grad(),
            compute_context(base),
        ):
            # peft's, of hooks below an adapter that does not call what it stands on.
            warnings.simplefilter("ignore")
            label_logits(
                model,
                input_ids=ids,
                positions=torch.arange(_PROBE_TOKENS, device=base.device)[None],
                selected=torch.ones_like(ids, dtype=torch.bool),
                use_cache=False,
            )
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return trace


def _linear_layers(trace: _Trace) -> list[tuple[Any, bool]]:
    """Every linear layer that computes, once, and whether it passes a gradient to its input.

    Some adapters multiply by their base layer's weight and do not call it: it counts all the same,
    unless a copy of its shape has taken its place.
    """
    found: dict[int, tuple[Any, bool]] = {}
    for module, passes in trace.called:
        if _is_linear(module):
            found[id(module)] = (module, passes or found.get(id(module), (None, False))[1])
    for module, passes in trace.called:
        if not _is_adapted(module):
            continue
        inner = _base_of(module)
        copies = (m for m in module.modules() if id(m) in found and _shape(m) == _shape(inner))
        if _is_linear(inner) and not any(True for _ in copies):
            found[id(inner)] = (inner, passes)
    return list(found.values())


def _is_adapted(module: nn.Module) -> bool:
    return callable(getattr(module, "get_base_layer", None))


def _is_linear(module: nn.Module) -> bool:
    return not _is_adapted(module) and None not in _shape(module)


def _shape(module: nn.Module) -> tuple[int | None, int | None]:
    widths = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return widths if all(isinstance(w, int) for w in widths) else (None, None)


def _base_of(module: nn.Module) -> nn.Module:
    get: Callable[[], nn.Module] = module.get_base_layer  # type: ignore[assignment]
    return get()

"""The base model's first weights: random, but for one hand-made circuit that copies.

Reading a passage needs an induction circuit (Olsson et al. 2022, "In-context Learning and
Induction Heads", arXiv 2209.11895): "... A B ... A" -> "B". Trained from plain random weights, the
model showed no trace of one after 1.5 million tokens, a quarter of what an hour affords, so it is
laid down at the start and training is free to change it::

    residual = token, the first half | previous token, the second half | constant, the last
    layer 0, half the heads: look one back (RoPE), copy its token part -> previous-token part
    layer 1, half the heads: query = token, key = previous token, value = token -> logits
"""

import math
from typing import Any

_HEAD_SIZE = 32
_PAIRS = _HEAD_SIZE // 2
_TOKEN_SCALE = 0.05
_CONSTANT_SCALE = 0.3


def lay_circuit(model: Any, *, theta: float = 10_000.0) -> None:
    """Writes the copying circuit into an untrained model, in place.

    Args:
        model: A model of Llama's layout (also Mistral, Qwen) with as many key as query heads, heads
            of size 32 and at least two layers.
        theta: Its RoPE base.
    """
    import torch

    with torch.no_grad():
        _scale_outputs(model)
        embedding = model.model.embed_tokens.weight
        half = embedding.shape[1] // 2
        embedding[:, :half].normal_(0, _TOKEN_SCALE)
        embedding[:, half:].normal_(0, 0.005)
        embedding[:, -1] = _CONSTANT_SCALE
        _look_back(model.model.layers[0].self_attn, theta)
        _look_up(model.model.layers[1].self_attn)


def _scale_outputs(model: Any) -> None:
    factor = 1 / math.sqrt(2 * len(model.model.layers))
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(factor)
        layer.mlp.down_proj.weight.mul_(factor)


def _look_back(attention: Any, theta: float) -> None:
    """Heads that attend one back: a constant key; the query is that key turned by one step."""
    import torch

    turn = theta ** (-torch.arange(_PAIRS) / _PAIRS)
    amplitude = torch.zeros(_PAIRS)
    amplitude[:5] = 0.5
    half = attention.q_proj.weight.shape[1] // 2
    for head in range(half // _HEAD_SIZE):
        rows = slice(head * _HEAD_SIZE, (head + 1) * _HEAD_SIZE)
        query, key = attention.q_proj.weight[rows], attention.k_proj.weight[rows]
        query.zero_()
        key.zero_()
        key[:_PAIRS, -1] = amplitude
        query[:_PAIRS, -1] = amplitude * torch.cos(turn)
        query[_PAIRS:, -1] = -amplitude * torch.sin(turn)
        _copy(attention, head, source=head * _HEAD_SIZE, target=half + head * _HEAD_SIZE, gain=0.05)
    attention.o_proj.weight[-1].zero_()


def _look_up(attention: Any) -> None:
    """Heads that attend to the position after an earlier copy of the current token."""
    half = attention.q_proj.weight.shape[1] // 2
    for head in range(half // _HEAD_SIZE):
        start = head * _HEAD_SIZE
        query = attention.q_proj.weight[start : start + _HEAD_SIZE]
        key = attention.k_proj.weight[start : start + _HEAD_SIZE]
        query.zero_()
        key.zero_()
        # Only pairs that RoPE turns slowly can match content at a distance.
        for place in (*range(8, _PAIRS), *range(_PAIRS + 8, _HEAD_SIZE)):
            query[place, start + place] = 2.0
            key[place, half + start + place] = 2.0
        _copy(attention, head, source=start, target=start, gain=0.15)


def _copy(attention: Any, head: int, *, source: int, target: int, gain: float) -> None:
    import torch

    rows = slice(head * _HEAD_SIZE, (head + 1) * _HEAD_SIZE)
    eye: torch.Tensor = torch.eye(_HEAD_SIZE)
    attention.v_proj.weight[rows].zero_()
    attention.v_proj.weight[rows, source : source + _HEAD_SIZE] = eye
    attention.o_proj.weight[:, rows].zero_()
    attention.o_proj.weight[target : target + _HEAD_SIZE, rows] = gain * eye

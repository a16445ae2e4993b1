"""Causal attention within each packed example, and none across: no mask is ever built.

    packed rows   a a a a a b b b | c c c c . .        positions restart with every example
    by length     a a a a a                            one call of the fused kernel per group of
                  c c c c .                            similar lengths, causal: what stands behind
                  b b b . .                            an example's end is seen by nothing

A row of 256 tokens that holds four examples costs a quarter of the row's square, and the causal
kernel skips half of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd import Function
from torch.nn.functional import scaled_dot_product_attention

from maple.base.fused.places import laid_out, put_back

_CALL_COST = 1 << 14
"""What one more call is worth, in token pairs: below it, groups are merged."""


@dataclass(frozen=True)
class Group:
    """Examples of similar length, as one padded batch."""

    source: torch.Tensor
    """(examples * width,) flat token index of each place; padding repeats the example's last."""
    examples: int
    width: int


@dataclass(frozen=True)
class Layout:
    """Where the examples of a forward pass lie in its flattened tokens."""

    groups: tuple[Group, ...]
    back: torch.Tensor
    """(tokens,) for each flat token its place in the groups laid end to end."""
    longest: int

    def to(self, device: torch.device) -> Layout:
        """The same on another device."""
        groups = tuple(Group(g.source.to(device), g.examples, g.width) for g in self.groups)
        return Layout(groups, self.back.to(device), self.longest)


def find_layout(positions: torch.Tensor) -> Layout:
    """Reads the examples off their positions.

    Args:
        positions: (rows, width), from 0 in every example; padding that begins anew is one too.
    """
    table = positions.cpu().numpy()
    starts = np.flatnonzero(table.reshape(-1) == 0)
    stops = np.append(starts[1:], table.size)
    order = np.argsort(starts - stops, kind="stable")
    starts, lengths = starts[order], (stops - starts)[order]
    groups = []
    back = np.zeros(table.size, dtype=np.int64)
    laid = 0
    for first, last in _cut(lengths.tolist()):
        width = int(lengths[first])
        steps = np.minimum(np.arange(width)[None], lengths[first:last, None] - 1)
        source = starts[first:last, None] + steps
        places = laid + np.arange(source.size).reshape(source.shape)
        inside = np.arange(width)[None] < lengths[first:last, None]
        back[source[inside]] = places[inside]
        groups.append(Group(torch.from_numpy(source.reshape(-1)), last - first, width))
        laid += source.size
    return Layout(tuple(groups), torch.from_numpy(back), int(lengths[0]))


def _cut(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cuts lengths, longest first, into groups that cost least: width squared a row, and calls."""
    n = len(lengths)
    best = [0.0] + [float("inf")] * n
    came = [0] * (n + 1)
    for stop in range(1, n + 1):
        for start in range(stop):
            cost = best[start] + (stop - start) * float(lengths[start]) ** 2 + _CALL_COST
            if cost < best[stop]:
                best[stop], came[stop] = cost, start
    cuts = []
    stop = n
    while stop:
        cuts.append((came[stop], stop))
        stop = came[stop]
    return cuts[::-1]


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    *,
    scale: float,
) -> torch.Tensor:
    """Causal attention within the examples of a layout.

    Args:
        query: (tokens, heads, d).
        key: (tokens, key-value heads, d); each serves as many query heads as divide evenly.
        value: (tokens, key-value heads, d).
        layout: of these tokens.
        scale: multiplies the scores.

    Returns:
        (tokens, heads, d); what stands at padding means nothing.
    """

    def answered(group: Group) -> torch.Tensor:
        parts = (laid_out(x, group.source, group.examples) for x in (query, key, value))
        return _causal(*parts, scale=scale)

    return put_back(map(answered, layout.groups), layout.back)


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float
) -> torch.Tensor:
    """(examples, heads, width, d), as many heads of each or a divisor of them -> the query's."""
    groups = query.shape[1] // key.shape[1]
    if query.device.type == "cpu" and groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    short = query.shape[2] <= _SHORT and query.dtype == torch.bfloat16
    if query.device.type == "cpu" and short:
        answered: torch.Tensor = _Short.apply(query, key, value, scale)
        return answered
    return scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=key.shape[1] != query.shape[1]
    )


_SHORT = 256
"""Up to here a processor in bfloat16 is faster by plain products than by torch's fused kernel,
whose backward pass took two to five times as long at 64 and 128 tokens."""


class _Short(Function):
    """Attention by its definition, its scores kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        width = query.shape[2]
        q, k, v = (x.reshape(-1, width, x.shape[-1]) for x in (query, key, value))
        future = torch.full((width, width), float("-inf"), dtype=q.dtype).triu_(1)
        weights = torch.baddbmm(future, q, k.transpose(1, 2), alpha=scale).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return (weights @ v).view(query.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        q, k, v, weights = ctx.saved_tensors
        of_out = gradient.reshape(q.shape)
        of_weights = of_out @ v.transpose(1, 2)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_scores.mul_(ctx.scale)
        of_value = weights.transpose(1, 2) @ of_out
        of_inputs = (of_scores @ k, of_scores.transpose(1, 2) @ q, of_value)
        return (*(x.view(gradient.shape) for x in of_inputs), None)

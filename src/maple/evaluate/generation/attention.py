"""Attention of one token per answer over its slot, where torch's own kernel is made for more.

On a processor torch's kernel takes the heads one by one, whatever their size: for one query a head
two batched products are several times as fast in 16 bits, and not slower in 32. The layers of a
transformers model look their attention up by name at every call, so ours is named for one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase

if TYPE_CHECKING:
    import torch

_NAME = "maple_slots"


def is_ours(base: LoadedBase) -> bool:
    """Whether a model's attention is torch's own, on a processor.

    Only there: whatever else acts on the scores (a cap, a sink) is no part of torch's kernel.
    """
    config: Any = base.model.config
    return base.device.type == "cpu" and config._attn_implementation == "sdpa"


@contextmanager
def slot_attention(base: LoadedBase) -> Iterator[None]:
    """Names our attention in the model's config, until the block ends."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if not is_ours(base):
        yield
        return
    config: Any = base.model.config
    own = config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    try:
        # The property would check the name and walk through the parts of the config.
        config._attn_implementation_internal = _NAME
        yield
    finally:
        config._attn_implementation_internal = own


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attends with one token per row.

    Args:
        module: the attention layer.
        query: (rows, heads, 1, size).
        key: (rows, key heads, length, size), one block of memory.
        value: the same, of its own size.
        attention_mask: (rows, 1, 1, length), added to the scores.
        scaling: of the scores; None: 1 / sqrt(size).
        others: passed on to torch's kernel where we know less than it does.

    Returns:
        (rows, 1, heads, value size), and no weights.
    """
    import torch

    rows, heads, n_queries, size = query.shape
    if n_queries != 1 or others.get("position_bias") is not None:
        return _plain(module, query, key, value, attention_mask, scaling=scaling, **others)
    key_heads, length = key.shape[1], key.shape[2]
    grouped = (rows * key_heads, heads // key_heads)
    scores = torch.bmm(
        query.reshape(*grouped, size), key.reshape(-1, length, size).transpose(1, 2)
    ).view(rows, heads, 1, length)
    scale = size**-0.5 if scaling is None else scaling
    scores = scores.float().mul_(scale).add_(attention_mask)
    shares = torch.softmax(scores, dim=-1).to(value.dtype).view(*grouped, length)
    found = torch.bmm(shares, value.reshape(-1, length, value.shape[-1]))
    return found.view(rows, 1, heads, value.shape[-1]), None


def _plain(module: Any, *tensors: torch.Tensor, **others: Any) -> tuple[torch.Tensor, None]:
    from transformers.integrations import sdpa_attention

    kernel: Any = sdpa_attention.sdpa_attention_forward
    found: tuple[torch.Tensor, None] = kernel(module, *tensors, **others)
    return found

"""Cross-entropy at the label positions, a block of rows at a time: no (labels, vocabulary) is held.

    hidden (n, d) ── head ── logits (block, vocabulary) ── loss
                              └─ softmax - one-hot ── headᵀ ── gradient of hidden (block, d)

The gradient is known as soon as the logits are, so a block is done with both and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import Function

_BLOCK_VALUES = 1 << 24
"""Logits of one block: for fewer a product with a large head is slower, since it lays the head out
anew each time."""
_CACHED_VALUES = 1 << 18
"""Of them in float32 at a time: 1 MiB."""


def label_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of every label token, and their weighted sum.

    Args:
        hidden: (n, d), what the head reads.
        weight: (vocabulary, d), the frozen head.
        targets: (n,) int64.
        shares: (n,) float32: what each token's loss counts in the sum.

    Returns:
        The sum, which gradients flow back from, and (n,) losses in float32 nats, which none do.
    """
    total, losses = _CrossEntropy.apply(hidden, weight, targets, shares)
    return total, losses


class _CrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        shares: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        # A method may have lifted the hidden states to float32; the head reads its own precision.
        read = hidden.to(weight.dtype)
        of_hidden = torch.empty_like(read)
        for rows in _blocks(len(hidden), _BLOCK_VALUES // len(weight)):
            logits = read[rows] @ weight.t()
            _softmax_gradient(logits, targets[rows], shares[rows], losses=losses[rows])
            torch.mm(logits, weight, out=of_hidden[rows])
        ctx.save_for_backward(of_hidden.to(hidden.dtype))
        ctx.mark_non_differentiable(losses)
        return (losses * shares).sum(), losses

    @staticmethod
    def backward(ctx: Any, factor: torch.Tensor, _: Any) -> Any:
        (of_hidden,) = ctx.saved_tensors
        return of_hidden * factor.to(of_hidden.dtype), None, None, None


def _softmax_gradient(
    logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, *, losses: torch.Tensor
) -> None:
    """Writes each row's loss, and in the logits' place their gradient, both computed in float32.

    A few rows at a time, so that the float32 numbers stay in a processor's cache.
    """
    step = _CACHED_VALUES // logits.shape[1] if logits.device.type == "cpu" else len(logits)
    for rows in _blocks(len(logits), step):
        logs = torch.log_softmax(logits[rows], -1, dtype=torch.float32)
        own, share = targets[rows, None], shares[rows, None]
        losses[rows] = -logs.gather(1, own)[:, 0]
        logits[rows] = logs.exp_().mul_(share).scatter_add_(1, own, -share)


def _blocks(count: int, step: int) -> Iterator[slice]:
    for start in range(0, count, max(1, step)):
        yield slice(start, min(count, start + max(1, step)))

"""Cross-entropy at the label positions, a block of rows at a time: no (labels, vocabulary) is held.

    hidden (n, d) ── head ── logits (block, vocabulary) ── loss
                              └─ softmax - one-hot ── headᵀ ── gradient of hidden (block, d)

The gradient is known as soon as the logits are, so a block is done with both and forgotten.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

_BLOCK_VALUES = 1 << 23
"""Logits of one block: 32 MiB in float32."""


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
        of_hidden = torch.empty_like(hidden)
        step = max(1, _BLOCK_VALUES // len(weight))
        for start in range(0, len(hidden), step):
            rows = slice(start, start + step)
            logits = (hidden[rows] @ weight.t()).float()
            norm = logits.logsumexp(-1, keepdim=True)
            own = targets[rows, None]
            losses[rows] = (norm - logits.gather(1, own))[:, 0]
            share = shares[rows, None]
            gradient = logits.sub_(norm).exp_().mul_(share).scatter_add_(1, own, -share)
            of_hidden[rows] = gradient.to(hidden.dtype) @ weight
        ctx.save_for_backward(of_hidden)
        ctx.mark_non_differentiable(losses)
        return (losses * shares).sum(), losses

    @staticmethod
    def backward(ctx: Any, factor: torch.Tensor, _: Any) -> Any:
        (of_hidden,) = ctx.saved_tensors
        return of_hidden * factor.to(of_hidden.dtype), None, None, None

"""The model up to its head: hidden states at the label positions, and the head's weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def plain_head(model: nn.Module) -> nn.Linear | None:
    """The output embedding where it is nothing but a frozen product; None where it is adapted,
    trained, hooked or has a bias.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    if type(head) is not nn.Linear or head.weight.requires_grad:
        return None
    is_hooked = bool(head._forward_hooks or head._forward_pre_hooks)
    return None if is_hooked or getattr(head, "bias", None) is not None else head


def label_hidden(
    model: nn.Module,
    head: nn.Linear,
    *,
    positions: torch.Tensor,
    selected: torch.Tensor,
    **inputs: Any,
) -> torch.Tensor | None:
    """Runs the model up to its head and returns what the head would read where it is read.

    Args:
        model: a causal language model, adapted or not.
        head: its output embedding (``plain_head``).
        positions: (rows, width) position ids.
        selected: (rows, width) bool.
        inputs: ``input_ids`` (rows, width), and whatever else the forward takes.

    Returns:
        (n, d) in row-major order of ``selected``; None where the model does something to its
        logits after the head (a soft cap, a scale), so that head and loss cannot be fused.
    """
    width = selected.shape[1]
    read: list[torch.Tensor] = []

    def instead(hidden: torch.Tensor) -> torch.Tensor:
        # Virtual tokens of a prompt method stand in front: real positions are the last ones.
        read.append(hidden[:, -width:][selected])
        return read[0]

    vars(head)["forward"] = instead
    try:
        logits = model(position_ids=positions, **inputs).logits
    finally:
        del vars(head)["forward"]
    return logits if logits is read[0] else None

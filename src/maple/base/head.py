"""Logits where they are read and nowhere else.

    hidden (rows, width, d) ── select (n, d) ── head ── logits (n, vocabulary)

A pre-hook on the output embedding drops the positions nobody reads, so the model's own forward
(with any adapter, any logit cap after the head) runs unchanged on what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def label_logits(
    model: nn.Module, *, positions: torch.Tensor, selected: torch.Tensor, **inputs: Any
) -> torch.Tensor:
    """Runs the model and returns logits at the selected positions only.

    Args:
        model: a causal language model, adapted or not.
        positions: (rows, width) position ids; passed on as ``position_ids``.
        selected: (rows, width) bool.
        inputs: ``input_ids`` (rows, width), and whatever else the forward takes.

    Returns:
        (n, vocabulary) logits in the model's compute dtype, in row-major order of ``selected``.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    width = selected.shape[1]

    def select(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # Virtual tokens of a prompt method stand in front: real positions are the last ones.
        hidden = arguments[0][:, -width:]
        return (hidden[selected],)

    handle = head.register_forward_pre_hook(select)
    try:
        logits: torch.Tensor = model(position_ids=positions, **inputs).logits
    finally:
        handle.remove()
    return logits

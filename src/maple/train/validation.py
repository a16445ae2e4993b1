"""The loss on examples held out of training, per language.

A language's loss is the mean cross-entropy over its label tokens; the loss of a validation is the
mean of its languages' losses, so that the one with most tokens does not decide alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from maple.data import MicroBatch
from maple.records import CurveRow
from maple.study import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

HeldOut = Mapping[str, Sequence[MicroBatch]]
"""Language -> the forward passes over its held-out examples."""


def is_validated(settings: TrainingSettings, step: int, total_steps: int) -> bool:
    """Whether the held-out loss is measured after ``step``: every so often, and after the last."""
    held = settings.validation
    return held is not None and (step % held.every == 0 or step == total_steps)


def held_out_losses(
    model: nn.Module, held_out: HeldOut, loss_of: Callable[[MicroBatch], float]
) -> dict[str, float]:
    """Mean cross-entropy per label token of each language, in nats.

    Args:
        model: in training mode, which it is left in; measured without dropout or gradients.
        held_out: what to measure on.
        loss_of: sum of the cross-entropies of one forward pass, by ``model``.
    """
    import torch

    model.eval()
    try:
        with torch.no_grad():
            return {
                language: sum(loss_of(b) for b in batches) / sum(len(b.targets) for b in batches)
                for language, batches in held_out.items()
            }
    finally:
        model.train()


def with_validation(row: CurveRow, losses: Mapping[str, float]) -> CurveRow:
    """The step's row with what validation found after it."""
    return replace(row, validation_loss=fmean(losses.values()), validation_losses=dict(losses))

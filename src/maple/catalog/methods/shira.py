"""SHiRA: a few entries of each weight are trained, chosen at random, and stored as they are.

    dW is zero but at r (in + out) places

Source: Bhardwaj et al. 2024 (arXiv 2406.13175).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import PeftMethod, Positive

if TYPE_CHECKING:
    from torch import nn


class Shira(PeftMethod):
    """As many trained entries as LoRA of that rank has, at places drawn from the run's seed.

    Source of defaults: ``peft`` (rank 32, random mask).
    """

    rank: Positive = 32

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """The entries are added to the weight in every forward."""
        if quantizer.bits < 16 and quantizer.library != "bitsandbytes":
            return "shira adds to the weight, and of codes peft reads back bitsandbytes' alone"
        return None

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``ShiraConfig``."""
        from peft import ShiraConfig

        return ShiraConfig(
            r=self.rank,
            random_seed=context.seed,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        return _unchecked(super().attach(model, context))

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the stored entries on it."""
        return _unchecked(super().load(model, directory))

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """As many as LoRA's."""
        return self.rank * (inputs + outputs)


def _unchecked(model: nn.Module) -> nn.Module:
    """Says aloud that sparse tensors are not checked: torch's default, of which it warns."""
    import torch

    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    return model

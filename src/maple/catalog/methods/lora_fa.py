"""LoRA-FA: LoRA with A frozen as it was drawn, so that only (rows, r) activations are kept.

Source: Zhang et al. 2023 (arXiv 2308.03303).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import LoraMethod

if TYPE_CHECKING:
    from torch import nn


class LoraFa(LoraMethod):
    """LoRA that trains B alone.

    Source of defaults: the entry ``lora``. ``peft``'s LoRA-FA optimiser also projects B's gradient
    with A, which the paper does not.
    """

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules and freezes every A.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        wrapped = super().attach(model, context)
        for name, parameter in wrapped.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad_(False)
        return wrapped

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """B (out, r)."""
        return self.rank * outputs

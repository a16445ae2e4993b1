"""DoRA: LoRA learns the direction of each row of a weight, a further vector its length.

    W' = m * (W + s B A) / |W + s B A|,   m (out,) begins at |W|, so that W' = W

Source: Liu et al. 2024 (arXiv 2402.09353).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import LoraMethod

if TYPE_CHECKING:
    from torch import nn

_DIRECTION = 0.01
"""Where B begins for an output whose weights are all zero."""


class Dora(LoraMethod):
    """LoRA with a trained magnitude for every output of every adapted weight.

    Source of defaults: the entry ``lora``.
    """

    shares_passes: ClassVar[bool] = False

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """The norms are taken of the dequantized weight."""
        if quantizer.bits == 8 and quantizer.library == "bitsandbytes":
            return "peft takes DoRA's norms of LLM.int8's weight and loses its scales on the way"
        return None

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules; an output whose weights are all zero is given a direction.

        Its length is zero too, and the formula 0/0. Along A's first row, times a length of zero, it
        is still the base's.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        import torch
        from peft.tuners.lora import LoraLayer

        wrapped = super().attach(model, context)
        for layer in wrapped.modules():
            if isinstance(layer, LoraLayer):
                parts: Any = layer
                is_zero = parts.lora_magnitude_vector["default"].weight == 0
                with torch.no_grad():
                    parts.lora_B["default"].weight[:, 0].masked_fill_(is_zero, _DIRECTION)
        return wrapped

    def extra_config(self) -> dict[str, Any]:
        """Asks for the magnitudes."""
        return {"use_dora": True}

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """LoRA's, and one magnitude an output."""
        return self.rank * (inputs + outputs) + outputs

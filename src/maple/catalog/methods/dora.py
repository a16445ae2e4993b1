"""DoRA: LoRA learns the direction of each row of a weight, a further vector its length.

    W' = m * (W + s B A) / |W + s B A|,   m (out,) begins at |W|, so that W' = W

Source: Liu et al. 2024 (arXiv 2402.09353).
"""

from __future__ import annotations

from typing import Any, ClassVar

from maple.catalog.contracts import ModelFamily, Quantizer
from maple.catalog.peft import LoraMethod


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

    def extra_config(self) -> dict[str, Any]:
        """Asks for the magnitudes."""
        return {"use_dora": True}

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """LoRA's, and one magnitude an output."""
        return self.rank * (inputs + outputs) + outputs

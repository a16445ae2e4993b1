"""nf4: 4-bit NormalFloat with double quantization, the QLoRA setting.

Source: Dettmers et al. 2023 (arXiv 2305.14314): blocks of 64 weights, one absmax each; the
absmaxes are themselves quantized to 8 bits in blocks of 256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch
    from torch import nn


class Nf4(Quantizer):
    """Linear layers in 4-bit NormalFloat, products in bfloat16; the head stays 16 bits."""

    bits: ClassVar[int] = 4

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Quantizes while loading, through bitsandbytes."""
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
        )
        return {"dtype": compute_dtype, "quantization_config": config}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Keeps the weights in the layout that has a gradient.

        On a CPU with AVX-512 bfloat16, bitsandbytes 0.50 repacks a layer in place at its first
        forward without gradients; the repacked layer's product has no backward, so whatever is
        trained after a scoring pass would receive no gradient through it.
        """
        from bitsandbytes.nn.modules import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
        return model

    def bytes_per_weight(self) -> float:
        """4 bits, 8 bits of absmax per 64 weights, 32 bits per 256 absmaxes."""
        return (4 + 8 / 64 + 32 / (64 * 256)) / 8

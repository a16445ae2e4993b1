"""What the 4-bit quantizers of bitsandbytes share: blocks of 64 weights, each over its largest.

    weight (out, in) ── 64 in a row of memory ── / absmax ── nearest of 16 values ── 4-bit codes
    absmax: float32, one a block; or 8 bits each and float32 per 256 of them (double)

Source: Dettmers et al. 2023 (arXiv 2305.14314), sections 2 and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch
    from torch import nn

_BLOCK, _ABSMAX_BLOCK = 64, 256


class FourBits(Quantizer):
    """Linear layers in 4-bit codes, products in bfloat16; the head stays 16 bits."""

    bits: ClassVar[int] = 4
    library: ClassVar[str] = "bitsandbytes"
    values: ClassVar[Literal["nf4", "fp4"]]
    """The 16 values: quantiles of a normal distribution, or a 4-bit floating-point format."""
    is_double: ClassVar[bool]
    """Whether the blocks' largest values are quantized themselves."""

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Quantizes while loading, through bitsandbytes."""
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type=self.values,
            bnb_4bit_use_double_quant=self.is_double,
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
        """4 bits, and the blocks' largest values: 32 bits each, or 8 and 32 per 256 of them."""
        absmax = 8 + 32 / _ABSMAX_BLOCK if self.is_double else 32
        return (4 + absmax / _BLOCK) / 8

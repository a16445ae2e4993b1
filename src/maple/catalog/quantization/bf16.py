"""bf16: the base in bfloat16, the 16-bit setting of the MAPLE paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch


class Bf16(Quantizer):
    """Weights and products in bfloat16; sums inside a product in float32 by hardware."""

    bits: ClassVar[int] = 16

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Loads the weights as bfloat16 whatever the checkpoint holds."""
        return {"dtype": compute_dtype}

"""fp32: the base in float32, the setting for parity checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch


class Fp32(Quantizer):
    """Weights and products in float32: the reference every other setting is compared with."""

    bits: ClassVar[int] = 32
    compute_dtype: ClassVar[Literal["bfloat16", "float16", "float32"]] = "float32"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Loads the weights as float32 whatever the checkpoint holds."""
        return {"dtype": compute_dtype}

"""fp16: the base in float16, for GPUs that have no bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch


class Fp16(Quantizer):
    """Weights and products in float16; on a CPU right, and many times slower than bf16."""

    bits: ClassVar[int] = 16
    compute_dtype: ClassVar[Literal["bfloat16", "float16", "float32"]] = "float16"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Loads the weights as float16 whatever the checkpoint holds."""
        return {"dtype": compute_dtype}

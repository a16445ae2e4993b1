"""torchao-int8: 8-bit weights with one scale a row, held and multiplied by torchao.

The same idea as int8-weight-only, by PyTorch's own library and its kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch


class TorchaoInt8(Quantizer):
    """Linear layers in 8-bit integers by torchao; products and head in bfloat16."""

    bits: ClassVar[int] = 8
    library: ClassVar[str] = "torchao"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Quantizes while loading, through transformers."""
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        config = TorchAoConfig(Int8WeightOnlyConfig())
        return {"dtype": compute_dtype, "quantization_config": config}

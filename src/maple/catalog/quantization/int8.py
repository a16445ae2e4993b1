"""int8: LLM.int8, vector-wise 8-bit weights with outlier columns in 16 bits.

Source: Dettmers et al. 2022 (arXiv 2208.07339); outlier threshold 6.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch


class Int8(Quantizer):
    """Linear layers in 8-bit integers with one scale a row; the head stays 16 bits."""

    bits: ClassVar[int] = 8
    library: ClassVar[str] = "bitsandbytes"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Quantizes while loading, through bitsandbytes."""
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
        return {"dtype": compute_dtype, "quantization_config": config}

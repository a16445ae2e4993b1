"""int8-weight-only: 8-bit weights with one scale a row, activations in bfloat16.

    q = round(127 W / max|W|), by row;   y = (x q^T) * max|W| / 127
Unlike LLM.int8, no activation is ever quantized, so no sample's numbers depend on its batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch
    from torch import nn


class Int8WeightOnly(Quantizer):
    """Linear layers in 8-bit integers, products in bfloat16; the head stays 16 bits."""

    bits: ClassVar[int] = 8
    library: ClassVar[str] = "maple"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Loads in 16 bits; ``prepare`` quantizes."""
        return {"dtype": compute_dtype}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Replaces every linear layer but the head, one after another."""
        from maple.catalog.packed import RowInt8, replace_linears

        replace_linears(model, RowInt8)
        return model

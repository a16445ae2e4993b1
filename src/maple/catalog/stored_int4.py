"""What the quantizers of checkpoints in 4-bit codes share: they take them as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch
    from torch import nn

_GROUP = 128
"""Weights that share a step and a zero point in the checkpoints that are published, mostly."""


class StoredInt4(Quantizer):
    """4-bit codes of a checkpoint that was quantized before; products and head in bfloat16."""

    bits: ClassVar[int] = 4
    library: ClassVar[str] = "maple"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Leaves the quantization to what the checkpoint's config says."""
        return {"dtype": compute_dtype}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Refuses a checkpoint of plain weights: calibrating one is another program's work.

        Raises:
            TrainingError: the checkpoint is not quantized.
        """
        from maple.catalog.packed import GroupInt4
        from maple.errors import TrainingError

        if not any(isinstance(module, GroupInt4) for module in model.modules()):
            raise TrainingError(
                "gptq and awq take checkpoints that were quantized by them, and this one holds "
                "plain weights. Name such a checkpoint, or quantize while loading, as by nf4."
            )
        return model

    def bytes_per_weight(self) -> float:
        """4 bits, and a 16-bit step and an 8-bit zero point per group of the usual size."""
        return (4 + 24 / _GROUP) / 8

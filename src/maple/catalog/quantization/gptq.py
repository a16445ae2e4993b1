"""gptq: a checkpoint that was quantized by GPTQ, taken as it is.

Source: Frantar et al. 2022 (arXiv 2210.17323); kernels of ``gptqmodel``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch
    from torch import nn


class Gptq(Quantizer):
    """A 4-bit GPTQ checkpoint as it is; needs a GPU, gptqmodel and optimum, and is not tested."""

    bits: ClassVar[int] = 4
    library: ClassVar[str] = "gptqmodel"
    compute_dtype: ClassVar[Literal["bfloat16", "float16", "float32"]] = "float16"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Leaves the quantization to what the checkpoint's config says."""
        return {"dtype": compute_dtype}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Refuses a checkpoint of plain weights: calibrating one is another program's work.

        Raises:
            TrainingError: the checkpoint is not quantized.
        """
        from maple.errors import TrainingError

        if not getattr(model.config, "quantization_config", None):
            raise TrainingError(
                "gptq takes checkpoints that were quantized by it, and this one holds plain "
                "weights. Name such a checkpoint, or quantize while loading, for example by nf4."
            )
        return model

    def bytes_per_weight(self) -> float:
        """4 bits, and a 16-bit scale and a 4-bit zero point per group of 128, the usual size."""
        return (4 + 20 / 128) / 8

"""PiSSA: LoRA whose factors begin as the principal singular directions of the weight.

    W = U S V^T,   B0 = U_r sqrt(S_r / s),   A0 = sqrt(S_r / s) V_r^T

Source: Meng et al. 2024 (arXiv 2404.02948).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from maple.catalog.residual import ResidualLora

if TYPE_CHECKING:
    import torch


class Pissa(ResidualLora):
    """LoRA begun in the weight's largest directions; stored as a plain LoRA of twice the rank.

    The base is not changed, so on 4 and 8 bits its residual is not quantized anew, as QPiSSA does.
    Source of defaults: the entry ``lora``; the exact decomposition is ``peft``'s.
    """

    iterations: Annotated[int, Field(ge=0)] = 0
    """Subspace iterations of a fast decomposition (the paper tries 1 to 16); 0: the exact one."""

    def initialise(self, layer: Any, weight: torch.Tensor) -> None:
        """Through ``peft``."""
        kind = f"pissa_niter_{self.iterations}" if self.iterations else "pissa"
        layer.pissa_init("default", kind)

"""OLoRA: LoRA whose factors begin as the first columns and rows of the weight's QR decomposition.

    W = Q R,   B0 = Q_r,   A0 = R_r

Source: Büyükakyüz 2024 (arXiv 2406.01775).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maple.catalog.residual import ResidualLora

if TYPE_CHECKING:
    import torch


class Olora(ResidualLora):
    """LoRA begun in an orthonormal basis of the weight; stored as a plain LoRA of twice the rank.

    Source of defaults: the entry ``lora``.
    """

    def initialise(self, layer: Any, weight: torch.Tensor) -> None:
        """Through ``peft``."""
        layer.olora_init("default")

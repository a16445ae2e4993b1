"""LoRA+: the two factors of LoRA learn at two rates.

    rate(A) = lr,   rate(B) = ratio * lr

Source: Hayou et al. 2024 (arXiv 2402.12354): B begins at zero and has to travel further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from maple.catalog.peft import LoraMethod

if TYPE_CHECKING:
    from torch import nn


class LoraPlus(LoraMethod):
    """LoRA whose B learns ``ratio`` times as fast as its A.

    Source of ratio: the paper's rule of thumb, 2^4. Source of the rest: the entry ``lora``.
    """

    ratio: Annotated[float, Field(gt=0)] = 16.0

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
        """One group of all A, one of all B."""
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        slow = [p for n, p in trained if "lora_B" not in n]
        fast = [p for n, p in trained if "lora_B" in n]
        return [
            {"params": slow, "lr": learning_rate},
            {"params": fast, "lr": learning_rate * self.ratio},
        ]

"""full: every weight of the base is trained, the upper reference for any adapter."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Quantizer, Shape

if TYPE_CHECKING:
    from torch import nn


class Full(Method):
    """Full fine-tuning of a copy of the base, in float32 master weights."""

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """Integer weights have no gradient."""
        if quantizer.bits < 16:
            return f"full trains the weights themselves, and {quantizer.bits}-bit weights cannot be"
        return None

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """Blocks, norms, embedding and (unless tied) head."""
        block = sum(i * o for i, o in family.linear_shapes(shape).values()) + 2 * shape.hidden
        heads = 1 if shape.tied_head else 2
        return shape.layers * block + shape.hidden + heads * shape.vocabulary * shape.hidden

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Returns a trainable float32 copy; the base itself stays as it was for the next run.

        The masters are float32 because an AdamW step of 1e-5 is below bfloat16's resolution.
        """
        trained = copy.deepcopy(model).float()
        return trained.requires_grad_(True)

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes a complete model directory (safetensors)."""
        model.save_pretrained(str(directory), safe_serialization=True)  # type: ignore[operator]

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the trained model in the base's dtype; the base itself is not changed."""
        from transformers import AutoModelForCausalLM

        dtype = next(model.parameters()).dtype
        loaded: nn.Module = AutoModelForCausalLM.from_pretrained(str(directory), dtype=dtype)
        return loaded.to(next(model.parameters()).device)

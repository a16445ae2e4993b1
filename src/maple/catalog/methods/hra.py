"""HRA: a weight's inputs are reflected r times, each along a trained direction.

    W' = W H1 ... Hr,   Hi = I - 2 ui ui^T / |ui|^2

Source: Yuan et al. 2024 (arXiv 2405.17484).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import PeftMethod, needs_float_weights


class Hra(PeftMethod):
    """Chains of Householder reflections, in equal pairs at first, which undo each other.

    Source of defaults: ``peft``.
    """

    rank: Annotated[int, Field(gt=0, multiple_of=2)] = 8

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """The reflections are multiplied into the weight itself."""
        return needs_float_weights(quantizer, "hra multiplies its reflections into the weight")

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """An ``HRAConfig``."""
        from peft import HRAConfig

        return HRAConfig(
            r=self.rank,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """r directions of the input's width."""
        return self.rank * inputs

"""RandLoRA: a full-rank update, a sum of frozen random low-rank bases scaled by trained ones.

    dW = alpha / r * sum_k B_k diag(l_k) A diag(g_k),   k up to min(out, in) / r

Source: Albert et al. 2025 (arXiv 2502.00987).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import Dropout, PeftMethod, Positive


class Randlora(PeftMethod):
    """Trained scales of random bases, drawn from the run's seed and stored; begins at zero.

    Source of defaults: ``peft`` (rank 32, alpha 20 times that).
    """

    rank: Positive = 32
    alpha: Annotated[float, Field(gt=0)] = 640.0
    dropout: Dropout = 0.0

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``RandLoraConfig``."""
        from peft import RandLoraConfig

        return RandLoraConfig(
            r=self.rank,
            randlora_alpha=self.alpha,  # type: ignore[arg-type]
            randlora_dropout=self.dropout,
            projection_prng_key=context.seed,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """For each of the bases, r scales and one for each of the smaller width."""
        width = min(inputs, outputs)
        return -(-width // self.rank) * (self.rank + width)

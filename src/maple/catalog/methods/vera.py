"""VeRA: one pair of frozen random matrices for all layers, scaled by trained vectors.

    dW = diag(b) B diag(d) A,   b (out,) begins at zero, d (r,) at 0.1

Source: Kopiczko et al. 2023 (arXiv 2310.11454).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import Dropout, PeftMethod, Positive


class Vera(PeftMethod):
    """Two trained vectors a layer; the shared projections are drawn from the run's seed and stored.

    Source of defaults: ``peft`` and the paper (rank 256, d 0.1).
    """

    rank: Positive = 256
    dropout: Dropout = 0.0
    d_initial: Annotated[float, Field(gt=0)] = 0.1

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``VeraConfig``."""
        from peft import VeraConfig

        return VeraConfig(
            r=self.rank,
            vera_dropout=self.dropout,
            d_initial=self.d_initial,
            projection_prng_key=context.seed,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """b (out,) and d (r,)."""
        return outputs + self.rank

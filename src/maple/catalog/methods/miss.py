"""MiSS: the inputs are cut into shards of r and added up; a trained matrix maps the sum on.

    y += (x1 + x2 + ...) D,   x = [x1 x2 ...] of r inputs each,   D (r, out)

Source: Kang and Yin 2024 (arXiv 2409.15371).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import Dropout, PeftMethod, Positive


class Miss(PeftMethod):
    """One trained matrix a layer, repeated over shards of its inputs; begins at zero.

    Source of defaults: ``peft`` (rank 64).
    """

    rank: Positive = 64
    dropout: Dropout = 0.0

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``MissConfig``."""
        from peft import MissConfig

        return MissConfig(
            r=self.rank,
            miss_dropout=self.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """D (r, out)."""
        return self.rank * outputs

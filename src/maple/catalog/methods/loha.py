"""LoHa: the update is the elementwise product of two low-rank matrices.

    dW = alpha / r * (B1 A1) * (B2 A2),   rank up to r^2

Source: Hyeon-Woo et al. 2021, FedPara (arXiv 2108.06098); Yeh et al. 2023 (arXiv 2309.14859).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import Dropout, PeftMethod, Positive, packed_shape


class Loha(PeftMethod):
    """A Hadamard product of two low-rank updates; one factor begins at zero.

    Source of defaults: ``peft``.
    """

    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 8.0
    rank_dropout: Dropout = 0.0

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """The update takes the shape of the weight as it is stored."""
        return packed_shape(quantizer)

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``LoHaConfig``."""
        from peft import LoHaConfig

        return LoHaConfig(
            r=self.rank,
            alpha=self.alpha,  # type: ignore[arg-type]
            rank_dropout=self.rank_dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """Two pairs of factors."""
        return 2 * self.rank * (inputs + outputs)

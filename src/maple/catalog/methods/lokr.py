"""LoKr: the update is a Kronecker product of a small matrix and a low-rank one.

    dW = alpha / r * W1 (o1, i1) kron W2 (o2, i2),   out = o1 o2, in = i1 i2, W2 = B A

Source: Yeh et al. 2023 (arXiv 2309.14859), with Edalati et al. 2022 (arXiv 2212.10650).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import Dropout, PeftMethod, Positive, packed_shape


class Lokr(PeftMethod):
    """A Kronecker product; W1 begins at zero. W2 is whole where r is at least half its width.

    Source of defaults: ``peft``.
    """

    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 8.0
    rank_dropout: Dropout = 0.0

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """The update takes the shape of the weight as it is stored."""
        return packed_shape(quantizer)

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``LoKrConfig``."""
        from peft import LoKrConfig

        return LoKrConfig(
            r=self.rank,
            alpha=self.alpha,  # type: ignore[arg-type]
            rank_dropout=self.rank_dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """W1, and W2 or its two factors."""
        small_in, large_in = _split(inputs)
        small_out, large_out = _split(outputs)
        is_whole = self.rank >= max(large_in, large_out) / 2
        second = large_out * large_in if is_whole else self.rank * (large_out + large_in)
        return small_out * small_in + second


def _split(width: int) -> tuple[int, int]:
    """The two factors of a width nearest its square root, the smaller first."""
    small = next(d for d in range(math.isqrt(width), 0, -1) if width % d == 0)
    return small, width // small

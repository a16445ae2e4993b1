"""OFT: the inputs of a weight are rotated by trained orthogonal blocks.

    W' = W R,   R = diag(R1, ..., Rn),   Ri = (I + Qi)(I - Qi)^-1 of a skew Qi (b, b)

Source: Qiu et al. 2023 (arXiv 2306.07280); the inputs' rotation and the Neumann series: Qiu et al.
2025, OFTv2 (arXiv 2506.19847).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import Dropout, PeftMethod, Positive


class Oft(PeftMethod):
    """Block-diagonal rotations that begin at the identity.

    Source of defaults: ``peft`` (blocks of 32, five terms of the Neumann series).
    """

    block_size: Positive = 32
    dropout: Dropout = 0.0
    neumann: bool = True

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """An ``OFTConfig``."""
        from peft import OFTConfig

        return OFTConfig(
            oft_block_size=self.block_size,
            module_dropout=self.dropout,
            use_cayley_neumann=self.neumann,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """The upper triangle of a skew block, for every ``block_size`` inputs."""
        return inputs // self.block_size * (self.block_size * (self.block_size - 1) // 2)

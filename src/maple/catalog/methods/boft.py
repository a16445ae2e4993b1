"""BOFT: rotations of a weight's inputs, factored into sparse butterfly stages, and output scales.

    W' = diag(s) W R1 ... Rm,   each R block-diagonal after a permutation

Source: Liu et al. 2023 (arXiv 2311.06243).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import Dropout, PeftMethod, Positive


class Boft(PeftMethod):
    """Trained orthogonal blocks that begin at the identity, and scales that begin at one.

    Source of defaults: ``peft`` (blocks of 4, one stage). One stage only: further ones need a CUDA
    extension, without which ``peft`` trains one stage and says so in a warning.
    """

    block_size: Positive = 4
    dropout: Dropout = 0.0

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``BOFTConfig``."""
        from peft import BOFTConfig

        return BOFTConfig(
            boft_block_size=self.block_size,
            boft_dropout=self.dropout,
            boft_n_butterfly_factor=1,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """A whole block for every ``block_size`` inputs, and a scale an output."""
        return inputs * self.block_size + outputs

"""C3A: the update is made of circulant blocks, multiplied through the fast Fourier transform.

    dW = blocks (b, b), each a trained vector (b,) rotated

Source: Chen et al. 2024 (arXiv 2407.19342).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import PeftMethod, Positive


class C3a(PeftMethod):
    """Block-circular convolutions; begins at zero, so that step 0 equals the base.

    ``block_size`` divides the widths of every adapted layer. Source of default: ``peft``.
    """

    block_size: Positive = 256

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``C3AConfig``."""
        from peft import C3AConfig

        return C3AConfig(
            block_size=self.block_size,
            init_weights=True,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """A vector for every block."""
        return inputs * outputs // self.block_size

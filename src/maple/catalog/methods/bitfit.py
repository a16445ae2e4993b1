"""BitFit: biases alone are trained.

LLaMA and Mistral have none, so a bias that begins at zero is added to every adapted layer; where a
layer has one, what is trained is added to it, which is the same.

Source: Ben Zaken et al. 2021 (arXiv 2106.10199); added biases: Gao et al. 2023 (arXiv 2304.15010).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import PeftMethod, Targets


class Bitfit(PeftMethod):
    """A trained bias for every linear layer, through ``peft``'s BEFT layers.

    Source of targets: the paper trains the biases of all linear layers.
    """

    targets: Targets = "all-linear"

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``BeftConfig``."""
        from peft import BeftConfig

        return BeftConfig(
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """One number an output."""
        return outputs

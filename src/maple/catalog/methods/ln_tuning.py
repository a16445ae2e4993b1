"""LN-tuning: the weights of the normalisation layers alone are trained.

Source: Zhao et al. 2023 (arXiv 2312.11420).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Shape
from maple.catalog.peft import load_copies, train_copies

if TYPE_CHECKING:
    from torch import nn


class LnTuning(Method):
    """Trained copies of the layer norms.

    Source of targets: ``peft``'s for Llama; ``norm`` is the one behind the last block.
    """

    targets: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm", "norm")

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """A weight for every hidden dimension, in every norm named."""
        in_blocks = len(set(self.targets) - {"norm"})
        return shape.hidden * (shape.layers * in_blocks + ("norm" in self.targets))

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Puts float32 copies in the norms' places.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        return train_copies(model, list(self.targets), "ln-tuning")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the stored norms, in the precision they were stored in."""
        return load_copies(super().load(model, directory), directory)

"""last-k-layers: every weight of the last k blocks is trained, the rest stays frozen.

The oldest way to adapt with little memory: no gradient passes below the first trained block.
Source: Howard and Ruder 2018 (arXiv 1801.06146) unfreeze from the last layer down.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Quantizer, Shape
from maple.catalog.peft import load_copies, needs_float_weights, train_copies

if TYPE_CHECKING:
    from torch import nn


class LastKLayers(Method):
    """Trains float32 copies of the linear layers and norms of the last ``layers`` blocks.

    Stored as ``peft`` stores trained norms (whole modules), so ``peft`` loads it too.
    """

    layers: Annotated[int, Field(gt=0)] = 2

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """Integer weights have no gradient."""
        return needs_float_weights(quantizer, "last-k-layers trains the weights themselves")

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """The linear layers of k blocks, and two norms each."""
        block = sum(i * o for i, o in family.linear_shapes(shape).values()) + 2 * shape.hidden
        return min(self.layers, shape.layers) * block

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Puts float32 copies in the places of those blocks' layers."""
        config: Any = model.config
        chosen = range(max(0, config.num_hidden_layers - self.layers), config.num_hidden_layers)
        names = [
            name
            for name, module in model.named_modules()
            if (block := re.search(r"\.layers\.(\d+)\.", name))
            and int(block.group(1)) in chosen
            and any(True for _ in module.parameters(recurse=False))
        ]
        return train_copies(model, names, "last-k-layers")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the stored blocks, in the precision they were stored in."""
        return load_copies(super().load(model, directory), directory)

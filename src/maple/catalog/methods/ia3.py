"""(IA)^3: keys, values and the feed-forward's inner layer are each scaled by one trained vector.

Source: Liu et al. 2022 (arXiv 2205.05638).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import AttachContext, ModelFamily, Shape
from maple.catalog.peft import PeftMethod, Targets


class Ia3(PeftMethod):
    """Trained scales that begin at one.

    Source of targets: the paper's three places, as ``peft`` names them for Llama.
    """

    targets: Targets = ("k_proj", "v_proj", "down_proj")
    feedforward: tuple[str, ...] = ("down_proj",)

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """An ``IA3Config``."""
        from peft import IA3Config

        return IA3Config(
            target_modules=targets,
            feedforward_modules=[name for name in self.feedforward if name in targets],
            task_type="CAUSAL_LM",
        )

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """One number per input of a feed-forward target, else one per output."""
        widths = family.linear_shapes(shape)
        names = self.target_modules(family)
        if any(name not in widths for name in names):
            return None
        sizes = (widths[name][0 if name in self.feedforward else 1] for name in names)
        return shape.layers * sum(sizes)

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """Of a target that is not in the feed-forward."""
        return outputs

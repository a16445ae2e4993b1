"""RoAd: pairs of a layer's outputs are rotated by a trained angle and scaled.

    (y1, y2) -> a (y1 cos t - y2 sin t,  y1 sin t + y2 cos t)

Source: Liao and Monz 2024 (arXiv 2409.00119).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import PeftMethod


class Road(PeftMethod):
    """A trained angle and scale for pairs of outputs; they begin at 0 and 1.

    Source of defaults: ``peft`` (one angle a pair, groups of 64).
    """

    variant: Literal["road_1", "road_2", "road_4"] = "road_1"
    group_size: Annotated[int, Field(gt=0, multiple_of=2)] = 64

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``RoadConfig``."""
        from peft import RoadConfig

        return RoadConfig(
            variant=self.variant,
            group_size=self.group_size,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """Angles and scales: half an output each, one or two."""
        return {"road_1": outputs, "road_2": 2 * outputs, "road_4": 4 * outputs}[self.variant]

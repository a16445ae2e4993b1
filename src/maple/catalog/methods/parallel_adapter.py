"""parallel-adapter: a scaled bottleneck beside the feed-forward of every block.

    y' = FFN(x) + scale * up(f(down(x)))      x: the feed-forward's own input, after its norm

Source: He et al. 2022 (arXiv 2110.04366), the scaled parallel adapter of sections 3.3 and 4.6.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from maple.catalog.bottleneck import BottleneckMethod, Place


class ParallelAdapter(BottleneckMethod):
    """One adapter a block that reads what the feed-forward reads; step 0 equals the base.

    Source of defaults: width 512 and scale 4, the paper's best for the feed-forward.
    """

    places: ClassVar[tuple[Place, ...]] = ("beside-feed-forward",)

    width: Annotated[int, Field(gt=0)] = 512
    scale: Annotated[float, Field(gt=0)] = 4.0

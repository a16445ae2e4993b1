"""houlsby: bottleneck adapters after attention and after the feed-forward of every block.

    y' = y + scale * up(f(down(y)))      y: the output of o_proj, and that of down_proj
    before the skip connection adds it to the stream

Source: Houlsby et al. 2019 (arXiv 1902.00751), figure 2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from maple.catalog.bottleneck import BottleneckMethod, Nonlinearity, Place


class Houlsby(BottleneckMethod):
    """Two adapters a block, each in sequence with a sub-layer; step 0 equals the base.

    Source of defaults: width 64 is the middle of the paper's 8, 64 and 256; GELU is its code's.
    """

    places: ClassVar[tuple[Place, ...]] = ("attention-output", "feed-forward-output")

    width: Annotated[int, Field(gt=0)] = 64
    nonlinearity: Nonlinearity = "gelu"

"""pfeiffer: one bottleneck adapter a block, after the feed-forward and its skip connection.

    y' = y + scale * up(f(down(y)))      y: what the block hands to the next one

In the paper's BERT the adapter reads the stream after the block's last norm. A Llama-like block
has no norm there, and the adapter reads the stream as it is, as in AdapterHub's ``adapters``.

Source: Pfeiffer et al. 2021 (arXiv 2005.00247), appendix A; used by MAD-X (arXiv 2005.00052).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from maple.catalog.bottleneck import BottleneckMethod, Place


class Pfeiffer(BottleneckMethod):
    """One adapter at the end of every block: half of houlsby's weights at the same width.

    Source of defaults: ReLU and a reduction of 16 (AdapterHub), which is 256 at a hidden size of
    4,096.
    """

    places: ClassVar[tuple[Place, ...]] = ("block-output",)

    width: Annotated[int, Field(gt=0)] = 256

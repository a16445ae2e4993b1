"""nf4-single: 4-bit NormalFloat whose block constants stay float32.

Source: Dettmers et al. 2023 (arXiv 2305.14314), without double quantization.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from maple.catalog.bitsandbytes import FourBits


class Nf4Single(FourBits):
    """4-bit NormalFloat, constants in float32: 4.5 bits; products and head in bfloat16."""

    values: ClassVar[Literal["nf4", "fp4"]] = "nf4"
    is_double: ClassVar[bool] = False

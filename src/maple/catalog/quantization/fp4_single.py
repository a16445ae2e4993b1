"""fp4-single: a 4-bit floating-point format whose block constants stay float32.

Source: Dettmers et al. 2023 (arXiv 2305.14314), without double quantization.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from maple.catalog.bitsandbytes import FourBits


class Fp4Single(FourBits):
    """4-bit floating point, constants in float32: 4.5 bits; products and head in bfloat16."""

    values: ClassVar[Literal["nf4", "fp4"]] = "fp4"
    is_double: ClassVar[bool] = False

"""fp4: a 4-bit floating-point format with double quantization.

Source: Dettmers et al. 2023 (arXiv 2305.14314), section 4, where it is compared with NF4.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from maple.catalog.bitsandbytes import FourBits


class Fp4(FourBits):
    """4-bit floating point, constants quantized too; products and head in bfloat16."""

    values: ClassVar[Literal["nf4", "fp4"]] = "fp4"
    is_double: ClassVar[bool] = True

"""nf4: 4-bit NormalFloat with double quantization, the QLoRA setting.

Source: Dettmers et al. 2023 (arXiv 2305.14314)
"""

from __future__ import annotations

from typing import ClassVar, Literal

from maple.catalog.bitsandbytes import FourBits


class Nf4(FourBits):
    """4-bit NormalFloat, constants quantized too; products and head in bfloat16."""

    values: ClassVar[Literal["nf4", "fp4"]] = "nf4"
    is_double: ClassVar[bool] = True

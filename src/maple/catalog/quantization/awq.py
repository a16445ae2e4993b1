"""awq: a checkpoint in 4 bits that was quantized by AWQ, taken as it is.

Source: Lin et al. 2023 (arXiv 2306.00978).
"""

from __future__ import annotations

from maple.catalog.stored_int4 import StoredInt4


class Awq(StoredInt4):
    """A 4-bit AWQ checkpoint as it is; products and head in bfloat16."""

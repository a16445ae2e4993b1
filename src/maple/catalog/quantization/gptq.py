"""gptq: a checkpoint in 4 bits that was quantized by GPTQ, taken as it is.

Source: Frantar et al. 2022 (arXiv 2210.17323).
"""

from __future__ import annotations

from maple.catalog.stored_int4 import StoredInt4


class Gptq(StoredInt4):
    """A 4-bit GPTQ checkpoint as it is; products and head in bfloat16."""

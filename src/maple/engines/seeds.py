"""The seed of one sample's random draws, for engines that draw by generators of their own."""

from __future__ import annotations

import hashlib

from maple.evaluate.encode import EncodedRequest


def seed_of(request: EncodedRequest) -> int:
    """A number below 2**31 that depends on the settings' seed and the sample alone."""
    own = request.sampling.seed if request.sampling is not None else 0
    text = f"{own}\0{request.draw_key}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

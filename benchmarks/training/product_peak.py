"""The machine's bfloat16 product peak, in a process of its own: ``product_peak.py DEVICE``."""

from __future__ import annotations

import json
import sys
import time

_SECONDS = 4.0
_WIDTH = {"cpu": 2048, "cuda": 8192}


def measure(device: str) -> float:
    """FLOP/s of the best of several square products."""
    import torch

    width = _WIDTH[device]
    left, right = (torch.randn(width, width, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(left)
    repeats = 20 if device == "cuda" else 1
    best, end = float("inf"), time.monotonic() + _SECONDS
    while time.monotonic() < end:
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(left, right, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / repeats)
    return 2 * width**3 / best


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))

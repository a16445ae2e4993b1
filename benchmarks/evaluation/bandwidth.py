"""How fast this machine reads memory, in a process of its own: ``bandwidth.py``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping

_BYTES = 2**29
"""Larger than the caches of the processors in use."""
_SECONDS = 2.0


def read_bandwidth(env: Mapping[str, str]) -> float:
    """Bytes per second of the fastest of several sums over 512 MiB, on all cores."""
    done = subprocess.run(
        [sys.executable, __file__],
        env=dict(env), capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return float(json.loads(done.stdout))


def measure() -> float:
    """The same in this process."""
    import torch

    values = torch.ones(_BYTES // 4)
    best, end = float("inf"), time.monotonic() + _SECONDS
    while time.monotonic() < end:
        began = time.perf_counter()
        values.sum()
        best = min(best, time.perf_counter() - began)
    return _BYTES / best


if __name__ == "__main__":
    print(json.dumps(measure()))

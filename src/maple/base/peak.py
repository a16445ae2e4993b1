"""What this machine can multiply: the measured rate of dense products, to hold training against."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CPU_WIDTH = 2048
_ACCELERATOR_WIDTH = 8192
"""A narrower product ends before an accelerator is full."""
_MEASURED_SECONDS = 0.2
_LONGEST_PRODUCT = 0.5


@functools.cache
def peak_flops_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the best of several square products in that type.

    The matrices are 2048 wide on a CPU and 8192 on an accelerator; narrower where one product
    would take longer than half a second (float16 on a CPU). Measured once per process, in 0.2 s.
    On a CPU it is the rate of this process's own threads, while whatever else runs goes on.
    """
    width = _CPU_WIDTH if device.type == "cpu" else _ACCELERATOR_WIDTH
    product = _Product(width // 8, device, dtype)
    product.seconds()
    expected = product.seconds() * 8**3
    while expected > _LONGEST_PRODUCT and width > 256:
        width, expected = width // 2, expected / 8
    product = _Product(width, device, dtype)
    product.seconds()
    began, best = time.perf_counter(), product.seconds()
    while time.perf_counter() - began < _MEASURED_SECONDS:
        best = min(best, product.seconds())
    return 2 * width**3 / best


class _Product:
    """One product of two square matrices, to be timed."""

    def __init__(self, width: int, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        # A generator of its own: a measurement must not move the one that training draws from.
        generator = torch.Generator(device).manual_seed(0)
        drawn = torch.rand((2, width, width), generator=generator, device=device)
        self._left, self._right = drawn.to(dtype)
        self._device = device

    def seconds(self) -> float:
        import torch

        with torch.no_grad():
            self._wait()
            began = time.perf_counter()
            torch.mm(self._left, self._right)
            self._wait()
            return time.perf_counter() - began

    def _wait(self) -> None:
        import torch

        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

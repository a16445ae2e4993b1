"""Energy where the machine itself counts it; nowhere else is there a number.

CUDA    the device's counter since its driver was loaded (NVML, through ``pynvml``)
CPU     the processor packages' counters (Linux powercap, Intel and AMD), where readable
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """A counter of joules, and where it begins again from zero (None: never)."""

    read: Callable[[], float]
    span: float | None = None


class EnergyMeter:
    """Adds up what the machine's counters say from its making on.

    They count everything that the device or the processors do, whoever asked for it.
    """

    def __init__(self, counters: list[Counter]) -> None:
        """Reads every counter for the first time; without any, ``joules`` stays None."""
        self._counters = counters
        self._last: list[float] | None = None
        self._joules: float | None = None
        try:
            self._last = [counter.read() for counter in counters] or None
        except OSError:
            return
        self._joules = None if self._last is None else 0.0

    @property
    def joules(self) -> float | None:
        """What was used until the last ``update``; None where the machine does not say."""
        return self._joules

    def update(self) -> None:
        """Reads the counters; must come before one of them has gone round (half an hour)."""
        if self._last is None or self._joules is None:
            return
        try:
            now = [counter.read() for counter in self._counters]
        except OSError:
            self._last = self._joules = None
            return
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            gone_round = counter.span if after < before else 0.0
            self._joules += after - before + (gone_round or 0.0)
        self._last = now


def energy_counters(device: torch.device, powercap: Path = POWERCAP) -> list[Counter]:
    """The counters of a device: a GPU's own, or those of the processor packages; maybe none."""
    if device.type == "cuda":
        return _nvml(device)
    return _packages(powercap) if device.type == "cpu" else []


def _packages(powercap: Path) -> list[Counter]:
    counters = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            if not (folder / "name").read_text(encoding="utf-8").startswith("package"):
                continue  # cores and memory are parts of a package, ``psys`` holds it
            span = _microjoules(folder / "max_energy_range_uj")
            _microjoules(folder / "energy_uj")
        except OSError:
            return []  # most systems let nobody but root read it
        counters.append(Counter(functools.partial(_microjoules, folder / "energy_uj"), span))
    return counters


def _microjoules(path: Path) -> float:
    return int(path.read_text(encoding="utf-8")) / 1e6


def _nvml(device: torch.device) -> list[Counter]:
    if importlib.util.find_spec("pynvml") is None:
        return []
    import torch

    pynvml: Any = importlib.import_module("pynvml")
    # By its id: CUDA_VISIBLE_DEVICES renumbers the devices, and NVML does not heed it.
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"

    def joules() -> float:
        try:
            pynvml.nvmlInit()
            handle: Any = pynvml.nvmlDeviceGetHandleByUUID(name)
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError as error:
            # A driver without the counter, or a part of a GPU.
            raise OSError(str(error)) from error

    return [Counter(joules)]

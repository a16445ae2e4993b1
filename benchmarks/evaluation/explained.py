"""A curve of measured seconds beside what its operations and bytes predict.

    floor      = operations / peak + passes * bytes of the weights / bandwidth
    predicted  = fixed + slope * floor             one line through a curve's points

``fixed`` is what does not grow (start-up, a first pass); ``1 / slope`` is the share of the machine
that the growing part reaches. Where the line meets every point, operations and bytes explain it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.training.bases import Architecture


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine does at most."""

    flops: float
    """A second, of its best bfloat16 product."""
    bytes: float
    """A second, read."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured point of a curve."""

    seconds: float
    gigaflops: Mapping[str, float]
    """Of the fewest tokens: linear layers, adapters, attention, head."""
    passes: int
    gigabytes: float
    """Of weights, read once a pass."""
    tokens: Mapping[str, int]
    """Asked, fed, fewest."""

    def floor(self, machine: Machine) -> float:
        """Seconds that operations and weights take at least, one after the other."""
        flops = sum(self.gigaflops.values()) / machine.flops
        return 1e9 * (flops + self.gigabytes / machine.bytes)


def weight_bytes(architecture: Architecture, bits: str) -> int:
    """Of the linear layers and the head, which every pass reads."""
    layer = sum(i * o for i, o in architecture.linear_widths().values())
    count = architecture.layers * layer + architecture.hidden * architecture.vocabulary
    return count * {"fp32": 4, "bf16": 2}[bits]


def line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Start and slope of least squares."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    return mean_y - slope * mean_x, slope


def explained(points: Mapping[int, Point], machine: Machine) -> dict[str, Any]:
    """A curve as JSON values: its line, how far off it is, every point with its prediction."""
    floors = [point.floor(machine) for point in points.values()]
    fixed, slope = line(floors, [point.seconds for point in points.values()])
    predicted = [fixed + slope * floor for floor in floors]
    errors = [
        abs(p - m.seconds) / m.seconds for p, m in zip(predicted, points.values(), strict=True)
    ]
    return {
        "fixed_seconds": round(fixed, 3),
        "seconds_per_floor_second": round(slope, 3),
        "largest_error": round(max(errors), 3),
        "points": {
            str(x): asdict(point) | {"floor_seconds": round(f, 3), "predicted_seconds": round(p, 3)}
            for (x, point), f, p in zip(points.items(), floors, predicted, strict=True)
        },
    }  # fmt: skip

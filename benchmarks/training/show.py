"""The table, the verdicts on the targets, and what is said of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from benchmarks.training.cells import Cell
from benchmarks.training.statistics import summary

VERSIONS = (
    "maple-peft", "torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets",
)  # fmt: skip
TARGETS = {"trl": 6.0, "plain": 2.5}
SHARE_TARGET = 0.55
MEMORY_TARGET = 1.5


def machine() -> dict[str, Any]:
    """Processor, cores, memory, versions: nothing that says whose machine it is."""
    import psutil
    import torch

    return {
        "processor": _processor(),
        "cores": _cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
    }


def table(cells: Sequence[Cell]) -> list[str]:
    """Lines of the table: rates, ratios, memory."""
    head = ("base", "bits", "ours", "TRL", "plain", "x TRL", "(spread)", "x plain", "(spread)",
            "memory/TRL", "work")  # fmt: skip
    rows = [head, *(_row(cell) for cell in cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(v.rjust(w) for v, w in zip(row, widths, strict=True)) for row in rows]


def _row(cell: Cell) -> tuple[str, ...]:
    n = cell.place.rows.n_examples
    rates = [cell.ours, *(cell.peers[name] for name in ("trl", "plain"))]
    medians = [summary([o.rate(n) for o in found])["median"] for found in rates]
    trl, plain = (summary(cell.ratios(name)) for name in ("trl", "plain"))
    return (
        cell.model,
        cell.place.bits,
        *(f"{rate:.2f}/s" for rate in medians),
        f"{trl['median']:.2f}",
        f"{trl['min']:.2f}-{trl['max']:.2f}",
        f"{plain['median']:.2f}",
        f"{plain['min']:.2f}-{plain['max']:.2f}",
        f"{cell.memory_ratio('trl'):.2f}",
        "differs" if cell.differences() else "equal",
    )


def verdicts(result: dict[str, Any]) -> dict[str, bool]:
    """Which targets were met, by name."""
    met = {}
    for cell in result["cells"]:
        for peer, target in TARGETS.items():
            name = f"{cell['model']} {cell['bits']}: {target}x {peer}"
            met[name] = cell[f"ratio_to_{peer}"]["median"] >= target
    for name, found in result["share_of_peak"].items():
        met[f"{name}: {SHARE_TARGET:.0%} of peak"] = found["share"] >= SHARE_TARGET
    for name, found in result["memory"].items():
        ratio = found["trl_wrapped"].get("ratio")
        is_met = ratio is not None and ratio <= MEMORY_TARGET
        met[f"{name}: memory at most {MEMORY_TARGET}x"] = is_met
    return met


def _cores() -> int:
    found = getattr(os, "sched_getaffinity", None)
    return len(found(0)) if found else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""The machine at hand: its device, its memory, its versions."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_RECORDED = (
    "maple-peft",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
)


def select_device() -> torch.device:
    """The accelerator where there is one, else the CPU; ``MAPLE_DEVICE`` overrides."""
    import torch
    from accelerate import PartialState

    named = os.environ.get("MAPLE_DEVICE")
    return torch.device(named) if named else PartialState().device


def peak_memory_bytes(device: torch.device) -> int:
    """Peak bytes so far: allocated on a CUDA device, else the process's resident set."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Versions, processor, device and the state of the source tree; recorded, never hashed."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        # Sums are added in another order by another number of threads.
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "versions": {name: _version(name) for name in _RECORDED},
        "git": _git_state(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> str | None:
    """Commit of the source tree, ``-dirty`` appended; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

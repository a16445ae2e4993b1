"""The machine at hand: its device, its memory, its versions."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import runpy
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

    named = os.environ.get("MAPLE_DEVICE")
    if named:
        return torch.device(named)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else torch.device(found.type, 0)


def is_on_cpu() -> bool:
    """Whether ``select_device`` gives the CPU; told without importing torch where it can be."""
    named = os.environ.get("MAPLE_DEVICE")
    if named:
        return named.partition(":")[0] == "cpu"
    return _is_cpu_build() or select_device().type == "cpu"


def _is_cpu_build() -> bool:
    """Whether torch was built for no accelerator at all: its version file says so."""
    spec = importlib.util.find_spec("torch")
    places = spec.submodule_search_locations if spec else None
    if sys.platform == "darwin" or not places:
        return False
    try:
        named = runpy.run_path(str(Path(places[0]) / "version.py"))
    except (OSError, SyntaxError):
        return False
    kinds = ("cuda", "hip", "xpu")
    return set(kinds) <= named.keys() and all(named[kind] is None for kind in kinds)


def keep_freed_memory() -> None:
    """Lets glibc keep what a pass frees for the next one, where it would give it back.

    It gives large blocks back to the system, which hands them out anew page by page, zeroed: a
    training step of 1,400 tokens faulted 16,000 pages in again, and took 7% longer for it.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in _ALLOCATOR.items():
        libc.mallopt(option, value)


_ALLOCATOR = {-3: 1 << 25, -1: (1 << 31) - 1, -2: 1 << 26}
"""``mallopt``'s M_MMAP_THRESHOLD (the largest it takes), M_TRIM_THRESHOLD, M_TOP_PAD; bytes."""


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

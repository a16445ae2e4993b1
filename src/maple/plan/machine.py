"""What of a study does not run on this machine, told without importing what it would run with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from maple.catalog import load_quantizer, missing_library
from maple.study import RunSpec

_NO_GPU = "it needs a GPU, and none is seen"


def notes_on_machine(runs: Sequence[RunSpec]) -> Iterator[str]:
    """Yields a sentence for every quantization and optimiser that runs elsewhere and not here.

    They are notes and skip nothing: a study may be planned on one machine and run on another.
    """
    for name in dict.fromkeys(run.quantization for run in runs):
        if reason := missing_library(load_quantizer(name)):
            count = sum(run.quantization == name for run in runs)
            yield f"{name} ({_runs(count)}) does not run on this machine: {reason}"
    optimizers = [run.training.optimizer for run in runs if run.training]
    paged = [name for name in optimizers if name.startswith("paged")]
    if paged and not has_gpu():
        yield (
            f"training.optimizer {paged[0]} ({_runs(len(paged))}) does not run on this machine: "
            f"{_NO_GPU}"
        )


def has_gpu() -> bool:
    """Whether an NVIDIA or AMD GPU is seen, or ``MAPLE_DEVICE`` names one."""
    named = os.environ.get("MAPLE_DEVICE")
    if named:
        return not named.startswith("cpu")
    devices = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
    return any(path.exists() for path in devices) or shutil.which("nvidia-smi") is not None


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"

"""A study in which a run is done, one failed, one is in training and one has not begun."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from safetensors.numpy import save
from tests.analysis.synthetic import Run, StoreBuilder

from maple.records import CurveRow

BASE, TUNED = Run(method="none", rank=None), Run(rank=8)
FAILED, RUNNING = Run(rank=4, status="failed"), Run(rank=16, status="unfinished")
MISSING = Run(rank=64, status="missing")
HITS = np.array([1.0] * 14 + [0.0] * 6)


def train_to(builder: StoreBuilder, run: Run, steps: int) -> None:
    """Puts a checkpoint where training would, with the curve so far."""
    rows = [
        asdict(CurveRow(step=n, loss=3.0 / n, learning_rate=0.1, grad_norm=1.0, tokens=10,
                        label_tokens=5, step_seconds=0.5, tokens_per_second=20.0,
                        peak_memory_bytes=1, validation_loss=2.0 if n == 2 else None,
                        validation_losses={"swh_Latn": 2.5} if n == 2 else None))
        for n in range(1, steps + 1)
    ]  # fmt: skip
    folder = builder.directory / "runs" / run.id / "checkpoint"
    folder.mkdir(exist_ok=True)
    header = {"maple": json.dumps({"step": steps, "curve": rows})}
    (folder / "state.safetensors").write_bytes(save({"x": np.zeros(3)}, header))

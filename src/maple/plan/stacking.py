"""Whether runs share a pass or take turns: what was measured on this machine, and kept.

Stacked, one product with the frozen base serves all runs; but matrices that fill the machine
already gain nothing by being taller. Which it is depends on the machine, the base, its bits and
the batch, so ``run`` measures it on the first step of the runs themselves and keeps the figure.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maple.catalog import load_method
from maple.errors import StoreError
from maple.files import environment
from maple.files.write import write_text
from maple.plan.estimate import shape_from_config
from maple.study import ModelRef, RunSpec, content_id

LEAST_GAIN = 1.05
"""Runs are stacked where they finish at least this much sooner than in turn."""

MOST_RUNS = 8
"""Runs that share a pass at most: their activations are in memory together."""


def groups_to_stack(runs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Runs of one base and quantization that may share a pass: methods that can, batches alike.

    Runs that compute activations again for their backward pass are left out: their dropout would
    be drawn again from where the other runs have moved it.
    """
    alike: dict[tuple[int, int], list[RunSpec]] = {}
    for run in runs:
        training = run.training
        if training is None or training.gradient_checkpointing is True:
            continue
        if load_method(run.method.name, run.method.parameters).shares_passes:
            alike.setdefault((training.batch_size, training.max_length), []).append(run)
    return [
        group[start : start + MOST_RUNS]
        for group in alike.values()
        for start in range(0, len(group), MOST_RUNS)
        if len(group[start : start + MOST_RUNS]) > 1
    ]


def notes_on_stacking(
    runs: Sequence[RunSpec], config_of: Callable[[ModelRef], Mapping[str, Any] | None]
) -> Iterator[str]:
    """Yields for each group that may share a pass what was measured of it on this machine.

    Args:
        runs: of a whole study.
        config_of: a base's config.json where it is at hand.
    """
    places = dict.fromkeys((run.model, run.quantization) for run in runs)
    for model, quantization in places:
        own = [r for r in runs if (r.model, r.quantization) == (model, quantization)]
        config = config_of(model)
        for group in groups_to_stack(own):
            gain = read_gain(stack_key(group, config)) if config else None
            yield f"{model.name} · {quantization}: {len(group)} runs {_chosen(gain)}"


def _chosen(gain: float | None) -> str:
    if gain is None:
        return "may share passes; the first `maple run --workers 1` measures whether that is faster"
    how = "share passes" if gain >= LEAST_GAIN else "train in turn"
    return f"{how} in one process: stacked is {gain:.2f}x as fast here"


def stack_key(runs: Sequence[RunSpec], config: Mapping[str, Any]) -> str:
    """Names a measurement: machine, base shape, bits, how many runs, and their batches.

    Args:
        runs: what would share a pass; of one base and quantization.
        config: the base's config.json.
    """
    shape = shape_from_config(config)
    training = sorted(
        (t.batch_size, t.max_length, t.micro_batch_tokens)
        for t in (run.training for run in runs)
        if t is not None
    )
    return content_id(
        {
            "machine": _machine(),
            "shape": asdict(shape) if shape else None,
            "quantization": runs[0].quantization,
            "training": [list(t) for t in training],
        }
    )


def read_gain(key: str) -> float | None:
    """How much sooner stacked runs finished than in turn; None where it was not measured."""
    found = _read().get(key)
    return float(found) if isinstance(found, int | float) else None


def keep_gain(key: str, gain: float) -> None:
    """Keeps a measurement for later runs and plans; a folder that cannot be written is no harm."""
    text = json.dumps(_read() | {key: round(gain, 3)}, indent=1) + "\n"
    with contextlib.suppress(StoreError):
        write_text(_path(), text, advice="It is measured again next time.")


def _read() -> dict[str, Any]:
    try:
        content = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _path() -> Path:
    return environment.home() / "maple" / "stacking.json"


def _machine() -> str:
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        pass
    return f"{model} x {os.cpu_count()} · {os.environ.get('MAPLE_DEVICE', '')}"

"""What a run cost: parameters, bytes, seconds and memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from maple.store.read import StoredEvaluation, StoredRun


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one run; None where the store does not say, as for the untouched base."""

    run_id: str
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    adapter_bytes: int | None = None
    steps: int | None = None
    tokens: int | None = None
    final_loss: float | None = None
    train_seconds: float | None = None
    tokens_per_second: float | None = None
    """Training tokens over training seconds."""
    peak_memory_bytes: int | None = None
    evaluate_seconds: float | None
    """Summed over the run's finished evaluations."""
    label_tokens: int | None = None
    stored_parameters: int | None = None
    flops: float | None = None
    flops_per_second: float | None = None
    peak_flops_per_second: float | None = None
    utilization: float | None = None
    """Operations of training a second, over the machine's measured peak."""
    energy_joules: float | None = None
    """Of the device while it trained; None where nothing counts it."""


_TAKEN_DOWN = tuple(
    f.name
    for f in fields(Cost)
    if f.name not in ("run_id", "evaluate_seconds", "tokens_per_second")
)


def run_costs(runs: Iterable[StoredRun], evaluations: Iterable[StoredEvaluation]) -> list[Cost]:
    """Returns the cost of every run, in the order given."""
    seconds: dict[str, float] = {}
    for evaluation in evaluations:
        if evaluation.seconds is not None:
            spent = seconds.get(evaluation.run_id, 0.0)
            seconds[evaluation.run_id] = spent + evaluation.seconds
    return [_cost(run, seconds.get(run.run_id)) for run in runs]


def _cost(run: StoredRun, evaluate_seconds: float | None) -> Cost:
    if run.train is None:
        return Cost(run_id=run.run_id, evaluate_seconds=evaluate_seconds)
    known = {name: _known(getattr(run.train, name)) for name in _TAKEN_DOWN}
    seconds, tokens = known["train_seconds"], known["tokens"]
    return Cost(
        run_id=run.run_id,
        evaluate_seconds=evaluate_seconds,
        **known,
        tokens_per_second=tokens / seconds if tokens and seconds else None,
    )


def _known(value: float | None) -> Any:
    """A cost, or None: 0 and NaN stand for what a store did not take down."""
    return None if not value or math.isnan(value) else value

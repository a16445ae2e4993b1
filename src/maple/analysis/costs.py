"""What a run cost: parameters, bytes, seconds and memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from maple.store.read import StoredEvaluation, StoredRun


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one run; None where nothing is stored, as for the untouched base."""

    run_id: str
    trainable_parameters: int | None
    total_parameters: int | None
    adapter_bytes: int | None
    steps: int | None
    tokens: int | None
    final_loss: float | None
    train_seconds: float | None
    tokens_per_second: float | None
    """Training tokens over training seconds."""
    peak_memory_bytes: int | None
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


def run_costs(runs: Iterable[StoredRun], evaluations: Iterable[StoredEvaluation]) -> list[Cost]:
    """Returns the cost of every run, in the order given."""
    seconds: dict[str, float] = {}
    for evaluation in evaluations:
        if evaluation.seconds is not None:
            spent = seconds.get(evaluation.run_id, 0.0)
            seconds[evaluation.run_id] = spent + evaluation.seconds
    return [_cost(run, seconds.get(run.run_id)) for run in runs]


def _cost(run: StoredRun, evaluate_seconds: float | None) -> Cost:
    train = run.train
    return Cost(
        run_id=run.run_id,
        trainable_parameters=train.trainable_parameters if train else None,
        total_parameters=train.total_parameters if train else None,
        adapter_bytes=train.adapter_bytes if train else None,
        steps=train.steps if train else None,
        tokens=train.tokens if train else None,
        final_loss=train.final_loss if train else None,
        train_seconds=train.train_seconds if train else None,
        tokens_per_second=(
            train.tokens / train.train_seconds if train and train.train_seconds > 0 else None
        ),
        peak_memory_bytes=train.peak_memory_bytes if train else None,
        evaluate_seconds=evaluate_seconds,
        label_tokens=train.label_tokens if train else None,
        stored_parameters=train.stored_parameters if train else None,
        flops=train.flops if train else None,
        flops_per_second=train.flops_per_second if train else None,
        peak_flops_per_second=train.peak_flops_per_second if train else None,
        utilization=train.utilization if train else None,
        energy_joules=train.energy_joules if train else None,
    )

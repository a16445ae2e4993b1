"""The training loop: one for every method, every quantization, one run or several in one pass.

    for each step:  examples -> packed rows -> logits at label positions -> mean cross-entropy
                    -> clip -> optimiser -> the method's hook -> held-out loss when due
                    -> curve row -> checkpoint when due
    at the end:     the parameters to be saved: the last, the best, or a mean

The loss of a step is the sum over its label tokens divided by their number, whatever the rows
and micro-batches were: packing, accumulation and company change the layout and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from maple.base import LoadedBase, count_parameters, let_autocast_choose
from maple.catalog.contracts import Method
from maple.data import MicroBatch
from maple.records import CurveRow
from maple.study import TrainingSettings
from maple.train.activations import Activations, training_mode
from maple.train.checkpoint import CheckpointStore
from maple.train.passes import Passes, passes
from maple.train.trainee import Schedule, Trainee, TrainResult
from maple.train.validation import held_out_losses

if TYPE_CHECKING:
    from torch import nn

    from maple.base.fused import Updates


def train_run(
    model: nn.Module,
    base: LoadedBase,
    method: Method,
    schedule: Schedule,
    *,
    settings: TrainingSettings,
    checkpoints: CheckpointStore | None = None,
    on_step: Callable[[CurveRow, int], None] | None = None,
    activations: Activations | None = None,
) -> TrainResult:
    """Trains an attached adapter to its end, from its checkpoint where there is one.

    Args:
        model: the base with the adapter attached; left in evaluation mode, with the parameters
            that are to be saved.
        base: what the adapter stands on: device and compute dtype.
        method: parameter groups and hooks.
        schedule: how many steps there are, and the forward passes of each.
        settings: optimiser, learning rate and its schedule, clipping, validation.
        checkpoints: where the state goes; None keeps none.
        on_step: called with each finished step's row and the number of steps.
        activations: what becomes of them; None: as the settings say, ``auto`` keeping them.

    Raises:
        TrainingError: nothing is trainable, the optimiser does not run here, or a loss or
            gradient is not finite.
        DataError: held-out examples have no response token.
    """
    from maple.base.fused import peft_updates

    run = Trainee(
        model,
        base,
        method,
        schedule,
        settings=settings,
        sizes=count_parameters(model),
        checkpoints=checkpoints,
        on_step=on_step,
    )
    if activations is None:
        activations = "recompute" if settings.gradient_checkpointing is True else "keep"
    (result,) = train_together(model, base, [(run, peft_updates(model))], activations=activations)
    return result


def train_together(
    model: nn.Module,
    base: LoadedBase,
    runs: Sequence[tuple[Trainee, Updates]],
    *,
    activations: Activations = "keep",
) -> list[TrainResult]:
    """Trains runs in shared forward passes, each to its own end.

    Args:
        model: one run's model with its method's modules on it, or for several the base alone.
        base: its device and compute dtype.
        runs: each with its low-rank updates; what a method adds besides them is in ``model``.
        activations: what becomes of them until the backward pass.

    Returns:
        One result per run, in order.

    Raises:
        TrainingError: a loss or gradient is not finite.
    """
    trainees = [run for run, _ in runs]
    updates, generators = [u for _, u in runs], [run.generator for run in trainees]
    let_autocast_choose(model, base)
    with (
        training_mode(model, activations),
        passes(model, base, updates, generators) as forward,
    ):
        while not all(run.is_finished for run in trainees):
            _step(trainees, forward, base)
    return [run.finish() for run in trainees]


def _step(runs: Sequence[Trainee], forward: Passes, base: LoadedBase) -> None:
    """One optimiser step of every run that is not finished."""
    import torch

    began = time.monotonic()
    batches = [[] if run.is_finished else run.begin_step() for run in runs]
    labels = [sum(len(b.targets) for b in of_run) for of_run in batches]
    # float16 holds nothing below 6e-8: the gradient of a sum there, divided when it is float32.
    scales = [n if base.dtype == torch.float16 else 1 for n in labels]
    sums = [0.0] * len(runs)
    for together in zip_longest(*batches):
        counts = [n / scale if n else 0 for n, scale in zip(labels, scales, strict=True)]
        total, losses, keywords = forward.losses(together, counts)
        for n, (run, batch) in enumerate(zip(runs, together, strict=True)):
            extra = run.extra_loss(keywords) if batch is not None else None
            if batch is not None and extra is not None:
                # It is a mean already: weighed by this batch's share of the step's labels.
                total = total + extra * (len(batch.targets) / counts[n])
                losses[n] += float(extra.detach()) * len(batch.targets)
            sums[n] += losses[n]
        total.backward()
    rows = {
        n: run.take_step(sums[n] / labels[n], batches[n], scale=scales[n])
        for n, run in enumerate(runs)
        if batches[n]
    }
    seconds = time.monotonic() - began
    tokens = sum(row.tokens for row in rows.values())
    for n, row in rows.items():
        # The time of a shared pass is each run's by its share of the tokens.
        own = seconds * row.tokens / tokens
        timed = replace(row, step_seconds=own, tokens_per_second=row.tokens / own)
        runs[n].end_step(timed, _held_out(n, runs, forward))


def _held_out(n: int, runs: Sequence[Trainee], forward: Passes) -> dict[str, float]:
    """The held-out losses of one run of a stack, where they are due."""
    if not runs[n].is_validated:
        return {}

    def loss_of(batch: MicroBatch) -> float:
        together = [batch if k == n else None for k in range(len(runs))]
        _, losses, _ = forward.losses(together, [1.0] * len(runs))
        return losses[n]

    return held_out_losses(forward.model, runs[n].held_out, loss_of)

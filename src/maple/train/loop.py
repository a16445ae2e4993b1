"""The training loop: one for every method, every quantization, every base.

    for each step:  examples -> packed rows -> logits at label positions -> mean cross-entropy
                    -> clip -> AdamW -> the method's hook -> curve row -> checkpoint when due

The loss of a step is the sum over its label tokens divided by their number, whatever the rows
and micro-batches were: packing and accumulation change the layout and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from maple.base import (
    LoadedBase,
    compute_context,
    count_parameters,
    label_logits,
    let_autocast_choose,
    peak_memory_bytes,
)
from maple.catalog.contracts import Method, TrainingHooks
from maple.data import MicroBatch
from maple.errors import TrainingError
from maple.records import CurveRow
from maple.study import TrainingSettings
from maple.train.checkpoint import CheckpointPace, CheckpointStore, pack_state, unpack_state

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class TrainResult:
    """What training left in memory: the curve, and sizes."""

    curve: list[CurveRow]
    trainable_parameters: int
    total_parameters: int


class Schedule(Protocol):
    """What the loop asks of the data: the steps of a run, and what each of them sees."""

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """The forward passes of optimiser step ``step``, counted from 1."""


def train_run(
    model: nn.Module,
    base: LoadedBase,
    method: Method,
    schedule: Schedule,
    *,
    settings: TrainingSettings,
    checkpoints: CheckpointStore | None = None,
    on_step: Callable[[CurveRow, int], None] | None = None,
) -> TrainResult:
    """Trains an attached adapter to its last step, from its checkpoint where there is one.

    Args:
        model: the base with the adapter attached; left trained, in evaluation mode.
        base: what the adapter stands on: device and compute dtype.
        method: parameter groups and hooks.
        schedule: how many steps there are, and the forward passes of each.
        settings: learning rate, its schedule, clipping.
        checkpoints: where the state goes; None keeps none.
        on_step: called with each finished step's row and the number of steps.

    Raises:
        TrainingError: nothing is trainable, or a loss or gradient is not finite.
    """
    optimizer = _optimizer(model, method, settings)
    total_steps = schedule.total_steps
    hooks = method.hooks(model, total_steps)
    done, curve = 0, list[CurveRow]()
    pace = CheckpointPace()
    stored = checkpoints.load() if checkpoints else None
    if stored is not None:
        done, curve = unpack_state(stored, model, optimizer, hooks)
    let_autocast_choose(model, base)
    _prepare(model, settings)
    for step in range(done + 1, total_steps + 1):
        began = time.monotonic()
        batches = schedule.micro_batches(step)
        factor = learning_rate_factor(settings, step, total_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        hooks.before_step(step)
        loss, norm = _step(model, base, optimizer, hooks, batches, settings.max_grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"step {step}: the loss is {loss} and the gradient norm {norm}. Lower "
                f"training.learning_rate (now {settings.learning_rate}) or use more bits."
            )
        hooks.after_step(step, optimizer)
        optimizer.zero_grad(set_to_none=True)
        rate = settings.learning_rate * factor
        row = _row(step, loss, rate, norm, batches, time.monotonic() - began, base)
        curve.append(row)
        if checkpoints and (pace.is_due() or step == total_steps):
            began = time.monotonic()
            checkpoints.save(pack_state(model, optimizer, hooks, step=step, curve=curve))
            pace.record(time.monotonic() - began)
        if on_step:
            on_step(row, total_steps)
    _restore(model, settings)
    return TrainResult(curve, *count_parameters(model))


def learning_rate_factor(settings: TrainingSettings, step: int, total_steps: int) -> float:
    """Share of the learning rate in force at optimiser step ``step`` (from 1).

    Linear warm-up from 0, then cosine or linear decay to 0, or constant. The first step of a
    warm-up has rate 0, as in transformers' schedules, which a test compares.

    Source: transformers.optimization.get_scheduler.
    """
    done, warmup = step - 1, settings.warmup_steps
    if done < warmup:
        return done / max(1, warmup)
    if settings.scheduler == "constant":
        return 1.0
    progress = (done - warmup) / max(1, total_steps - warmup)
    if settings.scheduler == "linear":
        return max(0.0, 1.0 - progress)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def _step(
    model: nn.Module,
    base: LoadedBase,
    optimizer: torch.optim.Optimizer,
    hooks: TrainingHooks,
    batches: list[MicroBatch],
    max_grad_norm: float,
) -> tuple[float, float]:
    """One optimiser step over its micro-batches; returns mean loss and gradient norm.

    Where either is not finite the optimiser is left alone, and the caller ends the run.
    """
    import torch

    n_labels = sum(len(b.targets) for b in batches)
    # float16 holds nothing below 6e-8: the gradient of a sum there, divided when it is float32.
    scale = n_labels if base.dtype == torch.float16 else 1
    total = 0.0
    for batch in batches:
        loss = micro_batch_loss(model, base, hooks, batch) / n_labels
        (loss * scale).backward()
        total += float(loss.detach())
    trained = [p for g in optimizer.param_groups for p in g["params"]]
    for parameter in trained:
        if scale != 1 and parameter.grad is not None:
            parameter.grad /= scale
    norm = float(torch.nn.utils.clip_grad_norm_(trained, max_grad_norm))
    if math.isfinite(total) and math.isfinite(norm):
        optimizer.step()
    return total, norm


def micro_batch_loss(
    model: nn.Module, base: LoadedBase, hooks: TrainingHooks, batch: MicroBatch
) -> torch.Tensor:
    """Sum of cross-entropies over the label tokens of one forward pass, in float32 nats."""
    import torch

    device = base.device
    inputs: Mapping[str, Any] = {"input_ids": batch.ids.to(device), "use_cache": False}
    with compute_context(base):
        logits = label_logits(
            model,
            positions=batch.positions.to(device),
            selected=batch.predicts.to(device),
            **inputs,
        )
    targets = batch.targets.to(device)
    loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
    extra = hooks.extra_loss(inputs)
    # The extra term is a mean already: weigh it by this batch's share of the step's labels.
    return loss if extra is None else loss + extra * len(targets)


def _row(
    step: int,
    loss: float,
    rate: float,
    norm: float,
    batches: list[MicroBatch],
    seconds: float,
    base: LoadedBase,
) -> CurveRow:
    tokens = sum(b.n_tokens for b in batches)
    return CurveRow(
        step=step,
        loss=loss,
        learning_rate=rate,
        grad_norm=norm,
        tokens=tokens,
        label_tokens=sum(len(b.targets) for b in batches),
        step_seconds=seconds,
        tokens_per_second=tokens / seconds,
        peak_memory_bytes=peak_memory_bytes(base.device),
    )


def _optimizer(
    model: nn.Module, method: Method, settings: TrainingSettings
) -> torch.optim.Optimizer:
    import torch

    groups = method.parameter_groups(model, settings.learning_rate)
    if not any(p.requires_grad for g in groups for p in g["params"]):
        raise TrainingError("the method left nothing to train: no parameter requires a gradient.")
    optimizer = torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _prepare(model: nn.Module, settings: TrainingSettings) -> None:
    model.train()
    if settings.gradient_checkpointing:
        _checkpointing(model, "enable")({"use_reentrant": False})


def _restore(model: nn.Module, settings: TrainingSettings) -> None:
    if settings.gradient_checkpointing:
        _checkpointing(model, "disable")()
    model.eval()


def _checkpointing(model: nn.Module, verb: str) -> Callable[..., None]:
    # transformers 5.2x calls it activation checkpointing and warns at the name before.
    name = f"activation_checkpointing_{verb}"
    found: Any = getattr(model, name, None) or getattr(model, f"gradient_checkpointing_{verb}")
    return found  # type: ignore[no-any-return]

"""One run in training: its parameters, optimiser, hooks and curve, step by step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from maple.base import LoadedBase, peak_memory_bytes
from maple.catalog.contracts import Method
from maple.data import MicroBatch
from maple.errors import TrainingError
from maple.records import CurveRow
from maple.study import TrainingSettings
from maple.train.checkpoint import CheckpointPace, CheckpointStore, pack_state, unpack_state
from maple.train.keep import Keeper
from maple.train.optimizers import make_optimizer
from maple.train.schedule import learning_rate_factor, set_learning_rate
from maple.train.validation import HeldOut, is_validated, with_validation

if TYPE_CHECKING:
    import torch
    from torch import nn


class Schedule(Protocol):
    """What the loop asks of the data: the steps of a run, and what each of them sees."""

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """The forward passes of optimiser step ``step``, counted from 1."""

    def validation_batches(self) -> Mapping[str, Sequence[MicroBatch]]:
        """The forward passes over the held-out examples of each language of the validation."""


@dataclass(frozen=True)
class TrainResult:
    """What training left in memory: the curve, sizes, and which parameters the model has now."""

    curve: list[CurveRow]
    trainable_parameters: int
    total_parameters: int
    stopped_early: bool = False
    """Whether the validation loss ended training before its last planned step."""
    kept_step: int | None = None
    """The step of lowest validation loss, where its parameters are kept; else None."""


class Trainee:
    """One run; the loop asks it for batches and tells it what they came to."""

    def __init__(
        self,
        model: nn.Module,
        base: LoadedBase,
        method: Method,
        schedule: Schedule,
        *,
        settings: TrainingSettings,
        sizes: tuple[int, int],
        checkpoints: CheckpointStore | None = None,
        on_step: Callable[[CurveRow, int], None] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Readies a run, from its checkpoint where there is one.

        Args:
            model: names and holds the parameters that this run trains.
            base: its device and compute dtype.
            method: parameter groups and hooks.
            schedule: how many steps there are, and the forward passes of each.
            settings: optimiser, learning rate and its schedule, clipping, validation.
            sizes: trainable and total parameters, base included.
            checkpoints: where the state goes; None keeps none.
            on_step: called with each finished step's row and the number of steps.
            generator: where the run's dropout draws from, in a pass it shares with others; None:
                torch's own.

        Raises:
            TrainingError: nothing is trainable, or the optimiser does not run here.
            DataError: held-out examples have no response token.
        """
        self.total_steps = schedule.total_steps
        groups = method.parameter_groups(model, settings.learning_rate)
        self._optimizer = make_optimizer(groups, settings, base.device)
        self._hooks = method.hooks(model, self.total_steps)
        self._keeper = Keeper(model, method, settings, total_steps=self.total_steps)
        self.held_out: HeldOut = schedule.validation_batches() if settings.validation else {}
        self._model, self._base, self._schedule = model, base, schedule
        self._settings, self._checkpoints, self._on_step = settings, checkpoints, on_step
        self._sizes = sizes
        self.generator = generator
        # AdamW keeps two numbers beside each parameter.
        self._pace = CheckpointPace(state_bytes=12 * sizes[0])
        self._done, self._curve = 0, list[CurveRow]()
        stored = checkpoints.load() if checkpoints else None
        if stored is not None:
            self._done, self._curve = unpack_state(
                stored, model, self._optimizer, self._hooks, self._keeper, generator=generator
            )

    @property
    def is_finished(self) -> bool:
        """Whether its last step is done, or its patience at an end."""
        return self._done >= self.total_steps or self._keeper.has_stopped

    def begin_step(self) -> list[MicroBatch]:
        """The forward passes of the next step, its learning rate set."""
        step = self._done + 1
        batches = self._schedule.micro_batches(step)
        factor = learning_rate_factor(self._settings, step, self.total_steps)
        set_learning_rate(self._optimizer, factor)
        self._hooks.before_step(step)
        return batches

    def extra_loss(self, keywords: Mapping[str, Any]) -> torch.Tensor | None:
        """What the method adds to the mean loss of a forward pass."""
        return self._hooks.extra_loss(keywords)

    def take_step(self, loss: float, batches: Sequence[MicroBatch], *, scale: float) -> CurveRow:
        """Clips, moves the parameters, lets the method act, and counts the step as done.

        Args:
            loss: mean over the step's label tokens.
            batches: the step's forward passes; their gradients are in the parameters.
            scale: what those gradients are divided by first.

        Returns:
            The step's row; its time is still to be told.

        Raises:
            TrainingError: the loss or the gradient is not finite; the parameters are left alone.
        """
        import torch

        step, settings = self._done + 1, self._settings
        trained = [p for g in self._optimizer.param_groups for p in g["params"]]
        for parameter in trained:
            if scale != 1 and parameter.grad is not None:
                parameter.grad /= scale
        norm = float(torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm))
        if not math.isfinite(loss) or not math.isfinite(norm):
            rate = f"Lower training.learning_rate (now {settings.learning_rate}) or use more bits."
            begun = "Nothing was trained yet: the base on these bits, or the method's beginning "
            begun += "on it, gives no number. Use more bits or another method."
            raise TrainingError(
                f"step {step}: the loss is {loss} and the gradient norm {norm}. "
                + (begun if step == 1 else rate)
            )
        self._optimizer.step()
        self._hooks.after_step(step, self._optimizer)
        self._optimizer.zero_grad(set_to_none=True)
        self._done = step
        return CurveRow(
            step=step,
            loss=loss,
            learning_rate=settings.learning_rate
            * learning_rate_factor(settings, step, self.total_steps),
            grad_norm=norm,
            tokens=sum(b.n_tokens for b in batches),
            label_tokens=sum(len(b.targets) for b in batches),
            step_seconds=0.0,
            tokens_per_second=0.0,
            peak_memory_bytes=peak_memory_bytes(self._base.device),
        )

    @property
    def is_validated(self) -> bool:
        """Whether the held-out loss is due after the last finished step."""
        return is_validated(self._settings, self._done, self.total_steps)

    def end_step(self, row: CurveRow, losses: Mapping[str, float]) -> None:
        """Keeps the step's row, the parameters worth keeping, and a checkpoint when due.

        Args:
            row: of the step that was taken, its time in it.
            losses: the held-out loss of each language; empty when it was not due.
        """
        row = with_validation(row, losses) if losses else row
        self._keeper.after_step(row)
        self._curve.append(row)
        # Alone, a finished run is stored at once; in company it waits for the others to finish.
        waits = self.is_finished and self.generator is not None
        if self._checkpoints and (self._pace.is_due() or waits):
            began = time.monotonic()
            self._checkpoints.save(self._state())
            self._pace.record(time.monotonic() - began)
        if self._on_step:
            self._on_step(row, self.total_steps)

    def _state(self) -> bytes:
        return pack_state(
            self._model,
            self._optimizer,
            self._hooks,
            step=self._done,
            curve=self._curve,
            keeper=self._keeper,
            generator=self.generator,
        )

    def finish(self) -> TrainResult:
        """Puts the parameters that are to be saved into the model, and sums the run up."""
        self._keeper.put_in()
        return TrainResult(
            self._curve,
            *self._sizes,
            stopped_early=len(self._curve) < self.total_steps,
            kept_step=self._keeper.kept_step,
        )

"""Which of a run's parameters are saved: the last, the best by validation, or a mean.

    step        1 . . . . 50 . . . 100 . . . 150      validation.every: 50
    validation             x        X         x       X is lowest: keep best saves step 100
    mean                                  [ last k ]  average_last: k

The mean is that of stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407) taken at
every one of the last steps, as LAWA does with its latest checkpoints (Kaddour 2022, arXiv
2209.14981); the running form is ``torch.optim.swa_utils``', which a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from maple.catalog.contracts import Method
from maple.errors import TrainingError
from maple.records import CurveRow
from maple.study import TrainingSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


class Keeper:
    """Watches a run step by step, and puts what is to be saved into the model at its end."""

    def __init__(
        self, model: nn.Module, method: Method, settings: TrainingSettings, *, total_steps: int
    ) -> None:
        """Looks at what the settings ask for; copies nothing yet.

        Raises:
            TrainingError: the method's parameters before its last step are no adapter of its, or
                a mean is asked for over more steps than there are.
        """
        _check(method, settings, total_steps)
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._held = settings.validation
        self._averages = settings.average_last is not None
        self._first_averaged = total_steps + 1 - (settings.average_last or 0)
        self._best_loss = math.inf
        self._unimproved = 0
        self._best_step: int | None = None
        self.tensors: dict[str, torch.Tensor] = {}
        """By parameter: the best so far on the host, or the mean so far in float32."""

    @property
    def has_stopped(self) -> bool:
        """Whether validation has not improved for as long as the run's patience."""
        patience = self._held.patience if self._held else None
        return patience is not None and self._unimproved >= patience

    @property
    def kept_step(self) -> int | None:
        """The step whose parameters are saved for their loss; None: the last one's, or a mean."""
        return self._best_step if self._held and self._held.keep == "best" else None

    def after_step(self, row: CurveRow) -> None:
        """Takes a finished step in: the parameters are those after it.

        Raises:
            TrainingError: the validation loss is not finite.
        """
        if self._is_best(row) and self.kept_step is not None:
            self.tensors = {n: p.detach().to("cpu", copy=True) for n, p in self._parameters.items()}
        if self._averages and row.step >= self._first_averaged:
            self._average(row.step - self._first_averaged + 1)

    def resume(self, curve: Sequence[CurveRow], tensors: Mapping[str, torch.Tensor]) -> None:
        """Goes on from a killed run's curve and tensors."""
        for row in curve:
            self._is_best(row)
        self.tensors = {
            n: t.to(self._parameters[n].device) if self._averages else t for n, t in tensors.items()
        }

    def put_in(self) -> None:
        """Gives the model the parameters that are to be saved."""
        import torch

        with torch.no_grad():
            for name, tensor in self.tensors.items():
                self._parameters[name].copy_(tensor)

    def _is_best(self, row: CurveRow) -> bool:
        """Whether a step has the lowest validation loss so far; an equal one is not lower."""
        loss = row.validation_loss
        if loss is None:
            return False
        if not math.isfinite(loss):
            raise TrainingError(
                f"step {row.step}: the validation loss is {loss}. Lower training.learning_rate or "
                "use more bits."
            )
        is_lower = loss < self._best_loss
        self._unimproved = 0 if is_lower else self._unimproved + 1
        if is_lower:
            self._best_loss, self._best_step = loss, row.step
        return is_lower

    def _average(self, count: int) -> None:
        for name, parameter in self._parameters.items():
            found = parameter.detach().float()
            if count == 1:
                self.tensors[name] = found.clone()
            else:
                self.tensors[name] += (found - self.tensors[name]) / count


def _check(method: Method, settings: TrainingSettings, total_steps: int) -> None:
    key = settings.earlier_parameters
    if key is not None and method.last_step_only is not None:
        raise TrainingError(
            f"training.{key} may save other parameters than the last step's, and "
            f"{method.last_step_only}. Leave it out for this method."
        )
    if settings.average_last is not None and settings.average_last > total_steps:
        raise TrainingError(
            f"training.average_last is {settings.average_last}, and the run has {total_steps} "
            "steps. Lower it, or train longer."
        )

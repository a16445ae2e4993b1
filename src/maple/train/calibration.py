"""Training rows for methods that look at the data before they begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from maple.base import LoadedBase
from maple.train.trainee import Schedule

if TYPE_CHECKING:
    import torch


def calibration_rows(schedule: Schedule, base: LoadedBase) -> Iterator[Mapping[str, torch.Tensor]]:
    """One packed row of every forward pass of the run, in order, as arguments of the model's call.

    The first row of a pass is its widest: it holds no padding, so every token of it counts.
    """
    for step in range(1, schedule.total_steps + 1):
        for batch in schedule.micro_batches(step):
            yield {
                "input_ids": batch.ids[:1].to(base.device),
                "position_ids": batch.positions[:1].to(base.device),
            }

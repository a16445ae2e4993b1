"""The share of the learning rate in force at each step: warm-up, then one of four shapes.

    rate
     1 |    ___________            wsd: constant, then 1 - sqrt(progress) over the last share
       |   /           \\
     0 |__/             \\__        step
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from maple.study import TrainingSettings

if TYPE_CHECKING:
    import torch


def learning_rate_factor(settings: TrainingSettings, step: int, total_steps: int) -> float:
    """Share of the learning rate in force at optimiser step ``step`` (from 1).

    Linear warm-up from 0, then constant, or a linear, cosine or late (wsd) decay to 0. The first
    step of a warm-up has rate 0, as in transformers' schedules, which a test compares.

    Source: transformers.optimization.get_scheduler; of wsd's shape and share: Hägele et al. 2024
        (arXiv 2405.18392), who decay by 1 - sqrt over the last fifth.
    """
    done, warmup = step - 1, settings.warmup_steps
    if done < warmup:
        return done / max(1, warmup)
    if settings.scheduler == "constant":
        return 1.0
    if settings.scheduler == "wsd":
        decay = max(1, round(settings.decay_share * total_steps))
        return 1.0 - math.sqrt(max(0, done - (total_steps - decay)) / decay)
    progress = (done - warmup) / max(1, total_steps - warmup)
    if settings.scheduler == "linear":
        return max(0.0, 1.0 - progress)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Gives every group that share of the rate it began with."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

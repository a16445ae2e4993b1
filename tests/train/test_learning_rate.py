"""The learning rate of every step equals transformers' own schedule."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from tests.tiny_models import settings
from transformers import get_scheduler

from maple.study.spec import Scheduler
from maple.train.loop import learning_rate_factor


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
@pytest.mark.parametrize(
    ("warmup", "total"), [(0, 1), (0, 30), (5, 30), (1, 2), (30, 30), (40, 30)]
)
def test_learning_rate_equals_transformers(scheduler: Scheduler, warmup: int, total: int) -> None:
    wanted = settings(scheduler=scheduler, warmup_steps=warmup)
    theirs = get_scheduler(
        "constant_with_warmup" if scheduler == "constant" else scheduler,
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0),
        num_warmup_steps=warmup,
        num_training_steps=total,
    )
    for step in range(1, total + 1):
        expected = theirs.get_last_lr()[0]
        assert learning_rate_factor(wanted, step, total) == pytest.approx(expected, abs=1e-12)
        theirs.optimizer.step()
        theirs.step()


def test_the_first_step_of_a_warm_up_has_rate_zero() -> None:
    assert learning_rate_factor(settings(warmup_steps=3), 1, 9) == 0.0

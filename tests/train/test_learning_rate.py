"""The learning rate of every step equals transformers' own schedule."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from tests.tiny_models import settings
from transformers import get_scheduler

from maple.study.spec import Scheduler
from maple.train.schedule import learning_rate_factor

THEIRS = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
@pytest.mark.parametrize(
    ("warmup", "total"), [(0, 1), (0, 30), (5, 30), (1, 2), (30, 30), (40, 30)]
)
def test_learning_rate_equals_transformers(scheduler: Scheduler, warmup: int, total: int) -> None:
    wanted = settings(scheduler=scheduler, warmup_steps=warmup)
    decay = {"num_decay_steps": max(1, round(0.2 * total)), "decay_type": "1-sqrt"}
    theirs = get_scheduler(
        THEIRS.get(scheduler, scheduler),
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0),
        num_warmup_steps=warmup,
        num_training_steps=total,
        scheduler_specific_kwargs=decay if scheduler == "wsd" else None,
    )
    for step in range(1, total + 1):
        expected = theirs.get_last_lr()[0]
        assert learning_rate_factor(wanted, step, total) == pytest.approx(expected, abs=1e-12)
        theirs.optimizer.step()
        theirs.step()


def test_the_first_step_of_a_warm_up_has_rate_zero() -> None:
    assert learning_rate_factor(settings(warmup_steps=3), 1, 9) == 0.0


def test_wsd_holds_its_rate_until_the_last_share_of_the_steps() -> None:
    wanted = settings(scheduler="wsd", decay_share=0.25, warmup_steps=2)
    rates = [learning_rate_factor(wanted, step, 20) for step in range(1, 21)]
    assert rates[:2] == [0.0, 0.5]
    assert rates[2:16] == [1.0] * 14
    assert rates[16:] == pytest.approx([1 - (n / 5) ** 0.5 for n in range(1, 5)])

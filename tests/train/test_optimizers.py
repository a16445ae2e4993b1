"""Each optimiser of a study moves the parameters as its own library's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from bitsandbytes.optim import AdamW8bit, PagedAdamW
from tests.tiny_models import settings, train_on
from transformers.optimization import Adafactor, get_scheduler

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.errors import TrainingError
from maple.study import TrainingSettings
from maple.study.spec import Optimizer
from maple.train.optimizers import make_optimizer

Bases = Callable[..., LoadedBase]

# 64 x 64: bitsandbytes leaves what has fewer than 4,096 numbers in 32 bits.
LORA_PLUS = {"rank": 64, "dropout": 0.0, "targets": ("q_proj", "v_proj"), "ratio": 4.0}
CHANGES: dict[str, dict[str, Any]] = {
    "adamw": {"adam_betas": (0.8, 0.95), "adam_eps": 1e-6},
    "adamw-8bit": {"adam_betas": (0.8, 0.95), "adam_eps": 1e-6},
    "adafactor": {},
    "sgd": {"momentum": 0.7},
}
ADAM: dict[str, Any] = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
LIBRARIES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, fused=True, **ADAM),
    "adamw-8bit": lambda groups: AdamW8bit(groups, **ADAM),
    "adafactor": lambda groups: Adafactor(
        groups, lr=1e-2, scale_parameter=False, relative_step=False, weight_decay=0.1
    ),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.7, weight_decay=0.1),
}


def wanted(name: str) -> TrainingSettings:
    return settings(
        optimizer=name,
        max_steps=5,
        epochs=9,
        weight_decay=0.1,
        scheduler="linear",
        warmup_steps=2,
        **CHANGES[name],
    )


class Recorded(type(load_method("lora-plus"))):  # type: ignore[misc]
    """LoRA+ that remembers where it began, and the clipped gradients of every step."""

    def hooks(self, model: torch.nn.Module, total_steps: int) -> Any:
        hooks = super().hooks(model, total_steps)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        began.update({n: p.detach().clone() for n, p in trained.items()})
        gradients.clear()

        def after_step(step: int, optimizer: torch.optim.Optimizer) -> None:
            gradients.append({n: p.grad.clone() for n, p in trained.items() if p.grad is not None})

        hooks.after_step = after_step
        return hooks


began: dict[str, torch.Tensor] = {}
gradients: list[dict[str, torch.Tensor]] = []


def replayed(name: str) -> dict[str, torch.Tensor]:
    """The recorded gradients, followed by the library's optimiser and transformers' schedule."""
    parameters = {n: torch.nn.Parameter(p.clone()) for n, p in began.items()}
    slow, fast = ([p for n, p in parameters.items() if ("lora_B" in n) is b] for b in (False, True))
    optimizer = LIBRARIES[name]([{"params": slow, "lr": 1e-2}, {"params": fast, "lr": 4e-2}])
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=2, num_training_steps=5)
    for found in gradients:
        for n, parameter in parameters.items():
            parameter.grad = found[n].clone()
        optimizer.step()
        schedule.step()
    if name == "adamw-8bit":
        kept = {tuple(p.shape): optimizer.state[p]["state1"].dtype for p in (*slow, *fast)}
        assert kept == {(64, 64): torch.uint8, (32, 64): torch.float32}
    return {n: p.detach() for n, p in parameters.items()}


@pytest.mark.parametrize("name", CHANGES)
def test_five_steps_equal_the_librarys_own(fresh_base: Bases, name: str) -> None:
    model, _ = train_on(fresh_base(), Recorded(**LORA_PLUS), wanted(name))
    assert len(gradients) == 5
    expected = replayed(name)
    found = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)
    # The control: another library's step would be seen.
    other = replayed("sgd" if name != "sgd" else "adamw")
    assert not any(torch.equal(found[n], other[n]) for n in expected)


def test_the_paged_ones_need_a_gpu_and_say_so() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 0.1}]
    paged = [name for name in get_args(Optimizer) if name.startswith("paged")]
    assert {*paged, *CHANGES} == {*get_args(Optimizer)}
    for name in paged:
        with pytest.raises(TrainingError, match=rf"{name} .* GPU .* to adamw"):
            make_optimizer(groups, settings(optimizer=name), torch.device("cpu"))


def test_bitsandbytes_alone_would_train_without_pages_on_a_cpu() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    with pytest.warns(UserWarning, match="not supported on CPU"):
        PagedAdamW([parameter]).step()


def test_torchs_adafactor_would_hardly_move_what_begins_at_zero() -> None:
    # Why the catalog's is transformers': LoRA's B begins there.
    moved = []
    for make in (LIBRARIES["adafactor"], lambda p: torch.optim.Adafactor(p, lr=1e-2)):
        parameter = torch.nn.Parameter(torch.zeros(4, 4))
        parameter.grad = torch.ones(4, 4)
        make([parameter]).step()
        moved.append(parameter.abs().max().item())
    assert moved == pytest.approx([1e-2, 1e-5], rel=1e-3)

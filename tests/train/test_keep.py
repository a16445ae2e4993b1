"""What is saved: the last parameters, those of the lowest held-out loss, or a mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import settings, train_on

from maple.base import LoadedBase
from maple.catalog import entry_names, load_method
from maple.catalog.contracts import AttachContext, Method
from maple.errors import TrainingError
from maple.records import CurveRow
from maple.study import TrainingSettings
from maple.train.keep import Keeper

Bases = Callable[..., LoadedBase]
Weights = dict[str, torch.Tensor]

LORA = {"rank": 4, "alpha": 4, "dropout": 0.0, "targets": "all-linear"}
N_STEPS = 6


def lora() -> Method:
    return load_method("lora", LORA)


def wanted(**changes: Any) -> TrainingSettings:
    return settings(**({"max_steps": N_STEPS, "epochs": 9} | changes))


def validated(**changes: Any) -> TrainingSettings:
    """So high a rate that the lowest held-out loss is not the last."""
    held = {"languages": ["sw"], "examples": 2, "every": 1} | changes
    return wanted(validation=held, learning_rate=5.0)


def weights(model: torch.nn.Module) -> Weights:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def equal(some: Weights, others: Weights) -> bool:
    assert some.keys() == others.keys()
    return all(torch.equal(some[n], others[n]) for n in some)


class Recording(type(load_method("lora"))):  # type: ignore[misc]
    """LoRA that remembers the parameters after every step."""

    def hooks(self, model: torch.nn.Module, total_steps: int) -> Any:
        hooks = super().hooks(model, total_steps)
        seen.clear()
        hooks.after_step = lambda step, _: seen.append(weights(model))
        return hooks


seen: list[Weights] = []


# ---------------------------------------------------------------------------------- the mean


@pytest.mark.parametrize("last", [2, 4, N_STEPS])
def test_a_mean_is_torchs_own_over_the_last_steps(fresh_base: Bases, last: int) -> None:
    model, _ = train_on(fresh_base(), Recording(**LORA), wanted(average_last=last))
    assert len(seen) == N_STEPS
    theirs = None
    for after in seen[-last:]:
        module = torch.nn.ParameterDict({n.replace(".", "/"): p for n, p in after.items()})
        if theirs is None:
            theirs = torch.optim.swa_utils.AveragedModel(module)
        theirs.update_parameters(module)
    assert theirs is not None
    found = weights(model)
    for name, expected in theirs.module.items():
        # One float32 rounding a step.
        torch.testing.assert_close(
            found[name.replace("/", ".")], expected.detach(), rtol=1e-6, atol=1e-7
        )
    assert not equal(found, seen[-1])


def test_a_mean_changes_no_step(fresh_base: Bases) -> None:
    curves = []
    for average_last in (None, 3):
        _, result = train_on(fresh_base(), lora(), wanted(average_last=average_last))
        curves.append([row.loss for row in result.curve])
        assert (result.kept_step, result.stopped_early) == (None, False)
    assert curves[0] == curves[1]


@pytest.mark.parametrize("name", ["lora", "dora", "full", "houlsby", "prefix-tuning"])
def test_what_is_saved_is_the_mean(fresh_base: Bases, name: str, tmp_path: Path) -> None:
    method = load_method(name)
    base = fresh_base()
    model, _ = train_on(base, method, wanted(average_last=2, learning_rate=1e-3))
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "position_ids": torch.arange(4)[None]}
    with torch.no_grad():
        expected = model(**inputs).logits
    method.save(model, tmp_path)
    loaded = method.load(fresh_base().model, tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_mean_over_more_steps_than_there_are_is_refused(fresh_base: Bases) -> None:
    with pytest.raises(TrainingError, match=r"average_last is 7.*6 steps"):
        train_on(fresh_base(), lora(), wanted(max_steps=None, epochs=1.5, average_last=7))


# ------------------------------------------------------------------------------- the lowest


def test_the_parameters_of_the_lowest_held_out_loss_are_kept(fresh_base: Bases) -> None:
    model, result = train_on(fresh_base(), Recording(**LORA), validated())
    losses = [row.validation_loss or 0.0 for row in result.curve]
    best = losses.index(min(losses))
    assert best < N_STEPS - 1, "the rate is meant to spoil the end"
    assert result.kept_step == best + 1
    assert equal(weights(model), seen[best])
    assert not result.stopped_early


def test_keep_last_keeps_the_last(fresh_base: Bases) -> None:
    model, result = train_on(fresh_base(), Recording(**LORA), validated(keep="last"))
    assert result.kept_step is None
    assert equal(weights(model), seen[-1])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_training_ends_when_patience_does(fresh_base: Bases, keep: str) -> None:
    model, result = train_on(fresh_base(), Recording(**LORA), validated(patience=2, keep=keep))
    losses = [row.validation_loss or 0.0 for row in result.curve]
    best = losses.index(min(losses))
    assert result.stopped_early
    assert len(losses) == best + 1 + 2 < N_STEPS
    assert equal(weights(model), seen[best if keep == "best" else -1])


def row(step: int, loss: float | None) -> CurveRow:
    return CurveRow(
        step=step, loss=1.0, learning_rate=0.1, grad_norm=1.0, tokens=1, label_tokens=1,
        step_seconds=1.0, tokens_per_second=1.0, peak_memory_bytes=1, validation_loss=loss,
    )  # fmt: skip


def test_an_equal_loss_is_no_improvement_and_unmeasured_steps_do_not_count() -> None:
    keeper = Keeper(torch.nn.Linear(1, 1), lora(), validated(patience=2), total_steps=9)
    for step, loss in enumerate([3.0, None, 2.0, 2.0, None], start=1):
        keeper.after_step(row(step, loss))
        assert not keeper.has_stopped
    keeper.after_step(row(6, 2.5))
    assert keeper.has_stopped
    assert keeper.kept_step == 3


def test_a_held_out_loss_that_is_not_finite_ends_the_run() -> None:
    keeper = Keeper(torch.nn.Linear(1, 1), lora(), validated(), total_steps=9)
    with pytest.raises(TrainingError, match="step 2: the validation loss is nan"):
        keeper.after_step(row(2, float("nan")))


# --------------------------------------------------------------------------- who cannot


def test_only_a_method_whose_shapes_move_is_refused(fresh_base: Bases) -> None:
    refused = [n for n in entry_names("methods") if load_method(n).last_step_only is not None]
    assert refused == ["adalora"]
    for changes in ({"average_last": 2}, {"validation": {"languages": ["sw"], "examples": 1}}):
        with pytest.raises(TrainingError, match=r"adalora's ranks"):
            train_on(fresh_base(), load_method("adalora"), wanted(**changes))


def test_adalora_before_its_end_has_other_ranks(fresh_base: Bases, tmp_path: Path) -> None:
    # Why it is refused.
    method = load_method("adalora", {"rank": 2, "initial_rank": 4, "targets": ("q_proj",)})
    base = fresh_base()
    context = AttachContext(family=base.family, quantizer=base.quantizer, seed=0)
    model: Any = method.attach(base.model, context)
    method.hooks(model, 10)
    assert not model.peft_config["default"].rank_pattern
    trained, _ = train_on(fresh_base(), method, wanted(max_steps=10))
    kept = trained.peft_config["default"].rank_pattern
    assert sum(map(sum, kept.values())) == 2 * len(kept) < 4 * len(kept)

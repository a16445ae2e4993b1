"""Held-out losses are those of a plain forward, and measuring them changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
import torch
from tests.tiny_models import make_pools, settings, train_on

from maple.base import LoadedBase, compute_context
from maple.catalog import load_method
from maple.data import StepSchedule
from maple.errors import DataError
from maple.study import TrainingSettings

Bases = Callable[..., LoadedBase]

LORA = {"rank": 4, "alpha": 4, "dropout": 0.3, "targets": "all-linear"}
LANGUAGES = ["swh_Latn", "zho_Hans"]


def validated(steps: int = 4, **changes: Any) -> TrainingSettings:
    held = {"languages": LANGUAGES, "examples": 2, "every": 2, "keep": "last"}
    return settings(max_steps=steps, epochs=9, validation=held | changes)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("quantization", ["fp32", "bf16"])
def test_each_language_has_the_mean_loss_of_the_plain_forward_with_labels(
    fresh_base: Bases, quantization: str
) -> None:
    base, wanted = fresh_base("llama", quantization), validated()
    model, result = train_on(base, load_method("lora", LORA), wanted)
    schedule = StepSchedule(
        make_pools(), wanted, seed=0, tokenizer=base.tokenizer, family=base.family
    )
    assert [p.language for p in schedule.held_out] == LANGUAGES
    expected = {}
    for pool in schedule.held_out:
        total, count = 0.0, 0
        for row in pool.conversations:
            example = schedule._example(pool, row)
            ids = torch.tensor([example.ids])
            labels = ids.clone()
            labels[:, : example.label_start] = -100
            with torch.no_grad(), compute_context(base):
                loss = model(input_ids=ids, labels=labels).loss.item()
            total, count = total + loss * example.n_labels, count + example.n_labels
        expected[pool.language] = total / count
    last = result.curve[-1]
    # bfloat16's mantissa, in another layout of the rows.
    assert last.validation_losses == pytest.approx(
        expected, rel=1e-5 if quantization == "fp32" else 2e-2
    )
    assert last.validation_loss == fmean((last.validation_losses or {}).values())


def test_losses_are_measured_when_due_and_after_the_last_step(fresh_base: Bases) -> None:
    _, result = train_on(fresh_base(), load_method("lora", LORA), validated(5))
    measured = [row.step for row in result.curve if row.validation_loss is not None]
    assert measured == [2, 4, 5]
    assert all((row.validation_losses is None) == (row.step in (1, 3)) for row in result.curve)


@pytest.mark.parametrize("quantization", ["fp32", "int8"])
def test_measuring_changes_nothing_of_the_training(fresh_base: Bases, quantization: str) -> None:
    # With dropout: a validation that drew a random number would move every later one.
    found = []
    for every in (1, 50):
        base = fresh_base("llama", quantization)
        model, result = train_on(base, load_method("lora", LORA), validated(every=every))
        found.append(([r.loss for r in result.curve], weights(model)))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][n], found[1][1][n]) for n in found[0][1])


def test_held_out_examples_without_a_response_token_are_refused(fresh_base: Bases) -> None:
    base = fresh_base()
    wanted = validated().model_copy(update={"max_length": 40})
    pools = make_pools(("swh_Latn", "zho_Hans"), rows=8)
    schedule = StepSchedule(pools, wanted, seed=0, tokenizer=base.tokenizer, family=base.family)
    schedule.settings = wanted.model_copy(update={"max_length": 4})
    with pytest.raises(DataError, match=r"held-out examples of swh_Latn.*Raise"):
        schedule.validation_batches()

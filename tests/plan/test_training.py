"""What the plan says of training settings that cannot be, before anything is run."""

from __future__ import annotations

from typing import Any

import pytest

from maple.errors import StudyError
from maple.files import Files
from maple.plan import Plan, make_plan
from maple.study.file import StudySpec


def plan_of(**training: Any) -> Plan:
    content: dict[str, Any] = {
        "name": "s",
        "models": ["meta-llama/Llama-2-7b-hf"],
        "methods": ["none", "lora", "adalora"],
        "quantization": ["bf16"],
        "mixtures": {
            "one": {"bactrian-x": {"languages": ["sw", "th"]}},
            "two": {"bactrian-x": {"languages": ["sw", "vi"]}},
        },
        "training": training,
    }
    return make_plan(StudySpec.model_validate(content), Files())


def test_a_validation_in_a_language_of_every_mixture_is_planned() -> None:
    plan = plan_of(validation={"languages": "Swahili", "keep": "last"})
    assert len(plan.cells) == 1 + 2 * 2
    trained = [c.run.training for c in plan.cells if c.run.training]
    assert {t.validation.languages for t in trained if t.validation} == {("swh_Latn",)}


def test_a_validation_in_a_language_that_a_mixture_lacks_is_refused() -> None:
    with pytest.raises(StudyError, match=r"'two' has no examples in tha_Thai.*swh_Latn, vie_Latn"):
        plan_of(validation={"languages": ["th", "sw"]})


@pytest.mark.parametrize(
    "training",
    [
        {"average_last": 3},
        {"validation": {"languages": ["sw"]}},
        {"validation": {"languages": ["sw"], "keep": "last", "patience": 2}},
    ],
)
def test_a_method_that_only_ends_at_its_last_step_is_skipped_with_the_reason(
    training: dict[str, Any],
) -> None:
    plan = plan_of(**training)
    assert {c.run.method.name for c in plan.cells} == {"none", "lora"}
    (skip,) = plan.skipped
    assert "adalora" in skip.cell
    assert "ranks come down" in skip.reason


def test_memory_counts_what_the_optimiser_remembers() -> None:
    bytes_of = {}
    for changes in ({}, {"optimizer": "adamw-8bit"}, {"optimizer": "sgd"}, {"average_last": 2}):
        plan = plan_of(**changes)
        (cell, *_) = [c for c in plan.cells if c.run.method.name == "lora"]
        cost = plan.estimates[cell.run.id]
        bytes_of[str(changes)] = (cost.memory_bytes or 0, cost.trainable_parameters or 0)
    (adamw, n), *others = bytes_of.values()
    assert [memory - adamw for memory, _ in others] == [-6 * n, -4 * n, 4 * n]

"""A run is what changes its numbers: names and speed are not, seeds and rates are."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maple.study import (
    EvalSpec,
    MethodRef,
    Mixture,
    MixturePart,
    ModelRef,
    PromptSettings,
    RunSpec,
    TrainingSettings,
    canonical_json,
    content_id,
)
from maple.study.spec import number_of_steps


def run(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "model": ModelRef(name="org/base", revision="a" * 40),
        "method": MethodRef(name="lora", parameters={"rank": 8, "alpha": 16.0}),
        "quantization": "nf4",
        "mixture": mixture(),
        "training": TrainingSettings(),
    }
    return RunSpec(**(fields | changes))


def mixture(name: str = "generated", **changes: Any) -> Mixture:
    part = MixturePart(**({"dataset": "multialpaca", "languages": ("spa_Latn",)} | changes))
    return Mixture(name=name, parts=(part,))


def test_an_id_is_16_hexadecimal_digits_and_pinned() -> None:
    assert re.fullmatch("[0-9a-f]{16}", run().id)
    # A change of this id orphans every stored run: it must be meant.
    assert run().id == "772670bd2c35e83f"


@pytest.mark.parametrize(
    "same",
    [
        {"mixture": mixture("another name")},
        {"training": TrainingSettings(micro_batch_tokens=64)},
        {"training": TrainingSettings(gradient_checkpointing=True)},
        {"method": MethodRef(name="lora", parameters={"alpha": 16.0, "rank": 8})},
        {"mixture": mixture(weight=1)},
    ],
)
def test_names_order_and_speed_are_no_part_of_a_run(same: dict[str, Any]) -> None:
    assert run(**same).id == run().id


@pytest.mark.parametrize(
    "other",
    [
        {"model": ModelRef(name="org/base", revision="b" * 40)},
        {"model": ModelRef(name="org/base")},
        {"method": MethodRef(name="lora", parameters={"rank": 16, "alpha": 16.0})},
        {"method": MethodRef(name="dora", parameters={"rank": 8, "alpha": 16.0})},
        {"quantization": "bf16"},
        {"mixture": mixture(weight=0.5)},
        {"mixture": mixture(languages=("deu_Latn",))},
        {"mixture": mixture(revision="c" * 40)},
        {"mixture": mixture(options={"path": "x"})},
        {"training": TrainingSettings(learning_rate=1e-4)},
        {"training": TrainingSettings(epochs=1)},
        {"training": TrainingSettings(max_steps=3)},
        {"training": TrainingSettings(template="alpaca")},
        {"training": TrainingSettings(weight_decay=0.1)},
        {"seed": 1},
        {"loop_version": 0},
    ],
)
def test_what_changes_the_numbers_is_part_of_a_run(other: dict[str, Any]) -> None:
    assert run(**other).id != run().id


def test_a_local_model_is_its_bytes_wherever_it_lies() -> None:
    first, second = (
        run(model=ModelRef(name=name, revision="sha256:0123456789abcdef"))
        for name in ("models/base", "elsewhere/base")
    )
    assert first.id == second.id
    assert first.id != run(model=ModelRef(name="x", revision="sha256:fedcba9876543210")).id


def evaluation(**changes: Any) -> EvalSpec:
    fields: dict[str, Any] = {
        "run_id": "r",
        "adapter": "a",
        "task": "xnli",
        "task_version": 1,
        "language": "swh_Latn",
        "data": "d",
        "split": "test",
    }
    return EvalSpec(**(fields | changes))


@pytest.mark.parametrize(
    "other",
    [
        {"run_id": "s"},
        {"adapter": "b"},
        {"task": "xcopa"},
        {"task_version": 2},
        {"language": "tur_Latn"},
        {"data": "e"},
        {"split": "validation"},
        {"prompt": PromptSettings(form="lm-eval")},
        {"prompt": PromptSettings(template="alpaca")},
        {"prompt": PromptSettings(choices="cloze")},
    ],
)
def test_two_evaluations_never_share_an_id(other: dict[str, Any]) -> None:
    assert evaluation(**other).id != evaluation().id


def test_the_default_choices_are_not_written_so_that_older_evaluations_keep_their_id() -> None:
    assert evaluation().id == "3e6ec3807e539d66"
    lm_eval = PromptSettings(form="lm-eval", template="alpaca")
    assert evaluation(prompt=lm_eval).id == "5ab3d965283b7362"
    assert "choices" not in PromptSettings().model_dump(mode="json")
    cloze = PromptSettings(choices="cloze")
    assert cloze.model_dump(mode="json")["choices"] == "cloze"
    assert PromptSettings(**cloze.model_dump()) == cloze
    assert PromptSettings(**PromptSettings().model_dump()).choices == "letter"


def test_an_evaluation_names_what_it_is_of() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        evaluation(adapter="")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(content=st.dictionaries(st.text(), values, max_size=5))
def test_the_order_of_keys_never_matters(content: dict[str, Any]) -> None:
    turned = dict(reversed(content.items()))
    assert canonical_json(turned) == canonical_json(content)
    assert content_id(turned) == content_id(content)


def test_what_is_no_number_has_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"rate": float("nan")})


@pytest.mark.parametrize(
    ("settings", "examples", "steps"),
    [
        ({"epochs": 1, "batch_size": 4}, 8, 2),
        ({"epochs": 1, "batch_size": 4}, 9, 3),
        ({"epochs": 4, "batch_size": 4}, 9, 12),
        ({"epochs": 0.5, "batch_size": 4}, 9, 2),
        ({"epochs": 0.01, "batch_size": 4}, 9, 1),
        ({"epochs": 4, "batch_size": 4, "max_steps": 5}, 9, 5),
        ({"epochs": 1, "batch_size": 4, "max_steps": 5}, 9, 3),
    ],
)
def test_steps_are_epochs_over_batches_cut_at_the_most(
    settings: dict[str, Any], examples: int, steps: int
) -> None:
    assert number_of_steps(TrainingSettings(**settings), examples) == steps

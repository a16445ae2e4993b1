"""Training keys: what they default to, what they refuse, and what of them is identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from maple.errors import StudyError
from maple.study import TrainingSettings, canonical_json
from maple.study.file import load_study

DOCS = Path(__file__).parents[2] / "docs" / "training.md"

CHANGED: dict[str, Any] = {
    "optimizer": "sgd",
    "adam_betas": (0.9, 0.95),
    "adam_eps": 1e-6,
    "average_last": 4,
    "validation": {"languages": ["sw"]},
}


def refused(folder: Path, **training: Any) -> str:
    path = folder / "study.yaml"
    content = {"name": "s", "models": ["m"], "methods": ["none"], "training": training}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"{path}, line ")
    return str(caught.value)


def test_the_settings_of_the_first_release_are_written_as_they_were() -> None:
    # Later keys at their defaults say nothing, so older runs keep their identity.
    assert canonical_json(TrainingSettings().identity()) == (
        '{"batch_size":128,"epochs":4.0,"examples":null,"learning_rate":0.0003,"max_grad_norm":1.0,'
        '"max_length":768,"max_steps":null,"scheduler":"cosine","template":"bactrian-x",'
        '"warmup_steps":200,"weight_decay":0.0}'
    )


@pytest.mark.parametrize("key", CHANGED)
def test_a_key_that_is_not_at_its_default_is_written_and_read_again(key: str) -> None:
    changed = TrainingSettings(**{key: CHANGED[key]})
    assert key in changed.identity()
    assert changed.identity() != TrainingSettings().identity()
    assert TrainingSettings.model_validate(changed.model_dump(mode="json")) == changed


def test_momentum_and_decay_share_are_written_with_what_they_belong_to() -> None:
    assert TrainingSettings(optimizer="sgd", momentum=0.5).identity()["momentum"] == 0.5
    assert TrainingSettings(scheduler="wsd", decay_share=0.5).identity()["decay_share"] == 0.5


def test_names_and_order_of_validation_languages_are_no_part_of_a_run() -> None:
    first, second = (
        TrainingSettings(validation={"languages": names}).identity()
        for names in (["th", "Swahili", "sw"], ["swh_Latn", "tha_Thai"])
    )
    assert first == second


@pytest.mark.parametrize(
    "validation",
    ["xnli", "test", {"task": "xnli"}, {"languages": ["sw"], "split": "test"}, {"tasks": ["xnli"]}],
)
def test_choosing_by_a_benchmark_is_refused_as_a_leak(tmp_path: Path, validation: Any) -> None:
    message = refused(tmp_path, validation=validation)
    assert "training.validation" in message
    assert "benchmark's data, which is a leak" in message
    assert "Name languages" in message


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"validation": {}}, ["training.validation.languages", "missing"]),
        ({"validation": {"languages": []}}, ["training.validation.languages"]),
        ({"validation": {"languages": ["swahilli"]}}, ["no language 'swahilli'", "swahili"]),
        ({"validation": {"languages": 3}}, ["training.validation.languages", "3"]),
        ({"validation": {"languages": "sw", "evry": 3}}, ["Did you mean 'every'", "validation"]),
        ({"validation": {"languages": "sw", "every": 0}}, ["validation.every", "greater than 0"]),
        ({"validation": {"languages": "sw", "keep": "first"}}, ["'first'", "'best'"]),
        ({"optimizer": "adam"}, ["training.optimizer", "'adam'", "'adamw'"]),
        ({"momentum": 0.5}, ["momentum means nothing to adamw", "sgd"]),
        ({"optimizer": "sgd", "adam_eps": 1e-6}, ["adam_eps means nothing to sgd", "adamw-8bit"]),
        ({"decay_share": 0.5}, ["decay_share means nothing to cosine", "wsd"]),
        ({"adam_betas": [0.9, 1.0]}, ["training.adam_betas.1", "less than 1"]),
        ({"average_last": 1}, ["average_last", "greater than 1"]),
        ({"average_last": 5, "max_steps": 4}, ["average_last is 5", "max_steps", "4"]),
        (
            {"average_last": 5, "validation": {"languages": "sw"}},
            ["average_last", "keep: best", "keep: last"],
        ),
        (
            {"average_last": 5, "validation": {"languages": "sw", "keep": "last", "patience": 1}},
            ["average_last", "patience"],
        ),
    ],
)
def test_what_cannot_be_names_key_and_reason(
    tmp_path: Path, training: dict[str, Any], words: list[str]
) -> None:
    message = refused(tmp_path, **training)
    for word in words:
        assert word in message


def test_the_page_on_training_has_every_key() -> None:
    text = DOCS.read_text(encoding="utf-8")
    held = TrainingSettings.model_fields["validation"].annotation
    assert held is not None
    missing = [key for key in TrainingSettings.model_fields if f"| `{key}` |" not in text]
    assert missing == []
    for key in ("languages", "examples", "every", "patience", "keep"):
        assert f"| `validation.{key}` |" in text

"""The recipe of the base models: reproducible from a seed and a number of steps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maple.atlas.pretrain import RECIPES, STEPS_PER_MINUTE, Recipe, chosen_recipe, train_base
from maple.errors import UsageError

pytest.importorskip("transformers")

TINY = Recipe(steps=25, vocabulary=512, tokenizer_documents=300, step_tokens=512, probe_samples=0)


def losses(recipe: Recipe, out: Path) -> list[float]:
    rows: list[dict[str, Any]] = []
    train_base(recipe, out, rows.append)
    written = [json.loads(line) for line in (out / "curve.jsonl").read_text("utf-8").splitlines()]
    assert written == rows
    return [row["loss"] for row in rows if "loss" in row]


def test_same_seed_and_steps_give_the_same_weights(tmp_path: Path) -> None:
    curves = [losses(TINY, tmp_path / name) for name in ("a", "b")]
    assert curves[0] == curves[1] != []
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_another_seed_and_architecture_train_too(tmp_path: Path) -> None:
    other = replace(TINY, architecture="qwen3", seed=5)
    (loss,) = losses(other, tmp_path / "q")
    config = json.loads((tmp_path / "q" / "config.json").read_text("utf-8"))
    assert config["model_type"] == "qwen3"
    assert 0 < loss < 7


def test_minutes_mean_steps() -> None:
    recipe = chosen_recipe("atlas-qwen", minutes=2, seed=9)
    assert recipe.steps == 2 * STEPS_PER_MINUTE
    assert recipe.seed == 9
    assert recipe.vocabulary == RECIPES["atlas-qwen"].vocabulary
    assert chosen_recipe("atlas-base") == RECIPES["atlas-base"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "atlas-gpt"}, "atlas-base"),
        ({"name": "atlas-base", "minutes": 1, "steps": 2}, "not both"),
        ({"name": "atlas-base", "steps": 0}, "trains nothing"),
        ({"name": "atlas-base", "minutes": -1.0}, "trains nothing"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        chosen_recipe(**arguments)

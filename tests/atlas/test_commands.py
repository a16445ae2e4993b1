"""`maple atlas`: builds the world where asked, and trains by the recipe it is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from maple.atlas import world_version
from maple.atlas.pretrain import RECIPES, STEPS_PER_MINUTE, Recipe
from maple.cli import app


def atlas(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["atlas", *map(str, arguments)])


@pytest.mark.usefixtures("empty_world")
def test_build_says_where_the_world_is(tmp_path: Path) -> None:
    done = atlas("build", "--out", tmp_path / "w")
    assert done.exit_code == 0
    assert f"world version {world_version()}" in done.output
    assert (tmp_path / "w" / "ATLAS.json").is_file()


def test_build_refuses_a_directory_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = atlas("build", "--out", tmp_path)
    assert done.exit_code != 0
    assert "empty or a new directory" in str(done.exception)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_train_base_follows_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Recipe, Path]] = []

    def train(recipe: Recipe, out: Path, report: Any) -> None:
        asked.append((recipe, out))
        report({"step": 25, "loss": 5.0})

    monkeypatch.setattr("maple.atlas.pretrain.train_base", train)
    done = atlas("train-base", "--out", tmp_path / "b", "--minutes", 2)
    assert json.loads(done.output) == {"step": 25, "loss": 5.0}
    assert atlas("train-base", "--out", tmp_path / "q", "--name", "atlas-qwen").exit_code == 0
    (short, first), (whole, second) = asked
    assert (first.name, second.name) == ("b", "q")
    assert short.steps == 2 * STEPS_PER_MINUTE
    assert short.architecture == "llama"
    assert whole == RECIPES["atlas-qwen"]


def test_train_base_refuses_two_lengths(tmp_path: Path) -> None:
    done = atlas("train-base", "--out", tmp_path / "b", "--minutes", 2, "--steps", 5)
    assert "not both" in str(done.exception)
    assert not (tmp_path / "b").exists()

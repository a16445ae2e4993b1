"""The recipe of the base model: reproducible from a seed and a number of steps."""

import json
from pathlib import Path
from typing import Any

import pytest

from maple.atlas.pretrain import Recipe, train_base

pytest.importorskip("transformers")

TINY = Recipe(steps=2, vocabulary=512, tokenizer_documents=300, step_tokens=1024, probe_samples=0)


def losses(recipe: Recipe, out: Path) -> list[float]:
    rows: list[dict[str, Any]] = []
    train_base(recipe, out, rows.append)
    written = [json.loads(line) for line in (out / "curve.jsonl").read_text("utf-8").splitlines()]
    assert written == rows
    return [row["loss"] for row in rows if "loss" in row]


def test_same_seed_and_steps_give_the_same_weights(tmp_path: Path) -> None:
    curves = [losses(TINY, tmp_path / name) for name in ("a", "b")]
    assert curves[0] == curves[1]
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second

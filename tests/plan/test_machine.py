"""What a plan says, before anything runs, of bits that this machine or this base cannot have."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract.test_quantization import STORED

from maple.errors import SourceError
from maple.files import Files
from maple.plan import Plan, make_plan
from maple.plan.machine import has_gpu
from maple.study.file import StudySpec


def plan_of(model: str, quantization: list[str], **training: Any) -> Plan:
    content = {
        "name": "s",
        "models": [model],
        "methods": ["none", {"lora": {"rank": [8, 16]}}],
        "quantization": quantization,
        "mixtures": {"generated": {"multialpaca": 1.0}},
        "training": training,
        "evaluate": {"tasks": ["xnli"], "languages": ["sw"]},
    }
    return make_plan(StudySpec.model_validate(content), Files())


def notes(plan: Plan) -> list[str]:
    return [note for note in plan.notes if "does not run on this machine" in note]


@pytest.fixture
def lacks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``lacks("torchao")``: that package is not installed, and any other is."""
    find = importlib.util.find_spec

    def pretend(*absent: str) -> None:
        def found(name: str, package: str | None = None) -> Any:
            return None if name in absent else find("torch")

        monkeypatch.setattr(importlib.util, "find_spec", found)

    return pretend


def test_a_missing_library_is_named_with_its_runs_and_what_to_install(
    lacks: Callable[..., None],
) -> None:
    lacks("torchao")
    plan = plan_of("org/base", ["bf16", "torchao-int8"])
    (note,) = notes(plan)
    assert note.startswith("torchao-int8 (3 runs) does not run on this machine: torchao is not")
    assert "pip install" in note
    # Planned here, it may run elsewhere.
    assert len(plan.cells) == 6
    assert plan.skipped == ()


def test_what_needs_a_gpu_is_named_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, expected in (("cpu", 1), ("cuda", 0)):
        monkeypatch.setenv("MAPLE_DEVICE", device)
        found = notes(plan_of("org/base", ["nf4"], optimizer="paged-adamw"))
        assert len(found) == expected
        assert all(note.startswith("training.optimizer paged-adamw (2 runs)") for note in found)


def test_a_gpu_is_seen_where_torch_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("MAPLE_DEVICE", raising=False)
    assert has_gpu() or not torch.cuda.is_available()


def stored_base(tmp_path: Path, own: str | None) -> Path:
    config: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    if own is not None:
        config["quantization_config"] = STORED[own]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("own", STORED)
def test_a_base_that_is_quantized_already_is_skipped_in_other_bits(
    tmp_path: Path, own: str
) -> None:
    import torch

    from maple.base import load_base

    model = stored_base(tmp_path, own)
    plan = plan_of(str(model), ["bf16", "int8", "nf4", "gptq"])
    assert {cell.run.quantization for cell in plan.cells} == {own} & {"int8", "nf4", "gptq"}
    refused = {"bf16", "int8", "nf4", "gptq"} - {own}
    assert len(plan.skipped) == 3 * len(refused)
    for skip in plan.skipped:
        quantization = skip.cell.rsplit(" · ", 1)[1]
        assert f"stored as {own}: its weights cannot be had as {quantization}" in skip.reason
        # The run would have said the same.
        with pytest.raises(SourceError) as caught:
            load_base(str(model), quantization=quantization, device=torch.device("cpu"))
        assert skip.reason.removeprefix("the base ") in str(caught.value)


@pytest.mark.parametrize("quantization", ["gptq", "awq"])
def test_bits_that_take_quantized_checkpoints_are_skipped_on_plain_ones(
    tmp_path: Path, quantization: str
) -> None:
    plan = plan_of(str(stored_base(tmp_path, None)), [quantization, "bf16"])
    assert {cell.run.quantization for cell in plan.cells} == {"bf16"}
    assert len(plan.skipped) == 3
    assert all("holds plain weights" in skip.reason for skip in plan.skipped)


def test_a_base_whose_config_is_not_at_hand_is_planned() -> None:
    assert len(plan_of("org/base", ["gptq"]).cells) == 3

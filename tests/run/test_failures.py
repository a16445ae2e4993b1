"""A run that fails is stored as failed, the others go on, and the next call tries it again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.run.program import Program
from tests.run.tiny import (
    leftovers,
    small_study,
    stored_adapters,
    stored_curves,
    stored_rows,
    write_study,
)

from maple.store.read import open_store

ARGUMENTS = ("run", "study.yaml", "--data-dir", "data", "--out", "out")

FLAKY = '''
"""flaky: LoRA that fails as long as a file named ``broken`` lies where Maple runs."""

from pathlib import Path

from peft import LoraConfig, get_peft_model

from maple.catalog.contracts import Method


class Flaky(Method):
    """Fails on demand."""

    rank: int = 2

    def attach(self, model, context):
        if Path("broken").exists():
            raise RuntimeError("the machine is on fire")
        return get_peft_model(model, LoraConfig(r=self.rank, target_modules=["q_proj"]))
'''


MESSY = '''
"""messy: LoRA that fails half-way, with its layers on the base and moved away from zero."""

import torch
from peft import LoraConfig, get_peft_model

from maple.catalog.contracts import Method


class Messy(Method):
    """Fails half-way."""

    def attach(self, model, context):
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.ones_(parameter)
        raise RuntimeError("half-way")
'''


@pytest.fixture
def here(data: Path, tmp_path: Path) -> Path:
    shutil.copytree(data, tmp_path / "data")
    return tmp_path


def training(**changes: Any) -> dict[str, Any]:
    return {"max_steps": 4, "batch_size": 4, "max_length": 128, "warmup_steps": 0} | changes


def test_a_failed_run_is_stored_and_the_others_go_on(
    program: Program, here: Path, model: Path
) -> None:
    methods = [{"lora": {"rank": 2, "targets": [["nowhere"], ["q_proj"]]}}, "none"]
    write_study(here / "study.yaml", small_study(model, methods=methods))
    outcome = program(*ARGUMENTS, cwd=here)
    assert outcome.code == 1
    assert "nowhere" in outcome.complaint
    assert "q_proj" in outcome.complaint, "the modules there are, to choose from"
    runs = open_store(here / "out").runs()
    assert [run.status for run in runs] == ["failed", "done", "done"]
    assert runs[0].failure is not None
    assert runs[0].failure.error.startswith("TrainingError: lora found no module")
    assert "Traceback (most recent call last)" in runs[0].failure.traceback
    assert len(stored_rows(here / "out")) == 2 * 2
    status = program("status", "out", cwd=here)
    assert status.code == 0
    assert "nowhere" in status.out


def test_what_a_failed_method_left_on_the_base_is_not_there_for_the_next(
    program: Program, here: Path, model: Path
) -> None:
    (here / "catalog" / "methods").mkdir(parents=True)
    (here / "catalog" / "methods" / "messy.py").write_text(MESSY)
    environment = {"MAPLE_CATALOG": str(here / "catalog")}
    lora = {"lora": {"rank": 2}}
    write_study(here / "study.yaml", small_study(model, methods=[lora]))
    assert program(*ARGUMENTS[:-1], "alone", cwd=here).code == 0
    write_study(here / "study.yaml", small_study(model, methods=["messy", lora]))
    outcome = program(*ARGUMENTS, cwd=here, environment=environment)
    assert outcome.code == 1
    assert "half-way" in outcome.complaint
    assert stored_rows(here / "out") == stored_rows(here / "alone")
    assert stored_adapters(here / "out") == stored_adapters(here / "alone")


def test_a_run_killed_between_its_last_step_and_its_adapter_completes(
    program: Program, here: Path, model: Path
) -> None:
    write_study(here / "study.yaml", small_study(model, training=training(max_steps=1)))
    out = here / "out"
    job = program.start(*ARGUMENTS, cwd=here)
    job.kill_when(lambda: any(out.glob("runs/*/checkpoint/state.safetensors")))
    outcome = program(*ARGUMENTS, cwd=here)
    assert outcome.code == 0, outcome.err
    assert [run.status for run in open_store(out).runs()] == ["done"]


def test_a_failure_is_tried_again_and_forgotten_once_it_succeeds(
    program: Program, here: Path, model: Path
) -> None:
    (here / "catalog" / "methods").mkdir(parents=True)
    (here / "catalog" / "methods" / "flaky.py").write_text(FLAKY)
    environment = {"MAPLE_CATALOG": str(here / "catalog")}
    write_study(here / "study.yaml", small_study(model, methods=["none", "flaky"]))
    (here / "broken").touch()
    for _ in range(2):
        outcome = program(*ARGUMENTS, cwd=here, environment=environment)
        assert outcome.code == 1
        assert "on fire" in outcome.complaint
        assert [r.status for r in open_store(here / "out").runs()] == ["done", "failed"]
    (here / "broken").unlink()
    outcome = program(*ARGUMENTS, cwd=here, environment=environment)
    assert outcome.code == 0, outcome.err
    runs = open_store(here / "out").runs()
    assert [(r.status, r.failure) for r in runs] == [("done", None)] * 2


def test_a_non_finite_loss_stops_the_run_with_its_step(
    program: Program, here: Path, model: Path
) -> None:
    write_study(
        here / "study.yaml", small_study(model, training=training(learning_rate=1e30, max_steps=6))
    )
    outcome = program(*ARGUMENTS, cwd=here)
    assert outcome.code == 1
    assert "step " in outcome.complaint
    assert "learning_rate" in outcome.complaint
    assert stored_rows(here / "out") == []
    assert stored_curves(here / "out") == {}


def test_weights_that_are_no_numbers_after_the_last_step_are_not_scored(
    program: Program, here: Path, model: Path
) -> None:
    write_study(
        here / "study.yaml", small_study(model, training=training(learning_rate=1e38, max_steps=1))
    )
    outcome = program(*ARGUMENTS, cwd=here)
    assert outcome.code == 1
    assert stored_rows(here / "out") == []


@pytest.mark.parametrize(
    "changes",
    [{"max_steps": 1, "warmup_steps": 100}, {"learning_rate": 1e-30}],
    ids=["a warm-up that is never left", "a rate too small to move a weight"],
)
def test_an_adapter_that_does_nothing_fails_loudly(
    program: Program, here: Path, model: Path, changes: dict[str, Any]
) -> None:
    write_study(here / "study.yaml", small_study(model, training=training(**changes)))
    for _ in range(2):
        outcome = program(*ARGUMENTS, cwd=here)
        assert outcome.code == 1
        assert "does not change the base" in outcome.complaint
    (run,) = open_store(here / "out").runs()
    assert run.failure is not None
    assert run.failure.error.startswith("DeadAdapterError")
    assert stored_rows(here / "out") == []


def test_a_broken_checkpoint_is_named_and_once_deleted_the_run_completes(
    program: Program, here: Path, model: Path
) -> None:
    study = small_study(model, training=training(max_steps=30, learning_rate=1e-3))
    write_study(here / "study.yaml", study)
    assert program(*ARGUMENTS[:-1], "whole", cwd=here).code == 0
    out = here / "out"
    job = program.start(*ARGUMENTS, cwd=here)
    job.kill_when(lambda: any(out.glob("runs/*/checkpoint/state.safetensors")))
    (checkpoint,) = out.glob("runs/*/checkpoint/state.safetensors")
    content = checkpoint.read_bytes()
    for broken in (content[:-100], content[: len(content) // 4], b"", b"\0" * 100):
        checkpoint.write_bytes(broken)
        outcome = program(*ARGUMENTS, cwd=here)
        assert outcome.code == 1
        assert str(checkpoint.relative_to(here)) in outcome.complaint
        assert "Delete it" in outcome.complaint
    checkpoint.unlink()
    assert program(*ARGUMENTS, cwd=here).code == 0
    assert stored_curves(out) == stored_curves(here / "whole")
    assert stored_rows(out) == stored_rows(here / "whole")
    assert leftovers(out) == []


def test_a_study_of_two_bases_goes_on_when_one_does_not_load(
    program: Program, here: Path, model: Path
) -> None:
    broken = Path(shutil.copytree(model, here / "broken-base"))
    (broken / "model.safetensors").unlink()
    write_study(here / "study.yaml", small_study(broken, models=[str(broken), str(model)]))
    outcome = program(*ARGUMENTS, cwd=here)
    assert outcome.code == 1
    assert "broken-base" in outcome.complaint
    assert [r.status for r in open_store(here / "out").runs()] == ["failed", "done"]

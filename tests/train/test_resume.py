"""A run that is killed and continued equals one that was not: same curve, same bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.catalog.contracts import Method, TrainingHooks
from maple.errors import StoreError
from maple.records import CurveRow
from maple.study import TrainingSettings
from maple.train.checkpoint import CheckpointPace, pack_state, unpack_state

Bases = Callable[..., LoadedBase]

N_STEPS = 6
SETTINGS = settings(
    max_steps=N_STEPS, epochs=100, warmup_steps=2, scheduler="cosine", weight_decay=0.1
)
HELD_OUT = {"languages": ["sw", "th"], "examples": 1, "every": 1}
PARAMETERS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "alpha": 4, "dropout": 0.3},
    "full": {},
}
CLOCKS = {"step_seconds", "tokens_per_second", "peak_memory_bytes"}


pytestmark = pytest.mark.usefixtures("at_every_step")


@pytest.fixture
def at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps as short as these are seldom worth a checkpoint each."""
    monkeypatch.setattr("maple.train.checkpoint.WRITING_SHARE", 1e9)


class KilledError(Exception):
    pass


class Kept:
    """A checkpoint store in memory that keeps the last state."""

    def __init__(self) -> None:
        self.state: bytes | None = None

    def load(self) -> bytes | None:
        return self.state

    def save(self, state: bytes) -> None:
        self.state = state


def killed_after(step: int) -> Callable[[CurveRow, int], None]:
    def on_step(row: CurveRow, _: int) -> None:
        if row.step == step:
            raise KilledError

    return on_step


def numbers(curve: list[CurveRow]) -> list[dict[str, Any]]:
    """The curve without what a clock or a memory counter said."""
    return [{k: v for k, v in asdict(row).items() if k not in CLOCKS} for row in curve]


def saved(method: Method, model: torch.nn.Module, directory: Path) -> dict[str, bytes]:
    directory.mkdir()
    method.save(model, directory)
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix != ".md"}


@pytest.mark.parametrize("stop", [1, 3, 5, 6])
@pytest.mark.parametrize(
    ("name", "quantization"),
    [("lora", "fp32"), ("lora", "bf16"), ("lora", "nf4"), ("lora", "int8"), ("full", "fp32")],
)
def test_a_killed_run_continues_with_the_same_curve_and_adapter(
    fresh_base: Bases, name: str, quantization: str, stop: int, tmp_path: Path
) -> None:
    method = load_method(name, PARAMETERS[name])
    model, whole = train_on(fresh_base("llama", quantization), method, SETTINGS)
    expected = saved(method, model, tmp_path / "whole")
    kept = Kept()
    with pytest.raises(KilledError):
        train_on(
            fresh_base("llama", quantization),
            method,
            SETTINGS,
            checkpoints=kept,
            on_step=killed_after(stop),
        )
    assert kept.state is not None
    torch.manual_seed(4321)  # another process stands elsewhere in its random numbers
    model, rest = train_on(fresh_base("llama", quantization), method, SETTINGS, checkpoints=kept)
    assert numbers(rest.curve) == numbers(whole.curve)
    assert saved(method, model, tmp_path / "resumed") == expected


KEEPING: dict[str, dict[str, Any]] = {
    "8-bit": {"optimizer": "adamw-8bit"},
    "adafactor": {"optimizer": "adafactor"},
    "sgd": {"optimizer": "sgd"},
    "mean": {"average_last": 4},
    "best": {"learning_rate": 0.1, "validation": HELD_OUT | {"keep": "best"}},
    "stopped": {"learning_rate": 1.0, "validation": HELD_OUT | {"patience": 1}},
}


@pytest.mark.parametrize("case", KEEPING)
def test_every_optimiser_and_what_is_kept_continue_too(
    fresh_base: Bases, case: str, tmp_path: Path
) -> None:
    # Rank 64 of 64: smaller matrices would have 32-bit state under the 8-bit optimiser.
    method = load_method("lora", {"rank": 64, "dropout": 0.3, "targets": ("q_proj", "v_proj")})
    wanted = TrainingSettings.model_validate(SETTINGS.model_dump() | KEEPING[case])
    model, whole = train_on(fresh_base(), method, wanted)
    assert whole.stopped_early == (case == "stopped")
    expected, kept = saved(method, model, tmp_path / "whole"), Kept()
    on_step = killed_after(min(4, len(whole.curve)))
    with pytest.raises(KilledError):
        train_on(fresh_base(), method, wanted, checkpoints=kept, on_step=on_step)
    torch.manual_seed(4321)
    model, rest = train_on(fresh_base(), method, wanted, checkpoints=kept)
    assert numbers(rest.curve) == numbers(whole.curve)
    assert (rest.stopped_early, rest.kept_step) == (whole.stopped_early, whole.kept_step)
    assert saved(method, model, tmp_path / "resumed") == expected


class OnDisk:
    """A checkpoint store that another process can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, state: bytes) -> None:
        self.path.with_suffix(".new").write_bytes(state)
        self.path.with_suffix(".new").replace(self.path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_killed_by_the_system_continues_with_all_of_it(
    fresh_base: Bases, tmp_path: Path
) -> None:
    method = load_method("lora", {"rank": 64, "dropout": 0.3, "targets": ("q_proj", "v_proj")})
    changes = {"optimizer": "adamw-8bit", "validation": HELD_OUT | {"keep": "last"}}
    wanted = TrainingSettings.model_validate(SETTINGS.model_dump() | changes | {"average_last": 4})
    model, whole = train_on(fresh_base(), method, wanted)
    expected, disk = saved(method, model, tmp_path / "whole"), OnDisk(tmp_path / "state")
    base = fresh_base()

    def kill(row: CurveRow, _: int) -> None:
        if row.step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            train_on(base, method, wanted, checkpoints=disk, on_step=kill)
        finally:
            os._exit(1)  # only where the kill did not come
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert disk.path.exists()
    resumed: list[int] = []
    model, rest = train_on(
        base, method, wanted, checkpoints=disk, on_step=lambda row, _: resumed.append(row.step)
    )
    assert resumed[0] > 1
    assert resumed[-1] == N_STEPS
    assert numbers(rest.curve) == numbers(whole.curve)
    assert saved(method, model, tmp_path / "resumed") == expected


def test_dropout_makes_the_curve_depend_on_the_random_numbers(fresh_base: Bases) -> None:
    # The control: had the generators not been restored, the test above would fail.
    curves = []
    for dropout in (0.0, 0.3):
        method = load_method("lora", PARAMETERS["lora"] | {"dropout": dropout})
        curves.append(numbers(train_on(fresh_base(), method, SETTINGS)[1].curve))
    assert curves[0][0]["loss"] != curves[1][0]["loss"] or curves[0][1] != curves[1][1]


def test_a_finished_run_is_not_trained_again(fresh_base: Bases) -> None:
    kept = Kept()
    method = load_method("lora", PARAMETERS["lora"])
    _, whole = train_on(fresh_base(), method, SETTINGS, checkpoints=kept)
    steps: list[int] = []
    _, again = train_on(
        fresh_base(),
        method,
        SETTINGS,
        checkpoints=kept,
        on_step=lambda row, _: steps.append(row.step),
    )
    assert steps == []
    assert again.curve == whole.curve


class Counting(TrainingHooks):
    """Keeps a number and a tensor, as a mask and its age would be kept."""

    def __init__(self) -> None:
        self.age = 0
        self.mask = torch.zeros(3)

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.age += 1
        self.mask[step % 3] += step

    def state_dict(self) -> dict[str, Any]:
        return {"age": self.age, "mask": self.mask}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.age, self.mask = state["age"], state["mask"]


def test_the_hooks_of_a_method_continue_too(fresh_base: Bases) -> None:
    made: list[Counting] = []

    class CountingLora(type(load_method("lora"))):  # type: ignore[misc]
        def hooks(self, model: torch.nn.Module, total_steps: int) -> TrainingHooks:
            made.append(Counting())
            return made[-1]

    method = CountingLora(**PARAMETERS["lora"])
    train_on(fresh_base(), method, SETTINGS)
    kept = Kept()
    with pytest.raises(KilledError):
        train_on(fresh_base(), method, SETTINGS, checkpoints=kept, on_step=killed_after(4))
    train_on(fresh_base(), method, SETTINGS, checkpoints=kept)
    whole, _, resumed = made
    assert resumed.age == whole.age == N_STEPS
    assert torch.equal(resumed.mask, whole.mask)


def test_a_checkpoint_of_other_parameters_is_refused(fresh_base: Bases) -> None:
    kept = Kept()
    train_on(fresh_base(), load_method("lora", PARAMETERS["lora"]), SETTINGS, checkpoints=kept)
    other = load_method("lora", PARAMETERS["lora"] | {"targets": ("q_proj",)})
    with pytest.raises(StoreError, match="other parameters"):
        train_on(fresh_base(), other, SETTINGS, checkpoints=kept)


def test_a_checkpoint_of_another_rank_is_refused(fresh_base: Bases) -> None:
    kept = Kept()
    train_on(fresh_base(), load_method("lora", PARAMETERS["lora"]), SETTINGS, checkpoints=kept)
    other = load_method("lora", PARAMETERS["lora"] | {"rank": 1})
    with pytest.raises(StoreError, match="other parameters"):
        train_on(fresh_base(), other, SETTINGS, checkpoints=kept)


@pytest.mark.parametrize("broken", [b"", b"short", b"\x00" * 64], ids=["empty", "cut", "zeros"])
def test_a_broken_checkpoint_says_what_to_do(fresh_base: Bases, broken: bytes) -> None:
    kept = Kept()
    kept.save(broken)
    with pytest.raises(StoreError, match="checkpoint"):
        train_on(fresh_base(), load_method("lora", PARAMETERS["lora"]), SETTINGS, checkpoints=kept)


def test_a_state_survives_packing() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = pack_state(model, optimizer, TrainingHooks(), step=7, curve=[])
    other = torch.nn.Linear(3, 2)
    restored = torch.optim.AdamW(other.parameters(), lr=0.1, fused=True)
    step, curve = unpack_state(state, other, restored, TrainingHooks())
    assert (step, curve) == (7, [])
    assert torch.equal(model.weight, other.weight)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        before, after = optimizer.state[mine], restored.state[theirs]
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_runs_own_generator_goes_on_where_it_was() -> None:
    model, own = torch.nn.Linear(3, 2), torch.Generator().manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.rand(3, generator=own)
    state = pack_state(model, optimizer, TrainingHooks(), step=1, curve=[], generator=own)
    expected = torch.rand(3, generator=own)
    other = torch.Generator()
    unpack_state(state, model, optimizer, TrainingHooks(), generator=other)
    assert torch.equal(torch.rand(3, generator=other), expected)


def test_checkpoints_take_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    now = 0.0
    pace = CheckpointPace(clock=lambda: now)
    assert pace.is_due()
    expecting = CheckpointPace(200_000_000, clock=lambda: now)
    now = 19.9
    assert not expecting.is_due()
    now = 20.0
    assert expecting.is_due()
    now = 1.0
    pace.record(1.0)
    now = 20.9
    assert not pace.is_due()
    now = 21.0
    assert pace.is_due()

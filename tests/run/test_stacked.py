"""Runs in shared passes: what each of them becomes does not depend on its company."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.run.tiny import study

from maple.base.fused import low_rank
from maple.files import Files, Hub, Lock
from maple.run import Progress, run_study, stacked
from maple.study.file import StudySpec

STEPS = 50
METHODS: list[Any] = [
    {"lora": {"rank": [2, 5], "alpha": 8, "dropout": 0.3, "targets": "all-linear"}},
    {"lora-plus": {"rank": 4, "dropout": 0.1}},
    {"pissa": {"rank": 3, "dropout": 0.0}},
]
Trained = dict[str, tuple[list[float], dict[str, torch.Tensor]]]


@pytest.fixture
def grid(model: Path) -> StudySpec:
    """Four runs of mixed ranks, dropouts, targets and rates, twice seeded, in float32."""
    return spec(model, methods=METHODS, seeds=[0, 1])


def spec(model: Path, *, steps: int = STEPS, **changes: Any) -> StudySpec:
    content = study(model, quantization=["fp32"], **changes)
    content["training"] = content["training"] | {"max_steps": steps, "learning_rate": 2e-3}
    content["evaluate"] = {"tasks": [], "languages": ["sw"]}
    return StudySpec.model_validate(content)


def trained(question: StudySpec, data: Path, out: Path) -> Trained:
    """Loss of every step and the adapter's tensors, by the run's label."""
    files = Files(directory=data, hub=Hub(Lock(out.parent / "maple.lock")))
    outcome = run_study(question, files, out, workers=1, progress=Progress(Console(quiet=True)))
    assert not outcome.failures
    found = {}
    for folder in sorted((out / "runs").iterdir()):
        losses = pq.read_table(folder / "curve.parquet", columns=["loss"])["loss"].to_pylist()
        (weights,) = (folder / "adapter").glob("*.safetensors")
        found[folder.name] = (losses, load_file(weights))
    return found


def stacking(monkeypatch: pytest.MonkeyPatch, gain: float) -> list[int]:
    """Lets the machine say that stacking is that much faster; returns sizes of finished stacks."""
    sizes: list[int] = []
    train = stacked.train_together

    def seen(model: Any, base: Any, runs: Any, **keywords: Any) -> Any:
        results = train(model, base, runs, **keywords)
        sizes.append(len(runs))
        return results

    monkeypatch.setattr(stacked, "read_gain", lambda _: gain)
    monkeypatch.setattr(stacked, "train_together", seen)
    return sizes


def assert_same(one: Trained, other: Trained, *, tolerance: float) -> None:
    assert one.keys() == other.keys()
    for run, (losses, tensors) in one.items():
        again, others = other[run]
        assert losses == pytest.approx(again, rel=tolerance)
        assert tensors.keys() == others.keys()
        for name, tensor in tensors.items():
            distance = (tensor - others[name]).norm() / tensor.norm().clamp_min(1e-12)
            assert distance <= tolerance, (run, name)


def test_alone_in_turn_and_stacked_agree(
    grid: StudySpec, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty steps in float32, dropout on: losses and adapters to 1e-5."""
    with monkeypatch.context() as patch:
        sizes = stacking(patch, 2.0)
        together = trained(grid, data, tmp_path / "stacked")
        assert sizes == [8]
    with monkeypatch.context() as patch:
        sizes = stacking(patch, 0.5)
        in_turn = trained(grid, data, tmp_path / "turn")
        assert sizes == []
    assert len(together) == 8
    assert_same(in_turn, together, tolerance=1e-5)
    alone = trained(spec(model, methods=METHODS[1:2], seeds=[1]), data, tmp_path / "alone")
    assert_same(alone, {run: in_turn[run] for run in alone}, tolerance=0.0)
    # The control: seeds and ranks do make a difference that this comparison would show.
    losses = [run[0][-1] for run in together.values()]
    assert len({round(loss, 6) for loss in losses}) == len(losses)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_stack_killed_by_the_system_goes_on_in_turn_or_stacked(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends where the stack would have; the same the other way round.

    Killed between two steps and stacked again it meets the same passes, and ends bit for bit.
    """
    grid = spec(model, steps=8, methods=METHODS[:2])
    with monkeypatch.context() as patch:
        sizes = stacking(patch, 2.0)
        whole = trained(grid, data, tmp_path / "whole")
        assert sizes == [3]
    for first, then, rows, tolerance in (
        (2.0, 0.5, 13, 1e-5),
        (0.5, 2.0, 13, 1e-5),
        (2.0, 2.0, 13, 1e-5),
        (2.0, 2.0, 12, 0.0),
    ):
        out = tmp_path / f"killed-{first}-{then}-{rows}"
        with monkeypatch.context() as patch:
            stacking(patch, first)
            kill_after(patch, rows)
            child = os.fork()
            if child == 0:
                try:
                    trained(grid, data, out)
                finally:
                    os._exit(1)  # only where the kill did not come
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert list(out.glob("runs/*/checkpoint/*"))
        with monkeypatch.context() as patch:
            stacking(patch, then)
            assert_same(whole, trained(grid, data, out), tolerance=tolerance)


def kill_after(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Kills the process when that many steps are done, counted over all runs."""
    from maple.train.trainee import Trainee

    end = Trainee.end_step
    count = 0

    def counted(self: Trainee, *arguments: Any) -> None:
        nonlocal count
        end(self, *arguments)
        count += 1
        if count == rows:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Trainee, "end_step", counted)


def test_one_that_diverges_takes_nobody_with_it(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on in turn from their checkpoints; the broken one fails by itself."""
    stacking(monkeypatch, 2.0)
    wild = {"lora": {"rank": 2, "alpha": 1e38, "dropout": 0.0}}
    question = spec(model, steps=6, methods=[wild, *METHODS[:1]])
    files = Files(directory=data, hub=Hub(Lock(tmp_path / "maple.lock")))
    outcome = run_study(
        question, files, tmp_path / "out", workers=1, progress=Progress(Console(quiet=True))
    )
    assert len(outcome.failures) == 1
    assert "the loss is" in outcome.failures[0][1]
    assert len(list((tmp_path / "out").glob("runs/*/adapter"))) == 2


@pytest.mark.parametrize(
    "method",
    [{"dora": {"rank": 2}}, {"ia3": {}}, {"adalora": {"rank": 2, "initial_rank": 4}}, "full"],
)
def test_what_is_more_than_low_rank_is_left_alone(
    method: Any, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = stacking(monkeypatch, 2.0)
    question = spec(model, steps=1, methods=[method], seeds=[0, 1])
    assert len(trained(question, data, tmp_path / "out")) == 2
    assert sizes == []


def test_what_does_not_fit_together_is_trained_in_turn(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = stacking(monkeypatch, 2.0)
    monkeypatch.setattr(stacked, "free_bytes", lambda _: 1 << 20)
    grid = spec(model, steps=1, methods=METHODS[:1])
    assert len(trained(grid, data, tmp_path / "out")) == 2
    assert sizes == []


def test_the_measurement_moves_nothing(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run measures, keeps the figure and trains as every later one does."""
    grid = spec(model, steps=4, methods=METHODS[:2])
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    measured: list[float] = []
    measure: Callable[..., float] = stacked.measure_gain
    monkeypatch.setattr(
        stacked, "measure_gain", lambda *a: measured.append(measure(*a)) or measured[-1]
    )
    monkeypatch.setattr(stacked, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(stacked, "_WORTH", 0)
    first = trained(grid, data, tmp_path / "first")
    again = trained(grid, data, tmp_path / "again")
    assert len(measured) == 1
    assert 0.05 < measured[0] < 20
    assert_same(first, again, tolerance=0.0)


def test_what_lies_below_the_first_update_is_computed_once(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one seed read the same tokens; the first layer's products serve all of them."""
    products: list[tuple[int, int]] = []
    forward = low_rank._Linear.forward

    def seen(ctx: Any, x: Any, weight: Any, bias: Any, parts: Any, copies: int, *rest: Any) -> Any:
        products.append((len(parts), copies))
        return forward(ctx, x, weight, bias, parts, copies, *rest)

    grid = spec(model, steps=3, methods=METHODS[:1])
    in_turn = trained(grid, data, tmp_path / "turn")
    monkeypatch.setattr(low_rank._Linear, "forward", staticmethod(seen))
    sizes = stacking(monkeypatch, 2.0)
    assert_same(in_turn, trained(grid, data, tmp_path / "stacked"), tolerance=1e-5)
    assert sizes == [2]
    # Three steps of one pass each; of fourteen products the first layer's query, key and value.
    copies = [copies for parts, copies in products if parts == 2]
    assert copies.count(2) == 3 * 3
    assert copies.count(1) >= 3 * 11

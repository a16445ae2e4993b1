"""What a run's record says it cost, against what can be counted otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.analysis.synthetic import build_study
from tests.contract.method_lives import context_of
from tests.tiny_models import make_pools, settings

from maple.base import LoadedBase, peak_flops_per_second
from maple.base.energy import Counter
from maple.catalog import load_method
from maple.data import StepSchedule
from maple.records import CurveRow, TrainRecord
from maple.run import record as record_module
from maple.run.adapters import detach
from maple.run.record import RunMeter, train_record
from maple.store.read import open_store
from maple.train import train_run

Bases = Callable[..., LoadedBase]

ADDED = (
    "stored_parameters", "tokens_per_second", "flops", "flops_per_second",
    "peak_flops_per_second", "utilization", "energy_joules",
)  # fmt: skip


def recorded(
    base: LoadedBase, directory: Path, name: str = "lora", **parameters: Any
) -> tuple[TrainRecord, StepSchedule]:
    wanted = settings(max_steps=2, epochs=2)
    schedule = StepSchedule(
        make_pools(("eng_Latn", "tha_Thai")),
        wanted,
        seed=0,
        tokenizer=base.tokenizer,
        family=base.family,
    )
    method = load_method(name, parameters)
    model = method.attach(base.model, context_of(base))
    meter = RunMeter(model, base, lambda row, steps: None)
    result = train_run(model, base, method, schedule, settings=wanted, on_step=meter)
    method.save(model, directory)
    detach(model, base)
    return train_record("r", result, schedule, directory, meter=meter), schedule


@pytest.mark.parametrize(
    ("name", "parameters"), [("lora", {"rank": 4}), ("pissa", {"rank": 4}), ("full", {})]
)
def test_stored_parameters_are_the_numbers_in_the_files(
    shared_base: Bases, tmp_path: Path, name: str, parameters: dict[str, Any]
) -> None:
    record, _ = recorded(shared_base(), tmp_path, name, **parameters)
    files = list(tmp_path.rglob("*.safetensors"))
    assert record.stored_parameters == sum(
        tensor.numel() for path in files for tensor in load_file(path).values()
    )
    factor = {"lora": 1, "pissa": 2, "full": 1}[name]
    assert record.stored_parameters == factor * record.trainable_parameters


def test_rates_follow_from_the_sums_and_the_measured_peak(
    shared_base: Bases, tmp_path: Path
) -> None:
    record, schedule = recorded(shared_base(), tmp_path, rank=4)
    lengths = [len(e.ids) for step in (1, 2) for e in schedule.examples(step)]
    assert record.tokens == sum(lengths)
    assert record.tokens_per_second == pytest.approx(record.tokens / record.train_seconds)
    peak = peak_flops_per_second(torch.device("cpu"), torch.float32)
    assert record.peak_flops_per_second == peak
    assert record.flops is not None
    assert record.utilization == pytest.approx(record.flops / record.train_seconds / peak)
    # Two blocks of 30,720 weights, forward and backward: 4 operations a weight and token at least.
    assert record.flops > 4 * 2 * 30_720 * record.tokens
    assert record.flops < 8 * 2 * 60_000 * record.tokens + 4 * 64 * 640 * record.label_tokens


def test_energy_is_that_of_the_steps_and_unknown_after_a_resume(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    joules = iter(range(100, 1000, 10))
    monkeypatch.setattr(
        record_module, "energy_counters", lambda device: [Counter(lambda: float(next(joules)))]
    )
    model = load_method("lora", {"rank": 4}).attach(base.model, context_of(base))
    whole = RunMeter(model, base, lambda row, steps: None)
    resumed = RunMeter(model, base, lambda row, steps: None)
    detach(model, base)
    for step in (1, 2):
        whole(row_of(step), 2)
    resumed(row_of(2), 2)
    assert whole.joules == 30  # the other meter read the counter once in between
    assert resumed.joules is None


def row_of(step: int) -> CurveRow:
    return CurveRow(
        step=step, loss=1.0, learning_rate=1.0, grad_norm=1.0, tokens=1, label_tokens=1,
        step_seconds=1.0, tokens_per_second=1.0, peak_memory_bytes=1,
    )  # fmt: skip


def test_a_store_from_before_these_fields_is_read(tmp_path: Path) -> None:
    build_study(tmp_path, n=4)
    paths = sorted(tmp_path.glob("runs/*/train.json"))
    assert paths
    for path in paths:
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in ADDED}
        path.write_text(json.dumps(kept))
    records = [run.train for run in open_store(tmp_path).runs() if run.train]
    assert len(records) == len(paths)
    assert all(getattr(record, name) is None for record in records for name in ADDED)

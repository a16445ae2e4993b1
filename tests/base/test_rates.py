"""The machine's measured peak, and its counters of energy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from maple.base import peak_flops_per_second
from maple.base.energy import Counter, EnergyMeter, energy_counters

CPU = torch.device("cpu")


def test_the_peak_is_what_a_large_product_reaches() -> None:
    peak = peak_flops_per_second(CPU, torch.float32)
    matrix = torch.rand(1024, 1024)
    torch.mm(matrix, matrix)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - began)
    # Other processes may take the cores in either measurement: the same within a factor of four.
    assert 0.25 < peak / (2 * 1024**3 / min(seconds)) < 4


def test_the_peak_is_measured_once_and_draws_no_random_number() -> None:
    state = torch.get_rng_state()
    first = peak_flops_per_second(CPU, torch.bfloat16)
    began = time.perf_counter()
    assert peak_flops_per_second(CPU, torch.bfloat16) == first
    assert time.perf_counter() - began < 0.01
    assert torch.equal(torch.get_rng_state(), state)


def package(powercap: Path, number: int, name: str, joules: float) -> Path:
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    (folder / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    return folder


def test_energy_is_summed_over_packages_and_parts_of_one_are_left_out(tmp_path: Path) -> None:
    for number, name in enumerate(("package-0", "package-1", "psys", "core")):
        package(tmp_path, number, name, 10)
    meter = EnergyMeter(energy_counters(CPU, tmp_path))
    for number, name in enumerate(("package-0", "package-1", "psys", "core")):
        package(tmp_path, number, name, 15)
    meter.update()
    assert meter.joules == pytest.approx(10)


def test_a_counter_that_went_round_is_counted_on(tmp_path: Path) -> None:
    package(tmp_path, 0, "package-0", 262_000)
    meter = EnergyMeter(energy_counters(CPU, tmp_path))
    package(tmp_path, 0, "package-0", 100)
    meter.update()
    assert meter.joules == pytest.approx(262_143.32885 - 262_000 + 100)


def test_without_a_counter_that_can_be_read_there_is_no_number(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        meter = EnergyMeter(energy_counters(CPU, directory))
        meter.update()
        assert meter.joules is None
    folder = package(tmp_path, 0, "package-0", 1)
    (folder / "energy_uj").unlink()
    assert energy_counters(CPU, tmp_path) == []


def test_a_counter_that_fails_in_between_leaves_no_number() -> None:
    answers = iter([1.0, 2.0])

    def read() -> float:
        try:
            return next(answers)
        except StopIteration:
            raise OSError("gone") from None

    meter = EnergyMeter([Counter(read)])
    meter.update()
    assert meter.joules == 1.0
    meter.update()
    assert meter.joules is None

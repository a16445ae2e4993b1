"""Several worker processes store what one process stores, and die with their parent."""

from __future__ import annotations

import os
import signal
import time
from itertools import product
from pathlib import Path

import psutil
import pytest
from tests.run.program import Job, Program
from tests.run.tiny import (
    leftovers,
    small_study,
    stored_adapters,
    stored_curves,
    stored_rows,
    study,
    write_study,
)

from maple.plan import make_plan
from maple.run.workers import choose_workers, order_of_dealing
from maple.store.read import open_store
from maple.store.write import open_for_writing
from maple.study.file import load_study


def arguments(data: Path, out: Path, *, workers: int) -> tuple[object, ...]:
    return ("run", "study.yaml", "--data-dir", data, "--out", out, "--workers", workers)


def workers_of(job: Job) -> list[psutil.Process]:
    """The processes that a call's nursery has forked."""
    try:
        return [w for nursery in psutil.Process(job.pid).children() for w in nursery.children()]
    except psutil.NoSuchProcess:
        return []


def wait_for(is_time: object, timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not is_time():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(
    program: Program, model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store of the study, run in one process."""
    folder = tmp_path_factory.mktemp("whole")
    write_study(folder / "study.yaml", study(model))
    outcome = program(*arguments(data, folder / "out", workers=1), cwd=folder)
    assert outcome.code == 0, outcome.complaint
    assert "workers," not in outcome.out
    return folder / "out"


def assert_same(out: Path, whole: Path) -> None:
    assert stored_rows(out) == stored_rows(whole)
    assert len(stored_rows(whole)) == 6 * 5 * 10
    assert stored_curves(out) == stored_curves(whole)
    assert stored_adapters(out) == stored_adapters(whole)
    assert leftovers(out) == []
    assert not list(out.glob("runs/*/checkpoint"))
    same = ("runs/*/spec.json", "evals/*/spec.json", "prompts/*", "study.json")
    for pattern in same:
        names = [p.relative_to(whole) for p in whole.glob(pattern)]
        assert sorted(names) == sorted(p.relative_to(out) for p in out.glob(pattern))


def test_two_workers_store_what_one_process_stores(
    program: Program, model: Path, data: Path, tmp_path: Path, whole: Path
) -> None:
    write_study(tmp_path / "study.yaml", study(model))
    outcome = program(*arguments(data, tmp_path / "out", workers=2), cwd=tmp_path)
    assert outcome.code == 0, outcome.complaint
    assert_same(tmp_path / "out", whole)
    assert "2 workers, 1 thread each" in outcome.out
    assert "6 runs done, 0 failed" in outcome.out
    labels = [run.cell.label for run in open_store(tmp_path / "out").runs()]
    for number, label in enumerate(labels, start=1):
        assert f"[{number}/6] {label}" in outcome.out
        assert f"  {label}: xcopa swh_Latn: 10 samples" in outcome.out
    again = program(*arguments(data, tmp_path / "out", workers=2), cwd=tmp_path)
    assert again.code == 0
    assert "stored already" in again.out
    assert "workers," not in again.out


def test_workers_of_a_killed_parent_die_at_once_and_the_rerun_completes(
    program: Program, model: Path, data: Path, tmp_path: Path, whole: Path
) -> None:
    write_study(tmp_path / "study.yaml", study(model))
    out = tmp_path / "out"
    wanted = arguments(data, out, workers=2)
    for target in (1, 9, 22):
        job = program.start(*wanted, cwd=tmp_path)
        alive: list[psutil.Process] = []

        def is_time(target: int = target, job: Job = job, alive: list[psutil.Process] = alive):
            come = len(list(out.glob("runs/*/checkpoint"))) + len(list(out.glob("evals/*/done")))
            alive[:] = workers_of(job)
            return len(alive) == 2 and come >= target

        assert job.kill_when(is_time).code == -9
        # The lock is theirs too: whoever gets it knows that nobody writes any more.
        with open_for_writing(out):
            assert not [p for p in alive if p.is_running() and p.status() != "zombie"]
    assert program(*wanted, cwd=tmp_path).code == 0
    assert_same(out, whole)


def test_a_killed_worker_costs_its_run_alone(
    program: Program, model: Path, data: Path, tmp_path: Path, whole: Path
) -> None:
    write_study(tmp_path / "study.yaml", study(model))
    out = tmp_path / "out"
    job = program.start(*arguments(data, out, workers=2), cwd=tmp_path)
    wait_for(lambda: list(out.glob("runs/*/adapter")))
    os.kill(workers_of(job)[0].pid, signal.SIGKILL)
    outcome = job.wait()
    assert outcome.code == 1
    assert "5 runs done, 1 failed" in outcome.out
    assert "WorkerError: its worker process was killed (SIGKILL)" in outcome.complaint
    runs = open_store(out).runs()
    (failed,) = [run for run in runs if run.status == "failed"]
    assert failed.failure is not None
    assert "fewer --workers" in failed.failure.error
    assert [run.status for run in runs].count("done") == 5
    assert leftovers(out) == []
    assert program(*arguments(data, out, workers=2), cwd=tmp_path).code == 0
    assert_same(out, whole)


def test_an_interrupt_ends_every_worker(
    program: Program, model: Path, data: Path, tmp_path: Path
) -> None:
    write_study(tmp_path / "study.yaml", study(model))
    out = tmp_path / "out"
    job = program.start(*arguments(data, out, workers=2), cwd=tmp_path)
    wait_for(lambda: list(out.glob("evals/*/done")))
    # As a terminal does: to the parent and to the workers.
    workers = workers_of(job)
    for pid in (*(w.pid for w in workers), job.pid):
        os.kill(pid, signal.SIGINT)
    outcome = job.wait()
    assert outcome.code == 1
    assert "interrupted. What is stored is whole" in outcome.complaint
    assert not any(w.is_running() for w in workers)
    assert leftovers(out) == []


def test_a_failed_run_is_reported_and_broken_data_ends_the_study(
    program: Program, model: Path, data: Path, tmp_path: Path
) -> None:
    methods = [{"lora": {"rank": 2, "targets": [["nowhere"], ["q_proj"]]}}, "none"]
    write_study(tmp_path / "study.yaml", small_study(model, methods=methods))
    outcome = program(*arguments(data, tmp_path / "out", workers=2), cwd=tmp_path)
    assert outcome.code == 1
    assert "2 runs done, 1 failed" in outcome.out
    assert "nowhere" in outcome.complaint
    runs = open_store(tmp_path / "out").runs()
    assert [run.status for run in runs] == ["failed", "done", "done"]
    assert runs[0].failure is not None
    assert "Traceback (most recent call last)" in runs[0].failure.traceback

    broken = tmp_path / "broken"
    broken.mkdir()
    for entry in data.iterdir():
        (broken / entry.name).symlink_to(entry)
    (broken / "instructions.jsonl").unlink()
    (broken / "instructions.jsonl").write_text('{"instruction": "a", "language": "sw"}\n')
    outcome = program(*arguments(broken, tmp_path / "other", workers=2), cwd=tmp_path)
    assert outcome.code == 1
    assert "field 'output' is missing" in outcome.complaint
    assert not list(tmp_path.glob("other/runs/*/adapter"))


def test_several_workers_are_chosen_for_tiny_bases_on_the_cpu_alone(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maple.files import Files

    monkeypatch.setenv("MAPLE_DEVICE", "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    spec = load_study(write_study(tmp_path / "study.yaml", study(model)))
    plan = make_plan(spec, Files(directory=data))
    runs = [cell.run for cell in plan.cells]
    assert choose_workers(0, plan, runs) == 4
    assert choose_workers(0, plan, runs[:3]) == 3
    assert choose_workers(0, plan, []) == 1
    assert choose_workers(5, plan, runs) == 5
    assert choose_workers(9, plan, runs) == 6
    monkeypatch.setenv("MAPLE_DEVICE", "cuda")
    assert choose_workers(0, plan, runs) == 1
    monkeypatch.setenv("MAPLE_DEVICE", "cpu")
    monkeypatch.setattr("maple.run.workers.TINY_PARAMETERS", 1000)
    assert choose_workers(0, plan, runs) == 1


def shortest(costs: list[float], workers: int) -> float:
    """The soonest end of any division of runs among workers."""
    return min(
        max(sum(c for c, w in zip(costs, at, strict=True) if w == k) for k in range(workers))
        for at in product(range(workers), repeat=len(costs))
    )


@pytest.mark.parametrize(
    ("costs", "workers"),
    [
        ([184.0, 188.0, 195.0, 210.0, 240.0], 2),
        ([3.0, 3.0, 2.0, 2.0, 2.0], 2),
        ([5.0, 5.0, 4.0, 4.0, 3.0, 3.0], 3),
        ([1.0], 4),
        ([0.0, 0.0, 7.0], 2),
    ],
)
def test_runs_are_dealt_so_that_workers_finish_together(costs: list[float], workers: int) -> None:
    order = order_of_dealing(costs, workers)
    assert sorted(order) == list(range(len(costs)))
    loads = [0.0] * workers
    for n in order:
        loads[loads.index(min(loads))] += costs[n]
    assert max(loads) == shortest(costs, workers)


def test_many_runs_are_dealt_costliest_first() -> None:
    costs = [float(n % 11) for n in range(40)]
    order = order_of_dealing(costs, 3)
    assert sorted(order) == list(range(40))
    first = [costs[n] for n in order[:34]]
    assert first == sorted(costs, reverse=True)[:34]

"""A run killed at random moments ends as if it had never been."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from tests.run.program import Job, Program
from tests.run.tiny import (
    leftovers,
    stored_adapters,
    stored_curves,
    stored_rows,
    study,
    write_study,
)

KILLS = 10
SEED = 20240114


def progress(out: Path) -> int:
    """Steps that a store has come: what is stored of each run, and finished evaluations."""
    parts = ("checkpoint", "adapter", "done")
    runs = sum(
        max((n for n, part in enumerate(parts, start=1) if (run / part).exists()), default=0)
        for run in out.glob("runs/*")
    )
    return runs + len(list(out.glob("evals/*/done"))) + len(list(out.glob("evals/*/spec.json")))


def kill_at(job: Job, out: Path, target: int, delay: float) -> int:
    """Kills a job ``delay`` seconds after the store has come as far as ``target``."""

    def is_time() -> bool:
        # Nothing is at work before the first cohort is announced.
        if "[1/" not in job.out or progress(out) < target:
            return False
        time.sleep(delay)
        return True

    assert job.kill_when(is_time).code == -9
    return progress(out)


def test_a_run_killed_ten_times_equals_an_uninterrupted_one(
    program: Program, model: Path, data: Path, tmp_path: Path
) -> None:
    file = write_study(tmp_path / "study.yaml", study(model))
    arguments = ("run", file, "--data-dir", data, "--out")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    outcome = program(*arguments, whole, cwd=tmp_path)
    seconds = time.monotonic() - began
    assert outcome.code == 0, outcome.complaint
    total = progress(whole)

    chance = random.Random(SEED)
    targets = sorted(chance.sample(range(1, total - 3), KILLS))
    reached = [
        kill_at(
            program.start(*arguments, killed, cwd=tmp_path),
            killed,
            target,
            chance.uniform(0, seconds / total),
        )
        for target in targets
    ]
    print(f"uninterrupted: {seconds:.1f} s; killed at {reached} of {total}")
    assert len(set(reached)) > KILLS // 2
    assert program(*arguments, killed, cwd=tmp_path).code == 0

    assert stored_rows(killed) == stored_rows(whole)
    assert len(stored_rows(whole)) == 6 * 5 * 10
    assert stored_curves(killed) == stored_curves(whole)
    assert len(stored_curves(whole)) == 4
    assert stored_adapters(killed) == stored_adapters(whole)
    assert leftovers(killed) == []
    assert not list(killed.glob("runs/*/checkpoint"))


def test_a_finished_study_is_run_again_without_recomputing(
    program: Program, model: Path, data: Path, tmp_path: Path
) -> None:
    file = write_study(tmp_path / "study.yaml", study(model, quantization=["fp32"]))
    arguments = ("run", file, "--data-dir", data, "--out", tmp_path / "out", "--limit", 4)
    assert program(*arguments, cwd=tmp_path).code == 0
    before = times(tmp_path / "out")
    again = program(*arguments, cwd=tmp_path)
    assert again.code == 0
    assert "stored already" in again.out
    assert "train:" not in again.out
    assert times(tmp_path / "out") == before


def times(out: Path) -> dict[str, int]:
    """When every file of the results was last written; the report is not a result."""
    parts = ("study.json", "runs", "evals", "prompts")
    files = [f for part in parts for f in [out / part, *(out / part).rglob("*")] if f.is_file()]
    return {f.relative_to(out).as_posix(): f.stat().st_mtime_ns for f in files}


def test_more_samples_extend_what_is_stored(
    program: Program, model: Path, data: Path, tmp_path: Path
) -> None:
    file = write_study(tmp_path / "study.yaml", study(model, quantization=["fp32"]))
    arguments = ("run", file, "--data-dir", data, "--out", tmp_path / "out", "--limit")
    assert program(*arguments, 4, cwd=tmp_path).code == 0
    curves, few = stored_curves(tmp_path / "out"), stored_rows(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert program(*arguments, 7, cwd=tmp_path).code == 0
    more = stored_rows(tmp_path / "out")
    assert (len(few), len(more)) == (3 * 5 * 4, 3 * 5 * 7)
    assert [row for row in more if row in few] == few
    assert stored_curves(tmp_path / "out") == curves
    assert program(*arguments, 4, cwd=tmp_path).code == 0
    assert stored_rows(tmp_path / "out") == more

"""A disk that fills up in the middle of a run: a clear error, and nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.run.program import Program
from tests.run.tiny import (
    leftovers,
    stored_adapters,
    stored_curves,
    stored_rows,
    study,
    write_study,
)

from maple.store.read import open_store

ARGUMENTS = ("run", "study.yaml", "--data-dir", "data", "--limit", 3, "--out")


def _mount(*options: str, at: Path) -> bool:
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(at)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 KiB; skips where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not _mount("-o", "size=48k", at=disk):
        pytest.skip("mounting a small disk needs root; tests/store raises ENOSPC by hand")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_fills_up_again_and_again_loses_nothing(
    program: Program, model: Path, data: Path, tmp_path: Path, disk: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    content = study(model, quantization=["bf16"])
    content["evaluate"] = content["evaluate"] | {"tasks": ["xcopa", "xquad"]}
    write_study(tmp_path / "study.yaml", content)
    whole = tmp_path / "whole"
    assert program(*ARGUMENTS, whole, cwd=tmp_path).code == 0

    out = disk / "out"
    n_full = 0
    for kibibytes in range(48, 1024, 40):
        assert _mount("-o", f"remount,size={kibibytes}k", at=disk)
        outcome = program(*ARGUMENTS, out, cwd=tmp_path)
        assert outcome.code == 1
        assert outcome.complaint.startswith("maple: "), outcome.err
        assert leftovers(disk) == []
        if "maple report" in outcome.complaint:
            break  # every result is stored; there is no room for the report
        n_full += 1
        assert "the disk is full while writing" in outcome.complaint
        assert "run the same command again" in outcome.complaint
        if (out / "study.json").exists():
            assert all(run.status != "failed" for run in open_store(out).runs())
            open_store(out).evaluations()
            stored_rows(out)
    print(f"the disk was full {n_full} times")
    assert n_full >= 3
    assert _mount("-o", "remount,size=64m", at=disk)
    assert program(*ARGUMENTS, out, cwd=tmp_path).code == 0
    assert stored_rows(out) == stored_rows(whole)
    assert stored_curves(out) == stored_curves(whole)
    assert stored_adapters(out) == stored_adapters(whole)

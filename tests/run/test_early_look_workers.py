"""Early looks by two real worker processes: the rows and the looks of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.run.program import Program
from tests.run.test_early_look import SAMPLES, TWO, content
from tests.run.tiny import leftovers, stored_adapters, stored_rows, write_data, write_study

from maple.store.read import open_store


def looks_in(out: Path) -> dict[str, dict[str, Any]]:
    """The whole specification of every evaluation, its rule and looks among it."""
    return {e.eval_id: e.spec for e in open_store(out).evaluations()}


def test_two_workers_look_as_one_process_does(
    program: Program, model: Path, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data", samples=SAMPLES)
    made = content(model, tasks=["xcopa"]) | {"methods": TWO}
    outs = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        write_study(folder / "study.yaml", made)
        command = ("run", "study.yaml", "--data-dir", data, "--out", folder / "out")
        outcome = program(*command, "--workers", workers, cwd=folder)
        assert outcome.code == 0, outcome.complaint
        assert ("2 workers," in outcome.out) == (workers == 2)
        assert "stopped at look" in outcome.out
        outs[workers] = folder / "out"
    one, two = looks_in(outs[1]), looks_in(outs[2])
    assert one == two
    looks = [spec["looks"] for spec in two.values() if "looks" in spec]
    assert len(looks) == 2, "of two adapters"
    assert any(look["is_part"] for look in looks)
    assert stored_rows(outs[1]) == stored_rows(outs[2])
    assert stored_adapters(outs[1]) == stored_adapters(outs[2])
    assert leftovers(outs[2]) == []

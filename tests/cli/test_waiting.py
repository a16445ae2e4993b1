"""Threads spin for one another only where nothing else wants the cores, and a user's word stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from maple.cli.waiting import choose_waiting


@pytest.mark.parametrize(
    ("said", "spins"),
    [
        ("0.31 0.25 0.20 1/345 6789\n", True),
        ("0.31 0.25 0.20 3/345 6789\n", False),
        ("no such line\n", False),
        (None, False),
    ],
)
def test_threads_spin_where_nothing_else_runs(
    said: str | None, spins: bool, tmp_path: Path
) -> None:
    load = tmp_path / "loadavg"
    if said is not None:
        load.write_text(said)
    environment = {"HOME": "/"}
    choose_waiting(environment, load)
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert ("GOMP_SPINCOUNT" in environment) == spins


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_a_user_has_set_stays(own: dict[str, str], tmp_path: Path) -> None:
    load = tmp_path / "loadavg"
    load.write_text("0.31 0.25 0.20 1/345 6789\n")
    environment = dict(own)
    choose_waiting(environment, load)
    assert environment == own

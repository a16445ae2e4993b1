"""trackio for real: its own database, read back by SQL."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.analysis.synthetic import TASKS, StoreBuilder
from tests.trackers.growing import BASE, FAILED, HITS, RUNNING, TUNED, train_to

from maple.errors import TrackerError
from maple.trackers import Target, open_tracker, write_study

pytest.importorskip("trackio", reason="needs trackio (extra: trackio)", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """trackio's directory: read when it is imported, so put into the modules that hold it."""
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path / "trackio"


def write(builder: StoreBuilder) -> tuple[int, int]:
    done = write_study(
        builder.directory,
        open_tracker("trackio", Target(project="a study", directory=builder.directory)),
    )
    return done.written, done.unchanged


def rows(folder: Path, run_id: str) -> list[tuple[int, dict[str, Any]]]:
    with sqlite3.connect(folder / "astudy.db") as database:
        query = "SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY id"
        found = [(step, json.loads(text)) for step, text in database.execute(query, (run_id,))]
    database.close()
    return found


def config(folder: Path, run_id: str) -> dict[str, Any]:
    with sqlite3.connect(folder / "astudy.db") as database:
        query = "SELECT config FROM configs WHERE run_id = ?"
        ((text,),) = database.execute(query, (run_id,)).fetchall()
    database.close()
    return dict(json.loads(text))


def test_a_study_is_there_once_and_grows(builder: StoreBuilder, folder: Path) -> None:
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", HITS)
    train_to(builder, RUNNING, 3)
    assert write(builder) == (4, 0)
    assert write(builder) == (0, 4)
    tuned = rows(folder, TUNED.id)
    losses = [(step, row["train/loss"]) for step, row in tuned if "train/loss" in row]
    assert losses == [(n, pytest.approx(2.0 + 3.0 / n)) for n in range(1, 31)]
    assert tuned[-1][0] == 30
    assert tuned[-1][1]["score/xnli/swh_Latn"] == pytest.approx(0.7)
    assert config(folder, TUNED.id)["parameter.rank"] == 8
    failed = config(folder, FAILED.id)
    assert (failed["status"], failed["failed_stage"]) == ("failed", "train")
    assert rows(folder, BASE.id) == [(0, {"status/done": 1.0, "status/failed": 0.0})]

    train_to(builder, RUNNING, 5)
    builder.evaluation(TUNED, TASKS[0], "tha_Thai", HITS)
    assert write(builder) == (2, 2)
    running = [step for step, row in rows(folder, RUNNING.id) if "train/loss" in row]
    assert running == [1, 2, 3, 4, 5]
    last = rows(folder, TUNED.id)[-1][1]
    assert "score/xnli/tha_Thai" in last
    assert "score/xnli/swh_Latn" not in last


def test_what_was_written_without_its_configuration_is_kept_once(
    builder: StoreBuilder, folder: Path
) -> None:
    write(builder)
    before = rows(folder, TUNED.id)
    with sqlite3.connect(folder / "astudy.db") as database:
        database.execute("DELETE FROM configs")
    database.close()
    assert write(builder) == (4, 0)
    assert rows(folder, TUNED.id) == before


def test_a_server_is_refused(builder: StoreBuilder) -> None:
    target = Target(project="x", uri="https://example.org", directory=builder.directory)
    with pytest.raises(TrackerError, match="trackio sync"):
        open_tracker("trackio", target)

"""Progress: how far, how fast and how long still, on a terminal, in plain lines and of workers."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from maple.run import progress as progress_module
from maple.run.progress import Progress
from maple.run.worker import Doing, Said, WorkerProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def shown(terminal: bool = False) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress(Console(file=out, force_terminal=terminal, width=200)), out


def test_plain_lines_say_rate_and_time_left(clock: list[float]) -> None:
    progress, out = shown()
    progress.begin("xnli swh_Latn", 100, "samples", done=20)
    clock[0] += 4
    progress.advance(10)
    assert out.getvalue() == ""  # not every batch is a line
    clock[0] += 12
    progress.advance(30)
    # 40 of its own in 16 s, and 40 more to do: what was stored before is no speed.
    assert out.getvalue() == "  xnli swh_Latn: 60/100 samples, 2.5 samples/s, 16 s left\n"


@pytest.mark.parametrize(
    ("total", "left"), [(199, "99 s left"), (1000, "15 min left"), (36_100, "10.0 h left")]
)
def test_long_times_are_minutes_and_hours(clock: list[float], total: int, left: str) -> None:
    progress, _ = shown()
    progress.begin("xnli", total, "samples")
    clock[0] += 100
    progress.advance(100)
    assert progress.state().endswith(left)


def test_nothing_is_said_of_a_rate_before_there_is_one() -> None:
    progress, _ = shown()
    progress.begin("xnli", 10, "samples", done=3)
    assert progress.state() == "3/10 samples, 0.0 samples/s"


def test_a_terminal_shows_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    rich = progress_module.RichProgress
    monkeypatch.setattr(rich, "update", lambda self, bar, **fields: kept.update(fields))
    progress, _ = shown(terminal=True)
    with progress:
        progress.begin("xnli", 100, "samples")
        progress._began -= 10
        progress.advance(50)
        assert progress._rich is not None
        columns = [type(column).__name__ for column in progress._rich.columns]
    assert kept["completed"] == 50
    assert kept["rate"].endswith("samples/s")
    assert "TimeRemainingColumn" in columns


def test_a_worker_sends_the_same_to_its_parent(clock: list[float]) -> None:
    sent: list[Any] = []
    progress = WorkerProgress(sent.append)
    progress.label = "lora"
    progress.begin("xnli swh_Latn", 100, "samples")
    clock[0] += 0.1
    progress.advance(1)
    assert sent == []  # twice a second at most
    clock[0] += 9.9
    progress.advance(19)
    assert sent == [Doing("xnli swh_Latn 20/100 samples, 2.0 samples/s, 40 s left")]
    progress.end("accuracy 0.4")
    assert sent[1:] == [Said("  lora: xnli swh_Latn: 20 samples in 10.0 s · accuracy 0.4")]


def test_a_quiet_step_ends_without_a_line() -> None:
    progress, out = shown()
    progress.begin("requests", 2, "")
    progress.advance(2)
    progress.end(quiet=True)
    assert out.getvalue() == ""
    assert progress.end() == 0.0

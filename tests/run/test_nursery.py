"""Workers are forked by a process that has imported everything and done nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Pipe
from pathlib import Path

import psutil
import pytest

from maple.errors import WorkerError
from maple.run.nursery import Nursery, open_nursery


def code_of(pid: int, nursery: Nursery) -> int:
    end = time.monotonic() + 30
    while (code := nursery.bury(pid)) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return code


def test_a_worker_listens_and_ends_with_the_pipe_it_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAPLE_DEVICE", "cpu")
    link, theirs = Pipe()
    watched, held = os.pipe()
    nursery = Nursery()
    try:
        pid = nursery.bear([theirs.fileno(), watched], 2)
        theirs.close()
        os.close(watched)
        (forked,) = psutil.Process().children(recursive=False)[-1].children()
        assert forked.pid == pid
        assert type(link.recv()).__name__ == "Ready"
        if sys.platform == "linux":
            libraries = Path(f"/proc/{pid}/maps").read_text()
            assert "libtorch" in libraries, "imported before it was asked for"
            names = [p.read_text() for p in Path(f"/proc/{forked.ppid()}/task").glob("*/comm")]
            # A fork loses every other thread; arrow's allocator starts its own anew.
            assert [name for name in names if not name.startswith("jemalloc")] == ["python\n"]
        assert nursery.bury(pid) is None
        os.close(held)
        assert code_of(pid, nursery) == 1
    finally:
        nursery.close()


def test_a_killed_worker_is_told_by_its_signal() -> None:
    link, theirs = Pipe()
    watched, held = os.pipe()
    nursery = Nursery()
    try:
        pid = nursery.bear([theirs.fileno(), watched], 1)
        theirs.close()
        link.recv()
        os.kill(pid, signal.SIGKILL)
        assert code_of(pid, nursery) == -signal.SIGKILL
    finally:
        nursery.close()
        os.close(held)
        os.close(watched)


def test_a_nursery_that_is_gone_is_said() -> None:
    nursery = Nursery()
    nursery.close()
    with pytest.raises(WorkerError, match="is gone"):
        nursery.bear([], 1)
    nursery.close()


def test_there_is_none_where_one_process_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_nursery(1) is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert open_nursery(0) is None
    two = open_nursery(2)
    assert two is not None
    two.close()

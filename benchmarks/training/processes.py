"""One command, timed from its start, with the peak memory of its whole tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.2
_TIMEOUT_SECONDS = 3600.0


class CommandFailedError(Exception):
    """A contestant did not end well; holds the end of what it said."""


@dataclass(frozen=True)
class Timed:
    """How a command went."""

    began: float
    """Seconds since the epoch, so that files written by it can be placed in time."""
    seconds: float
    """Until the process had ended."""
    cpu_seconds: float
    """Of the process and its children; steadier than ``seconds`` where others use the machine."""
    tree_bytes: int
    """Peak of the resident sets of the process and its children, summed; polled."""
    process_bytes: int
    """Peak resident set of the largest single process of the tree, as the system counts it."""


def run_timed(command: Sequence[str], env: Mapping[str, str], log: Path) -> Timed:
    """Runs a command to its end, its output into ``log``.

    Raises:
        CommandFailedError: its exit code was not 0, or it took an hour.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began, started = time.time(), time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        watch = _Watch(process)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        watch.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise CommandFailedError(f"exit code {process.returncode}\n{said}")
    unit = 1 if sys.platform == "darwin" else 1024
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Timed(began, seconds, cpu_seconds, watch.peak, usage.ru_maxrss * unit)


class _Watch(threading.Thread):
    """Polls the tree's memory, and ends what takes too long."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._process = process
        self._over = threading.Event()

    def run(self) -> None:
        import psutil

        end = time.monotonic() + _TIMEOUT_SECONDS
        root = psutil.Process(self._process.pid)
        while not self._over.wait(_POLL_SECONDS):
            try:
                tree = [root, *root.children(recursive=True)]
                self.peak = max(self.peak, sum(p.memory_info().rss for p in tree))
            except psutil.Error:
                continue
            if time.monotonic() > end:
                for process in reversed(tree):
                    process.kill()

    def stop(self) -> None:
        self._over.set()
        self.join()


def contestant_environment(work: Path, *, device: str, threads: int | None) -> dict[str, str]:
    """The environment all contestants share: no network, caches of their own, all cores."""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MAPLE_WORKERS")}
    env |= {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "caches"),
        "HF_DATASETS_CACHE": str(work / "caches" / "datasets"),
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore",
        "MAPLE_DEVICE": device,
    }
    return env | ({"OMP_NUM_THREADS": str(threads)} if threads else {})

"""The command line in processes of its own, without each paying for the import of torch.

``python -m tests.run.program`` imports the libraries once and then forks a child per request, so
that a child is at work from its first moment. A request is a line of JSON on standard input; the
answers are the child's process id and, when it has ended, its exit code (negative: a signal).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Standard error, which must be free of tracebacks."""
        assert "Traceback" not in self.err, self.err
        return self.err


class Job:
    """One running call."""

    def __init__(self, pid: int, folder: Path, answers: Any) -> None:
        self.pid = pid
        self._folder = folder
        self._answers = answers

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return (self._folder / "out").read_text(encoding="utf-8", errors="replace")

    def kill_when(self, is_time: Callable[[], bool], *, timeout: float = 120) -> Outcome:
        """Sends SIGKILL at the first moment that ``is_time`` says so."""
        end = time.monotonic() + timeout
        while not is_time():
            assert time.monotonic() < end, self.out
            assert self._is_alive(), f"ended before it was killed: {self.out}"
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def _is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> Outcome:
        """Waits for the end."""
        code = int(self._answers.readline())
        return Outcome(code, self.out, (self._folder / "err").read_text(encoding="utf-8"))


class Program:
    """Starts calls one after another; close it to end the process that forks them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n_calls = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.run.program"],
            cwd=ROOT,
            env=surroundings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=60)

    def start(
        self, *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> Job:
        """Starts a call and returns at once."""
        self._n_calls += 1
        folder = self._folder / str(self._n_calls)
        folder.mkdir()
        for name in ("out", "err"):
            (folder / name).touch()
        request = {
            "arguments": [str(a) for a in arguments],
            "cwd": str(cwd),
            "folder": str(folder),
            "environment": dict(environment or {}),
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Job(int(self._process.stdout.readline()), folder, self._process.stdout)

    def __call__(
        self, *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> Outcome:
        """Runs a call to its end."""
        return self.start(*arguments, cwd=cwd, environment=environment).wait()


def surroundings(**changes: str) -> dict[str, str]:
    """The environment of a call: offline, on the CPU, one thread, no colour."""
    fixed = {
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        "MAPLE_WORKERS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**os.environ, **fixed, **changes}


def _serve() -> None:
    import bitsandbytes  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    import maple.run  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: Mapping[str, Any]) -> None:
    from maple.cli import main

    for name, number in (("out", 1), ("err", 2)):
        file = os.open(Path(request["folder"]) / name, os.O_WRONLY)
        os.dup2(file, number)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.argv = ["maple", *request["arguments"]]
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()

"""Where workers come from: a process that imports what they need once, and then forks them.

    parent --pipe's end, lock, ...--> nursery --fork--> worker
    parent <--------process id------- nursery

It imports while the parent still plans, and a worker is at work from its first moment: two
processes that import side by side take longer than one, and hold everything twice. It opens
nothing, computes nothing and starts no thread (but that of arrow's allocator, which starts it anew
in a fork), so that what it forks is as good as new. Its end of the socket closes when the parent
dies, however it dies, and it ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Sequence

from maple.errors import WorkerError
from maple.startup import import_model_libraries

_NUMBER = struct.Struct("=q")
_MOST_DESCRIPTORS = 8
_BOOT = """
import sys

sys.path[:] = sys.argv[2:]
from maple.run.nursery import main
main(int(sys.argv[1]))
"""


def open_nursery(asked: int) -> Nursery | None:
    """Begins one where a study may be done by several workers.

    Args:
        asked: workers, as for ``choose_workers``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_one = asked == 1 or (asked == 0 and cores == 1)
    return None if is_one or os.name == "nt" else Nursery()


class Nursery:
    """One such process, as its parent sees it."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        # One thread: what a library starts at its import would be lost in the fork.
        surroundings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        # A Ctrl-C goes to every process of the terminal; the parent alone answers it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), *sys.path],
                env={**os.environ, **surroundings},
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__ if sys.__stderr__ else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def bear(self, descriptors: Sequence[int], threads: int) -> int:
        """Forks a worker; waits for the imports where they are not done.

        Args:
            descriptors: the worker's connection, then the pipe that it watches, then what else it
                holds as long as it lives.
            threads: of one product.

        Returns:
            The worker's process id.

        Raises:
            WorkerError: the nursery is gone.
        """
        return self._ask(threads, descriptors)

    def bury(self, pid: int) -> int | None:
        """Takes leave of a worker.

        Returns:
            Its exit code, negative for a signal; None while it runs.

        Raises:
            WorkerError: the nursery is gone.
        """
        code = self._ask(-pid)
        return None if code == _RUNS else code

    def close(self) -> None:
        """Ends the nursery, not its workers."""
        self._link.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, number: int, descriptors: Sequence[int] = ()) -> int:
        answer = b""
        with contextlib.suppress(OSError):
            socket.send_fds(self._link, [_NUMBER.pack(number)], descriptors)
            answer = self._link.recv(_NUMBER.size, socket.MSG_WAITALL)
        if len(answer) < _NUMBER.size:
            raise WorkerError(
                "the process that starts the workers is gone; standard error may say why. Run the "
                "same command again: it goes on from where it was."
            )
        found: int = _NUMBER.unpack(answer)[0]
        return found


_RUNS = 1 << 16
"""No exit code."""


def main(descriptor: int) -> None:
    """Forks workers as they are asked for until nobody is left to ask; does not return."""
    gc.disable()
    from maple.base import is_on_cpu
    from maple.run import worker

    worker.get_ready()
    # Elsewhere they might open the accelerator, and what is open must not be forked.
    if sys.platform == "linux" and is_on_cpu():
        import_model_libraries()
        importlib.import_module("peft")
    # What is there now is never freed: looking through it would copy every page of it.
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=descriptor) as link:
        while True:
            message, descriptors, _, _ = socket.recv_fds(link, _NUMBER.size, _MOST_DESCRIPTORS)
            if len(message) < _NUMBER.size:
                os._exit(0)
            number = _NUMBER.unpack(message)[0]
            answer = _exit_code(-number) if number < 0 else _fork(descriptors, number, link)
            link.sendall(_NUMBER.pack(answer))


def _exit_code(pid: int) -> int:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else _RUNS


def _fork(descriptors: Sequence[int], threads: int, link: socket.socket) -> int:
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    try:
        link.close()
        _live(descriptors, threads)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _live(descriptors: Sequence[int], threads: int) -> None:
    """What a worker does, from its first moment."""
    from maple.run import worker

    connection, watched, *_ = descriptors
    worker.end_with(watched)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
    worker.main(connection)

"""Work dealt to other processes: the same functions there as here, and so the same answers.

    Processes.submit(f, x) --pickled f, x--> process 1: f(x)
    Future             <--pickled answer--

Whatever goes wrong over there, an error or a death, is not told: the call is made once more here,
which works, or raises what it has to raise. A process ends when its end of the pipe closes, and so
with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

MOST = 8
"""Processes at most, each of some 0.2 GB."""
_END_SECONDS = 5.0
# Not multiprocessing's own: it imports the program's main module again, which a script that has no
# `if __name__ == "__main__"` does not survive, and its processes outlive a parent that is killed.
_BOOT = """
import sys
sys.path[:] = sys.argv[2:]
from maple.analysis.processes import serve
serve(int(sys.argv[1]))
"""


def cores() -> int:
    """Returns how many processes can be at work at once."""
    if os.name == "nt":  # no descriptors that are inherited
        return 1
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


class Processes:
    """Processes that do what is submitted, or none: it is then done at once, here."""

    def __init__(self, count: int) -> None:
        """Starts ``count`` processes, where that is more than one; they import while we go on."""
        workers = [_Worker() for _ in range(min(count, MOST))] if count > 1 else []
        self._workers = workers
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(len(workers)) if workers else None
        self._is_closed = False

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Returns the answer to be; without processes it is made before this returns.

        Args:
            function: of a module, not a method or a lambda: it is sent by its name.
            args: what can be pickled.
            kwargs: the same.
        """
        if self._threads is not None:
            return self._threads.submit(self._ask, function, args, kwargs)
        made: Future[_T] = Future()
        made.set_result(function(*args, **kwargs))
        return made

    def _ask(self, function: Callable[..., _T], args: Any, kwargs: Any) -> _T:
        worker = self._idle.get()
        try:
            return worker.ask(function, args, kwargs)
        except _NoAnswerError:
            if self._is_closed:
                raise
        finally:
            self._idle.put(worker)
        return function(*args, **kwargs)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        for worker in self._workers:
            worker.end(at_once=kind is not None)
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


class _NoAnswerError(Exception):
    """There is no answer from over there."""


class _Worker:
    """One process, as its parent sees it."""

    def __init__(self) -> None:
        self._link, theirs = Pipe()
        # A Ctrl-C goes to every process of the terminal; the parent alone answers it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), *sys.path],
                # There are as many processes as cores: each does its products alone.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def ask(self, function: Callable[..., _T], args: Any, kwargs: Any) -> _T:
        """Returns the answer.

        Raises:
            _NoAnswerError: the function raised an error, or the process is gone.
        """
        try:
            _send(self._link, (function, args, kwargs))
            is_made, answer = _receive(self._link)
        except (OSError, EOFError) as error:
            raise _NoAnswerError from error
        if not is_made:
            raise _NoAnswerError
        made: _T = answer
        return made

    def end(self, *, at_once: bool) -> None:
        """Ends the process: what it is at is waited for a while, or not at all."""
        if at_once:
            self._process.kill()
        self._link.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(descriptor: int) -> None:
    """Makes what is asked for over a connection until it closes; does not return."""
    link = Connection(descriptor)
    # Answers are sent and dropped: there is no garbage in circles to look for.
    gc.disable()
    with contextlib.suppress(OSError, EOFError):
        while True:
            function, args, kwargs = _receive(link)
            try:
                answer = True, function(*args, **kwargs)
            except Exception:
                answer = False, None
            _send(link, answer)
    os._exit(0)


def _send(link: Connection, thing: object) -> None:
    """Sends arrays as they lie in memory: pickled with the rest they would be there twice."""
    arrays: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(thing, protocol=5, buffer_callback=arrays.append)
    link.send_bytes(len(arrays).to_bytes(8, "little"))
    link.send_bytes(rest)
    for array in arrays:
        with array.raw() as raw:
            link.send_bytes(raw)


def _receive(link: Connection) -> Any:
    count = int.from_bytes(link.recv_bytes(), "little")
    rest = link.recv_bytes()
    # Pickled by a process that runs this code for the same user: nothing of it is anybody else's.
    return pickle.loads(rest, buffers=[link.recv_bytes() for _ in range(count)])

"""A worker: a process that does one run after another as another process orders them.

    parent --(job, root), Order, Order, ..., None--> worker
    parent <--Ready, Said, Doing, Done, ..., Ended-- worker

It is forked by ``maple.run.nursery``, and ends at once when the parent does.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import pyarrow
from rich.console import Console

from maple.errors import MapleError
from maple.run.cohort import Failure, Workplace
from maple.run.progress import Progress
from maple.startup import lean_process
from maple.store.write import StoreWriter

_DOING_SECONDS = 0.5
"""A worker tells how far it is at most this often."""


@dataclass(frozen=True)
class Order:
    """To a worker: do this run."""

    run_id: str
    title: str
    """What to say when it begins."""


@dataclass(frozen=True)
class Ready:
    """From a worker: it listens."""


@dataclass(frozen=True)
class Said:
    """From a worker: a line for the user."""

    text: str


@dataclass(frozen=True)
class Doing:
    """From a worker: how far it is with what."""

    text: str


@dataclass(frozen=True)
class Done:
    """From a worker: the run is finished, or has failed and is stored as failed."""

    failure: Failure | None


@dataclass(frozen=True)
class Ended:
    """From a worker: nothing of the study can go on."""

    error: Exception


Message = Ready | Said | Doing | Done | Ended


class WorkerProgress(Progress):
    """Tells the parent instead of the user; a run's own lines carry its label."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.label = ""
        self._send = send

    def say(self, text: str) -> None:
        """Sends one line; an indented one belongs to the run."""
        indented = text.startswith("  ")
        self._send(Said(f"  {self.label}: {text.strip()}" if indented else text))

    def advance(self, count: int, note: str = "") -> None:
        """Counts finished units and, now and then, sends how many there are."""
        self._done += count
        if time.monotonic() - self._said >= _DOING_SECONDS:
            self._said = time.monotonic()
            self._send(Doing(f"{self._step[0]} {self.state()}"))


def get_ready() -> None:
    """What a process does before it becomes a worker, or forks some."""
    # As in cli.main: deprecations between the libraries below us.
    warnings.simplefilter("ignore", FutureWarning)
    lean_process()


def end_with(pipe: int) -> None:
    """Ends this process when the other end of a pipe is closed: the parent is gone."""

    def watch() -> None:
        os.read(pipe, 1)  # nothing is ever written
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: int) -> None:
    """Does what is ordered over a connection until there is no more; does not return."""
    _keep_pandas_out()
    link = Connection(descriptor)
    # Where the parent is gone there is nobody to tell; the watching thread ends this process.
    with contextlib.suppress(OSError, EOFError):
        link.send(Ready())
        try:
            _work(link)
        except EOFError:
            raise
        except (MapleError, OSError) as error:
            link.send(Ended(error))
        except Exception:
            link.send(Ended(RuntimeError(f"in a worker:\n{traceback.format_exc()}")))
    os._exit(0)


class _NoPandas:
    """Finds modules as ever, but not pandas."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out for a moment", name=name)


def _keep_pandas_out() -> None:
    """Lets pyarrow find no pandas: it imports it, 0.9 seconds, to look at the first list it gets.

    It looks once in a process. Nothing here makes data frames.
    """
    sys.meta_path.insert(0, _NoPandas())
    try:
        pyarrow.array([0])
    finally:
        del sys.meta_path[0]


def _work(link: Connection) -> None:
    job, root = link.recv()
    progress = WorkerProgress(link.send)
    # The lock is inherited: this process holds it as long as it lives.
    workplace = Workplace(job, StoreWriter(root), progress)
    places = {c.run.id: (c.run, cohort) for cohort in job.plan.cohorts() for c in cohort.cells}
    while (order := link.recv()) is not None:
        run, cohort = places[order.run_id]
        progress.label = run.label
        link.send(Done(workplace.do(run, cohort, order.title)))

"""Deals the runs of a study to worker processes on this machine.

    pending runs, by cohort --Order--> worker 1: base A, one run after another --> the store
                            --Order--> worker 2: base B, ...                   --> the store

Each run is done by one worker from training to scores, so nothing that is stored depends on how
many there are. The lock of the store is theirs too, until the last of them has ended; the parent's
end of a pipe that they all watch closes when it dies, however it dies, and they end with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from multiprocessing.connection import Connection, Pipe, wait

from maple.base import is_on_cpu
from maple.errors import UsageError, WorkerError
from maple.plan import Cohort, Plan
from maple.run.cohort import Failure, StudyJob, fail
from maple.run.nursery import Nursery
from maple.run.progress import Progress
from maple.run.worker import Doing, Done, Ended, Message, Order, Said
from maple.store.write import StoreWriter
from maple.study import RunSpec

TINY_PARAMETERS = 50_000_000
"""Bases below it are done sooner one on each core than one after another on all of them."""
MOST_WORKERS = 4
"""Chosen unasked: each holds its own libraries and base, some 0.6 GB."""
_END_SECONDS = 10.0


def choose_workers(asked: int, plan: Plan, runs: Sequence[RunSpec]) -> int:
    """How many processes do these runs.

    Args:
        asked: as many, or one for each run where there are fewer; 0: several where every base
            is tiny and on the CPU, since its products are too small to be shared by cores.
        plan: knows the sizes of the bases.
        runs: what is left to do.

    Raises:
        UsageError: several are asked for on Windows.
    """
    if asked > 1 and os.name == "nt":
        raise UsageError("workers need descriptors that are inherited, which Windows lacks: use 1.")
    if asked or not runs or os.name == "nt":
        return max(1, min(asked, len(runs)))
    sizes = [plan.estimates[run.id].total_parameters for run in runs]
    if not all(size is not None and size < TINY_PARAMETERS for size in sizes):
        return 1
    return min(_cores(), len(runs), MOST_WORKERS) if is_on_cpu() else 1


def deal_runs(
    job: StudyJob,
    cohorts: Sequence[Cohort],
    store: StoreWriter,
    progress: Progress,
    *,
    nursery: Nursery,
    count: int,
) -> list[Failure]:
    """Does every run of the cohorts in ``count`` workers of a nursery.

    Returns:
        The failed runs in the plan's order; one whose worker died is among them.

    Raises:
        MapleError: nothing can go on: broken data, a full disk, a worker that does not start.
    """
    threads = _threads(count)
    progress.say(f"{count} workers, {threads} thread{'s' * (threads > 1)} each")
    with _lifeline() as life:
        crew = _Crew(job, cohorts, store, progress, count=count)
        try:
            return crew.work(_Start(nursery, life, store.lock, threads))
        finally:
            # Closed before it is waited for: that is how a worker knows.
            life.close()
            crew.bury()
            store.sweep()


@dataclass(frozen=True)
class _Task:
    run: RunSpec
    cohort: int
    number: int
    """Its place in the study, from 1, as it is shown."""


class _Life:
    """The pipe whose closing ends the workers."""

    def __init__(self) -> None:
        self.watched, self._held = os.pipe()

    def close(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            os.close(self.watched)
        self._held = -1


@contextlib.contextmanager
def _lifeline() -> Iterator[_Life]:
    life = _Life()
    try:
        yield life
    finally:
        life.close()


@dataclass(frozen=True)
class _Start:
    nursery: Nursery
    life: _Life
    lock: int | None
    threads: int


class _Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, start: _Start) -> None:
        self.link, theirs = Pipe()
        self.task: _Task | None = None
        self.cohort: int | None = None
        self.doing = ""
        self.is_dismissed = False
        self._nursery = start.nursery
        held = [] if start.lock is None else [start.lock]
        try:
            self._pid = start.nursery.bear(
                [theirs.fileno(), start.life.watched, *held], start.threads
            )
        finally:
            theirs.close()

    def end(self) -> int:
        """Waits for the process, and ends it if it does not end; returns its exit code."""
        kill_at = time.monotonic() + _END_SECONDS
        while (code := self._nursery.bury(self._pid)) is None:
            if time.monotonic() > kill_at:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.01)
        return code


class _Crew:
    """The workers, what is pending, and what has failed."""

    def __init__(
        self,
        job: StudyJob,
        cohorts: Sequence[Cohort],
        store: StoreWriter,
        progress: Progress,
        *,
        count: int,
    ) -> None:
        self._job = job
        self._cohorts = cohorts
        self._store = store
        self._progress = progress
        self._count = count
        self._pending = _pending(cohorts, job.plan, count)
        self._total = sum(map(len, self._pending))
        self._announced: set[int] = set()
        self._workers: dict[Connection, _Worker] = {}
        self._failures: dict[int, Failure] = {}

    def work(self, start: _Start) -> list[Failure]:
        """Keeps the workers at work until nothing is pending."""
        self._progress.begin("runs", self._total, "")
        for _ in range(self._count):
            self._hire(start)
        while self._workers:
            for link in wait(list(self._workers)):
                worker = self._workers[link]  # type: ignore[index]
                try:
                    message = worker.link.recv()
                except (EOFError, OSError):
                    self._lose(worker, start)
                else:
                    self._hear(worker, message)
        self._progress.end()
        return [self._failures[number] for number in sorted(self._failures)]

    def bury(self) -> None:
        """Waits until every worker has ended."""
        for worker in self._workers.values():
            worker.end()
            worker.link.close()

    def _hire(self, start: _Start) -> None:
        worker = _Worker(start)
        self._workers[worker.link] = worker

    def _hear(self, worker: _Worker, message: Message) -> None:
        match message:
            case Said(text):
                self._progress.say(text)
            case Doing(text):
                worker.doing = text
                self._show()
            case Ended(error):
                raise error
            case Done(failure):
                self._finish(worker, failure)
                self._order(worker)
            case _:
                with contextlib.suppress(OSError):  # noticed when it is listened to
                    worker.link.send((self._job, self._store.layout.root))
                self._order(worker)

    def _finish(self, worker: _Worker, failure: Failure | None) -> None:
        assert worker.task is not None
        if failure is not None:
            self._failures[worker.task.number] = failure
        worker.task, worker.doing = None, ""
        self._show(1)

    def _order(self, worker: _Worker) -> None:
        task = self._next(worker.cohort)
        order = None
        if task is None:
            worker.is_dismissed = True
        else:
            worker.task, worker.cohort, worker.doing = task, task.cohort, "begins"
            title = f"[{task.number}/{self._total}] {task.run.label} ({task.run.id})"
            order = Order(task.run.id, title)
            if task.cohort not in self._announced:
                self._announced.add(task.cohort)
                self._progress.say(self._cohorts[task.cohort].title)
        with contextlib.suppress(OSError):  # noticed when it is listened to
            worker.link.send(order)

    def _next(self, loaded: int | None) -> _Task | None:
        """A run of the base that is loaded, else of the cohort with most left for each at it."""
        if loaded is not None and self._pending[loaded]:
            return self._pending[loaded].popleft()
        at_it = [w.cohort for w in self._workers.values() if w.task is not None]
        shares = [len(p) / (1 + at_it.count(n)) for n, p in enumerate(self._pending)]
        most = max(shares)
        return self._pending[shares.index(most)].popleft() if most > 0 else None

    def _lose(self, worker: _Worker, start: _Start) -> None:
        """Stores what a dead worker was doing as failed, and puts another in its place."""
        code = worker.end()
        worker.link.close()
        del self._workers[worker.link]
        if worker.is_dismissed:
            return
        if worker.task is None:
            raise WorkerError(f"a worker process {_how(code)} before it could do anything.")
        task = worker.task
        error = WorkerError(
            f"its worker process {_how(code)}. Run the same command again: it goes on from its "
            "last checkpoint."
        )
        self._progress.say(f"  {task.run.label}: its worker is gone")
        self._finish(worker, fail(task.run, "worker", error, self._store, self._progress))
        if any(self._pending):
            self._hire(start)

    def _show(self, count: int = 0) -> None:
        busy = (w for w in self._workers.values() if w.task is not None)
        doing = sorted((w.task.number, w.doing) for w in busy if w.task is not None)
        self._progress.advance(count, " · ".join(f"[{number}] {text}" for number, text in doing))


def _pending(cohorts: Sequence[Cohort], plan: Plan, workers: int) -> list[deque[_Task]]:
    pending: list[deque[_Task]] = []
    number = 0
    for place, cohort in enumerate(cohorts):
        tasks = []
        for cell in cohort.cells:
            number += 1
            tasks.append(_Task(cell.run, place, number))
        costs = [_cost(task.run, plan) for task in tasks]
        pending.append(deque(tasks[n] for n in order_of_dealing(costs, workers)))
    return pending


def _cost(run: RunSpec, plan: Plan) -> float:
    """What a run takes, next to others of its cohort: operations of a token, forward and back."""
    found = plan.estimates[run.id]
    if not run.is_trained:
        return 0.0
    return 4.0 * (found.total_parameters or 0) + 6.0 * (found.trainable_parameters or 0)


def order_of_dealing(costs: Sequence[float], workers: int) -> list[int]:
    """In which order runs are dealt, each to whoever is free, so that all finish together.

    The costliest come first. That can leave the last one alone at the end, so every order of the
    last few is tried, and the soonest end taken.

    Args:
        costs: of each run, in any unit.
        workers: how many do them.

    Returns:
        Indices of ``costs``.
    """
    order = sorted(range(len(costs)), key=lambda n: -costs[n])
    head, tail = order[:-_TRIED], order[-_TRIED:]
    loads = [0.0] * workers
    for n in head:
        _add(loads, costs[n])

    def end(last: tuple[int, ...]) -> float:
        then = list(loads)
        for n in last:
            _add(then, costs[n])
        return max(then)

    # Of equal ends the first: the costliest first again.
    return [*head, *min(permutations(tail), key=end)]


_TRIED = 6


def _add(loads: list[float], cost: float) -> None:
    loads[loads.index(min(loads))] += cost


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "was killed (SIGKILL), as a system does that runs out of memory: use fewer --workers, "
            "a smaller base or fewer bits"
        )
    if code < 0:
        return f"was ended by a signal ({signal.Signals(-code).name})"
    return f"ended with exit code {code}; standard error may say why"


def _cores() -> int:
    found = getattr(os, "sched_getaffinity", None)
    return len(found(0)) if found else os.cpu_count() or 1


def _threads(count: int) -> int:
    share = max(1, _cores() // count)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdigit() and int(asked) > 0 else share

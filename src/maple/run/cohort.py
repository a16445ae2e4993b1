"""Does the runs of a study one after another, keeping the base that the last one needed."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase, describe_machine, load_base, select_device
from maple.errors import StoreError
from maple.evaluate import PreparedTask
from maple.evaluate.encode import Encoder
from maple.evaluate.planned_store import RequestStore
from maple.evaluate.prepare import TaskRequest, describe_task
from maple.files import Files
from maple.plan import Cohort, Plan, Resolver
from maple.run.cell import run_cell
from maple.run.context import CohortContext
from maple.run.early_look import EarlyLooks, looks_of_plan
from maple.run.engines import OptionalEngine
from maple.run.optional import open_engine
from maple.run.progress import Progress
from maple.run.scoring import Expected, expected_evaluations, is_complete
from maple.run.shared_scoring import share_scoring, subjects_of
from maple.run.stacked import train_stacks
from maple.store.write import StoreWriter
from maple.study import ModelRef, RunSpec

if TYPE_CHECKING:
    import torch

EVALUATION_TOKENS = 8192
"""Padded tokens of one forward pass while scoring."""

Failure = tuple[str, str]
"""A failed run's label, and its error."""


@dataclass(frozen=True)
class StudyJob:
    """What a process must know to do any run of a study."""

    plan: Plan
    files: Files
    limit: int | None

    @cached_property
    def wanted(self) -> list[TaskRequest]:
        """What every run is scored on."""
        evaluate = self.plan.study.evaluate
        return [
            TaskRequest(
                task=e.task,
                language=e.language,
                split=evaluate.split,
                limit=self.limit,
                decoding=evaluate.decoding,
                engine=evaluate.engine.identity,
            )
            for e in self.plan.evaluations
        ]

    @cached_property
    def expected(self) -> list[Expected]:
        """What a complete run has stored, as far as it is the same for all runs."""
        return expected_evaluations(self.wanted, self.plan.prompt(), self.files)

    @cached_property
    def looks(self) -> EarlyLooks | None:
        """The early look that the study asks for; None where it asks for none."""
        return looks_of_plan(self.plan)

    def is_stored(self, cohort: Cohort, store: StoreWriter) -> bool:
        """Whether nothing is left to do for a whole cohort, told without loading its base."""
        runs = [cell.run for cell in cohort.cells]
        # What is expected is read from the benchmarks' files: only where it can be there.
        return all(store.is_run_done(run.id) for run in runs) and all(
            is_complete(run, self.expected, store, self.looks) for run in runs
        )


class Workplace:
    """One process's place: at most one loaded base, and what the next cohort can use again."""

    def __init__(self, job: StudyJob, store: StoreWriter, progress: Progress) -> None:
        self._job = job
        self._store = store
        self._progress = progress
        self._place: tuple[ModelRef, str] | None = None
        self._context: CohortContext | None = None
        self._unloadable: Exception | None = None
        self._environment: dict[str, Any] = {}

    def do(self, run: RunSpec, cohort: Cohort, title: str) -> Failure | None:
        """Does one run of a cohort, loading its base first unless it is there.

        Returns:
            What failed; it is stored, and no other run need be given up.

        Raises:
            MapleError: nothing of the study can go on: broken data, a full disk.
        """
        self._enter(cohort)
        if self._context is None:
            assert self._unloadable is not None
            # Every run of the cohort fails with it; other bases and bits go on.
            return fail(run, "load", self._unloadable, self._store, self._progress)
        self._progress.say(title)
        self._store.begin_run(run, self._environment)
        return attempt(run, partial(run_cell, run, self._context), self._store, self._progress)

    def stack(self, cohort: Cohort) -> None:
        """Trains those runs of a cohort that gain by sharing passes; ``do`` finishes each of them.

        A stack that breaks is no failure: its runs go on in turn from where they were.

        Raises:
            StoreError: nothing can be stored.
        """
        runs = [c.run for c in cohort.cells if c.run.is_trained]
        waiting = [run for run in runs if not self._store.is_run_done(run.id)]
        if len(waiting) < 2:
            return
        self._enter(cohort)
        if self._context is None:
            return
        for run in waiting:
            self._store.begin_run(run, self._environment)
        try:
            train_stacks(waiting, self._context)
        except StoreError:
            raise
        except Exception as error:
            self._progress.say(f"  shared passes broke off, runs go on in turn: {error}")

    def share(self, cohort: Cohort) -> None:
        """Scores in shared passes what is trained and gains by it; ``do`` scores the rest.

        Raises:
            StoreError: nothing can be stored.
        """
        runs = [c.run for c in cohort.cells]
        ready = [r for r in runs if self._store.is_run_done(r.id) or not r.is_trained]
        if len(ready) < 2:
            return
        self._enter(cohort)
        if self._context is None:
            return
        for run in ready:
            self._store.begin_run(run, self._environment)
        try:
            share_scoring(subjects_of(ready, self._store), self._context)
        except StoreError:
            raise
        except Exception as error:
            self._progress.say(f"  shared passes broke off, runs go on in turn: {error}")

    def _enter(self, cohort: Cohort) -> None:
        first = cohort.cells[0].run
        place = (first.model, first.quantization)
        if place == self._place:
            return
        before, model = self._context, self._place[0] if self._place else None
        self._place, self._context, self._unloadable = place, None, None
        prepared = before.prepared if before and model == first.model else ()
        tokens = before.tokens if before and model == first.model else {}
        pools = before.pools if before else {}
        if before and before.engine:
            before.engine.close()
        # Two bases at once may not fit; peft's cycles hold the last one until they are collected.
        del before
        gc.collect()
        try:
            base = load_model(first.model, first.quantization, self._job.files)
        except Exception as error:
            self._unloadable = error
            return
        context = CohortContext(
            base=base,
            files=self._job.files,
            store=self._store,
            progress=self._progress,
            # Wording and token ids depend on the tokenizer, which other bits leave as it is.
            prepared=prepared or self._prepare(base),
            pools=pools,
            tokens=tokens,
            engine=self._open_engine(cohort),
            looks=self._job.looks,
        )
        for cell in cohort.cells:
            # All data is read before anything is trained: a broken line ends the study here.
            if cell.run.mixture is not None and not self._store.is_run_done(cell.run.id):
                context.read(cell.run.mixture)
        self._context = context
        self._environment = self._environment or describe_machine(base.device)

    def _open_engine(self, cohort: Cohort) -> OptionalEngine | None:
        runs = [cell.run for cell in cohort.cells]
        return open_engine(
            self._job.plan.study.evaluate.engine,
            runs[0].model,
            self._job.files,
            quantization=runs[0].quantization,
            max_rank=max(int(run.method.parameters.get("rank") or 0) for run in runs),
        )

    def _prepare(self, base: LoadedBase) -> list[PreparedTask]:
        prompt = self._job.plan.prompt()
        encoder = Encoder(base.tokenizer, base.family, prompt, max_length=base.max_length)
        return prepare_tasks(self._job.wanted, self._job.files, encoder, progress=self._progress)


def load_model(
    model: ModelRef, quantization: str, files: Files, *, device: torch.device | None = None
) -> LoadedBase:
    """Loads a base by reference: a directory, atlas-base, or the Hub at its locked commit."""
    directory = Resolver(files).model_directory(model)
    source = directory or files.hub.snapshot(model.name, model.revision)
    return load_base(
        str(source),
        quantization=quantization,
        device=device or select_device(),
        name=None if directory else model.name,
        family=model.family,
    )


def prepare_tasks(
    wanted: Sequence[TaskRequest],
    files: Files,
    encoder: Encoder,
    max_requests: int | None = None,
    *,
    progress: Progress | None = None,
) -> list[PreparedTask]:
    """Words, encodes and batches every task and language once, for all runs of all processes.

    Args:
        wanted: tasks and languages.
        files: where the benchmarks' bytes come from.
        encoder: the tokenizer, template and length limit.
        max_requests: requests of one forward pass at most.
        progress: shows how many are ready; it takes minutes the first time.

    Raises:
        DataError: a broken file, or one without samples.
        SourceError: a file that cannot be had.
    """
    store = RequestStore()
    found = [
        describe_task(
            request,
            files,
            encoder,
            max_tokens=EVALUATION_TOKENS,
            max_requests=max_requests,
            store=store,
        )
        for request in wanted
    ]
    # What another worker is making comes last: workers that start together share the work.
    late = found
    if progress:
        progress.begin("requests", len(found), "")
    for wait in (False, True):
        waiting, late = late, []
        for prepared in waiting:
            is_ready = prepared.plan.ready(wait=wait)
            late += [] if is_ready else [prepared]
            if progress:
                progress.advance(int(is_ready))
    if progress:
        progress.end(quiet=True)
    store.tidy()
    return found


def attempt(
    run: RunSpec, work: Callable[[], None], store: StoreWriter, progress: Progress
) -> Failure | None:
    """Does a run's work; a failure is stored, and returned as its label and error.

    Raises:
        StoreError: nothing can be stored, so nothing else need be tried.
    """
    try:
        work()
        store.clear_failure(run.id)
    except StoreError:
        raise
    except Exception as error:
        # One run's failure is a result of the study: stored, reported, and not the end.
        return fail(run, "run", error, store, progress)
    return None


def fail(
    run: RunSpec, stage: str, error: BaseException, store: StoreWriter, progress: Progress
) -> Failure:
    """Stores and shows that a run failed; returns its label and error."""
    store.fail_run(run.id, stage, error, "".join(traceback.format_exception(error)))
    progress.say(f"  FAILED: {error}")
    return f"{run.label} ({run.id})", f"{type(error).__name__}: {error}"

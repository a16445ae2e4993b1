"""Runs a whole study on this machine: cohort by cohort, every base loaded once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from maple.base import LoadedBase, describe_machine, load_base, select_device
from maple.errors import StoreError
from maple.evaluate import PreparedTask, prepare_task
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import TaskRequest
from maple.files import Files
from maple.plan import Cohort, Plan, Resolver, make_plan
from maple.run.cell import run_cell
from maple.run.context import CohortContext
from maple.run.fetch import fetch_study
from maple.run.progress import Progress
from maple.run.scoring import is_complete
from maple.store.write import StoreWriter, open_for_writing
from maple.study import ModelRef, RunSpec
from maple.study.file import StudySpec

EVALUATION_TOKENS = 8192
"""Padded tokens of one forward pass while scoring."""


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended: runs finished, and runs that failed with their errors."""

    out: Path
    n_done: int
    failures: tuple[tuple[str, str], ...]


def run_study(
    study: StudySpec,
    files: Files,
    out: Path,
    *,
    limit: int | None = None,
    progress: Progress,
) -> StudyOutcome:
    """Trains and scores every cell of a study that is not stored yet.

    Args:
        study: the question.
        files: where data comes from; its lock pins what the Hub gives.
        out: the store; made when it does not exist.
        limit: samples per task and language; overrides the study's own.
        progress: where to show what happens.

    Returns:
        The outcome; a failed run is stored as failed and does not stop the others.

    Raises:
        MapleError: nothing can run: a broken study, data that cannot be had, a full disk.
    """
    fetch_study(study, files, progress)
    plan = make_plan(study, files)
    wanted = limit or study.evaluate.limit
    failures: list[tuple[str, str]] = []
    n_done = 0
    with open_for_writing(out) as store, progress:
        store.write_study(study_content(plan, wanted))
        for cohort in plan.cohorts():
            done, failed = _run_cohort(cohort, plan, files, store, limit=wanted, progress=progress)
            n_done += done
            failures += failed
    return StudyOutcome(out, n_done, tuple(failures))


def study_content(plan: Plan, limit: int | None) -> dict[str, Any]:
    """What ``study.json`` keeps: the question and the whole plan, run or not."""
    return {
        "name": plan.study.name,
        "study": plan.study.model_dump(mode="json"),
        "cells": plan.cells_json(),
        "skipped": [asdict(s) for s in plan.skipped],
        "evaluations": [asdict(e) for e in plan.evaluations],
        "missing": [asdict(m) for m in plan.missing],
        "prompt": plan.prompt().model_dump(mode="json"),
        "limit": limit,
    }


def load_model(model: ModelRef, quantization: str, files: Files) -> LoadedBase:
    """Loads a base by reference: a directory, atlas-base, or the Hub at its locked commit."""
    directory = Resolver(files).model_directory(model)
    source = directory or files.hub.snapshot(model.name, model.revision)
    return load_base(
        str(source),
        quantization=quantization,
        device=select_device(),
        name=None if directory else model.name,
        family=model.family,
    )


def prepare_tasks(
    wanted: Sequence[TaskRequest], files: Files, encoder: Encoder, max_requests: int | None = None
) -> list[PreparedTask]:
    """Words, encodes and batches every task and language once, for all runs of a cohort."""
    return [
        prepare_task(
            request, files, encoder, max_tokens=EVALUATION_TOKENS, max_requests=max_requests
        )
        for request in wanted
    ]


def _run_cohort(
    cohort: Cohort,
    plan: Plan,
    files: Files,
    store: StoreWriter,
    *,
    limit: int | None,
    progress: Progress,
) -> tuple[int, list[tuple[str, str]]]:
    runs = [cell.run for cell in cohort.cells]
    wanted = _task_requests(plan, limit)
    name = f"{cohort.model} · {cohort.quantization}: {len(runs)} runs"
    if all(is_complete(run, wanted, plan.prompt(), files, store) for run in runs):
        progress.say(f"{name}, stored already")
        return len(runs), []
    progress.say(name)
    try:
        base = load_model(runs[0].model, cohort.quantization, files)
    except Exception as error:
        # Every run of the cohort fails with it; other bases and bits go on.
        return 0, [_fail(run, "load", error, store, progress) for run in runs]
    context = CohortContext(base=base, files=files, store=store, progress=progress)
    context.prepared = prepare_tasks(wanted, files, _encoder(base, plan))
    for run in runs:
        # All data is read before anything is trained: a broken line ends the study here.
        if run.mixture is not None and not store.is_run_done(run.id):
            context.read(run.mixture)
    environment = describe_machine(base.device)
    failures: list[tuple[str, str]] = []
    for number, run in enumerate(runs, start=1):
        progress.say(f"[{number}/{len(runs)}] {run.label} ({run.id})")
        store.begin_run(run, environment)
        failures += attempt(run, partial(run_cell, run, context), store, progress)
    return len(runs) - len(failures), failures


def attempt(
    run: RunSpec, work: Callable[[], None], store: StoreWriter, progress: Progress
) -> list[tuple[str, str]]:
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
        return [_fail(run, "run", error, store, progress)]
    return []


def _fail(
    run: RunSpec, stage: str, error: BaseException, store: StoreWriter, progress: Progress
) -> tuple[str, str]:
    store.fail_run(run.id, stage, error, "".join(traceback.format_exception(error)))
    progress.say(f"  FAILED: {error}")
    return f"{run.label} ({run.id})", f"{type(error).__name__}: {error}"


def _task_requests(plan: Plan, limit: int | None) -> list[TaskRequest]:
    evaluate = plan.study.evaluate
    return [
        TaskRequest(
            task=e.task,
            language=e.language,
            split=evaluate.split,
            limit=limit,
            decoding=evaluate.decoding,
        )
        for e in plan.evaluations
    ]


def _encoder(base: LoadedBase, plan: Plan) -> Encoder:
    return Encoder(base.tokenizer, base.family, plan.prompt(), max_length=base.max_length)

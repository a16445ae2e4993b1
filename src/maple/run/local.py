"""Runs a whole study on this machine: in this process, or dealt to several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maple.certify import certify_study, summary_rows
from maple.files import Files
from maple.plan import Cohort, Plan, make_plan
from maple.run.cohort import Failure, StudyJob, Workplace
from maple.run.early_look import in_one_process, in_phases
from maple.run.fetch import fetch_study
from maple.run.nursery import Nursery, open_nursery
from maple.run.progress import Progress
from maple.run.workers import choose_workers, deal_runs
from maple.store.write import StoreWriter, open_for_writing
from maple.study.file import StudySpec


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended: runs finished, and runs that failed with their errors."""

    out: Path
    n_done: int
    failures: tuple[Failure, ...]


def run_study(
    study: StudySpec,
    files: Files,
    out: Path,
    *,
    limit: int | None = None,
    workers: int = 0,
    nursery: Nursery | None = None,
    progress: Progress,
) -> StudyOutcome:
    """Trains and scores every cell of a study that is not stored yet.

    Args:
        study: the question.
        files: where data comes from; its lock pins what the Hub gives.
        out: the store; made when it does not exist.
        limit: samples per task and language; overrides the study's own.
        workers: processes that do runs, each with its share of the cores; 0 chooses
            (``choose_workers``), 1 does them here.
        nursery: where several come from, begun already; None begins one. It is closed.
        progress: where to show what happens.

    Returns:
        The outcome; a failed run is stored as failed and does not stop the others.

    Raises:
        MapleError: nothing can run: a broken study, data that cannot be had, a full disk.
    """
    nursery = nursery or open_nursery(workers)
    try:
        fetch_study(study, files, progress)
        plan = make_plan(study, files)
        job = StudyJob(plan, files, limit or study.evaluate.limit)
        with open_for_writing(out) as store, progress:
            store.write_study(study_content(plan, job.limit))
            failures = _do_phases(job, store, progress, workers, nursery)
            _certify(plan, files, out, progress)
    finally:
        if nursery is not None:
            nursery.close()
    return StudyOutcome(out, len(plan.cells) - len(failures), tuple(failures))


def _do_phases(
    job: StudyJob, store: StoreWriter, progress: Progress, workers: int, nursery: Nursery | None
) -> list[Failure]:
    """Does what is left: here, or in the workers of a nursery where several are worth it."""
    phases = in_phases(_left(job, store, progress), job.looks)
    if job.looks and any(phases):
        progress.say(job.looks.statement)
    runs = [[cell.run for cohort in phase for cell in cohort.cells] for phase in phases]
    counts = [choose_workers(workers, job.plan, each) for each in runs]
    if nursery is not None and max(counts, default=1) > 1:
        return [
            failure
            for phase, count in zip(phases, counts, strict=True)
            for failure in deal_runs(job, phase, store, progress, nursery=nursery, count=count)
        ]
    if nursery is not None:
        nursery.close()  # it would import beside us what nobody asks it for
    return _do_runs(job, in_one_process(phases, job.looks), store, progress)


def _certify(plan: Plan, files: Files, out: Path, progress: Progress) -> None:
    """Certifies what the study was scored on, for its report; kept, so a rerun does it no more."""
    pairs = [(e.task, e.language) for e in plan.evaluations]
    progress.say("certificates")
    found = certify_study(pairs, files, out / "certificates", split=plan.study.evaluate.split)
    for row in summary_rows(found):
        if row["status"] == "red":
            progress.say(f"certificate of {row['task']} {row['language']}: {row['worst_message']}")


def _left(job: StudyJob, store: StoreWriter, progress: Progress) -> list[Cohort]:
    """The cohorts that something is left to do for."""
    left = []
    for cohort in job.plan.cohorts():
        if job.is_stored(cohort, store):
            progress.say(f"{cohort.title}, stored already")
        else:
            left.append(cohort)
    return left


def _do_runs(
    job: StudyJob, cohorts: Sequence[Cohort], store: StoreWriter, progress: Progress
) -> list[Failure]:
    workplace = Workplace(job, store, progress)
    failures = []
    for cohort in cohorts:
        progress.say(cohort.title)
        workplace.stack(cohort)
        workplace.share(cohort)
        for number, cell in enumerate(cohort.cells, start=1):
            title = f"[{number}/{len(cohort.cells)}] {cell.run.label} ({cell.run.id})"
            failures.append(workplace.do(cell.run, cohort, title))
    return [failure for failure in failures if failure is not None]


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

"""Scores tasks whose answers are written, several at once, so that few slots stand empty.

A task in one language ends with its longest answer, while the slots of the others wait. Small ones
are therefore answered in one stream, in which the next language's prompts take the slots as soon as
they are free. Each task's rows are stored as its own, as if it had been alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from maple.evaluate import Engine, PreparedTask, Written, write_answers
from maple.records import SampleRecord
from maple.run.progress import Progress
from maple.store.write import StoreWriter
from maple.study import EvalSpec

MOST_TOGETHER = 512
"""Samples of a stream of several tasks: a task of more keeps its slots full by itself."""
PART_SECONDS = 2.0
"""Finished answers wait at most this long before they are stored."""


@dataclass
class Writing:
    """One task in one language, as it is being answered."""

    prepared: PreparedTask
    spec: EvalSpec
    stored: set[str]
    """Samples that are answered already."""
    is_open: bool
    """Whether it has been begun; else it is answered wholly, and read along."""
    rows: list[SampleRecord] = field(default_factory=list)
    """Answered and not stored yet."""
    value: float = 0.0
    done: int = 0
    tokens: int = 0

    @property
    def missing(self) -> int:
        """How many answers are still to come."""
        return len(set(self.prepared.sample_ids) - self.stored) - self.done

    def take(self, row: SampleRecord, tokens: int) -> None:
        """Takes the next answer, which took as many tokens."""
        self.rows.append(row)
        self.value += row.score
        self.done += 1
        self.tokens += tokens


def together(prepared: Sequence[PreparedTask]) -> Iterator[tuple[PreparedTask, ...]]:
    """The generating tasks, in groups that are answered in one stream.

    Which are together depends on what is asked alone, not on what is stored.
    """
    group: list[PreparedTask] = []
    for task in prepared:
        if not task.generates:
            continue
        if group and sum(map(_size, group)) + _size(task) > MOST_TOGETHER:
            yield tuple(group)
            group = []
        group.append(task)
    if group:
        yield tuple(group)


def _size(task: PreparedTask) -> int:
    return len(task.sample_ids)


def score_written(
    engine: Engine, tasks: Sequence[Writing], store: StoreWriter, progress: Progress
) -> None:
    """Answers what is missing of a group of tasks and stores it, task by task.

    Args:
        engine: one model's.
        tasks: those of one group; one that is answered wholly is read along and not asked.
        store: where rows go; every evaluation that misses samples has been begun there.
        progress: counts the samples of all.
    """
    total = sum(_size(t.prepared) for t in tasks)
    left = sum(t.missing for t in tasks)
    progress.begin(_name(tasks), total, "samples", done=total - left)
    began = said = time.monotonic()
    asked = [Written(t.prepared, t.spec.id, t.spec.run_id, t.stored) for t in tasks]
    for place, row, tokens in write_answers(engine, asked):
        tasks[place].take(row, tokens)
        progress.advance(1)
        if time.monotonic() - said >= PART_SECONDS:
            said = time.monotonic()
            _store(tasks, store)
    _store(tasks, store)
    _finish(tasks, store, time.monotonic() - began)
    progress.end(quiet=True)
    for task in tasks:
        if task.done:
            progress.say(f"  {_summary(task)}")


def _store(tasks: Sequence[Writing], store: StoreWriter) -> None:
    for task in tasks:
        store.add_samples(task.spec.id, task.rows)
        task.rows = []


def _finish(tasks: Sequence[Writing], store: StoreWriter, seconds: float) -> None:
    """Marks each task as answered; its time is its share of the tokens."""
    tokens = sum(t.tokens for t in tasks)
    for task in tasks:
        if task.is_open:
            samples, limit = _size(task.prepared), task.prepared.limit
            own = seconds * task.tokens / max(1, tokens)
            store.finish_evaluation(task.spec.id, samples=samples, limit=limit, seconds=own)


def _name(tasks: Sequence[Writing]) -> str:
    open_tasks = [t.prepared for t in tasks if t.is_open]
    first = f"{open_tasks[0].name} {open_tasks[0].language}"
    return first if len(open_tasks) == 1 else f"{first} and {len(open_tasks) - 1} more"


def _summary(task: Writing) -> str:
    info = task.prepared.task.info
    mean = f"{info.headline} {task.value / max(1, task.done):.3f}"
    note = f"{task.done} outputs" if info.is_judged else mean
    return f"{task.prepared.name} {task.prepared.language}: {task.done} samples · {note}"

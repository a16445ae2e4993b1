"""What an optional engine does in a run: it is audited per task and language, then scored with.

prepared task ── k samples ──> optional engine, reference engine ── agree? ──> all samples
                                                                 └── no ──> refused, none kept
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.engines import Audit, OpenAIEngine, compare, repeat, spread
from maple.errors import EngineError
from maple.evaluate import Engine, PreparedTask, score_batches
from maple.evaluate.protocol import ScoringEngine
from maple.files import Files
from maple.records import SampleRecord
from maple.run.context import CohortContext
from maple.run.progress import Progress
from maple.run.scoring import PART_SECONDS, evaluation_facts, evaluation_spec
from maple.store.write import StoreWriter
from maple.study import EngineSettings, EvalSpec


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an optional engine's scores go, and what they are of."""

    files: Files
    store: StoreWriter
    progress: Progress
    prepared: Sequence[PreparedTask]
    """As the reference engine takes them; without a reference, as the engine itself does."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One run as an engine is to serve it."""

    run_id: str
    adapter: str
    """SHA-256 of its bytes, or ``none``."""
    directory: Path | None = None
    """Of the adapter; None: the untouched base."""


class OptionalEngine(ABC):
    """An engine other than the reference, for the runs of one base."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.directories: dict[str, Path] = {}
        """Adapters by run id, where they do not lie in the store."""

    @abstractmethod
    def serve(self, subject: Subject, reference: Engine | None) -> ScoringEngine:
        """The engine on one subject.

        Raises:
            EngineError: it cannot serve that adapter.
        """

    @abstractmethod
    def own(self, prepared: PreparedTask, files: Files) -> PreparedTask:
        """A task as this engine takes it.

        Raises:
            EngineError: it cannot be asked in that wording.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What it is, for the record."""

    @abstractmethod
    def rows(self, work: Work) -> None:
        """Scores all samples of a task that are not stored yet, and stores them."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""

    def score_run(
        self, reference: Engine, run_id: str, adapter: str, context: CohortContext
    ) -> None:
        """Scores a run of a cohort whose base is loaded; see ``score``."""
        stored = context.store.layout.adapter(run_id) if adapter != "none" else None
        directory = self.directories.get(run_id, stored)
        place = Place(
            files=context.files,
            store=context.store,
            progress=context.progress,
            prepared=context.prepared,
        )
        self.score(Subject(run_id=run_id, adapter=adapter, directory=directory), reference, place)

    def score(self, subject: Subject, reference: Engine | None, place: Place) -> None:
        """Scores a subject on every task that is not answered yet and that the audit admits.

        Args:
            subject: the run.
            reference: the reference engine on the same model; None: there is none.
            place: the tasks, and where their rows go.

        Raises:
            EngineError: at least one task was refused; all others are scored.
            MapleError: the engine cannot go on; what came before is stored.
        """
        refused: list[str] = []
        engine: ScoringEngine | None = None
        for prepared in place.prepared:
            spec = evaluation_spec(prepared, subject.run_id, subject.adapter)
            if place.store.has_all(spec.id, len(prepared.sample_ids)):
                continue
            engine = engine or self.serve(subject, reference)
            try:
                work = self._admitted(engine, prepared, spec, reference, place)
            except EngineError as error:
                refused.append(f"{prepared.name} {prepared.language}: {error}")
                place.progress.say(f"  refused: {refused[-1]}")
                continue
            self.rows(work)
        if refused:
            raise EngineError("; ".join(refused))

    def _admitted(
        self,
        engine: ScoringEngine,
        prepared: PreparedTask,
        spec: EvalSpec,
        reference: Engine | None,
        place: Place,
    ) -> Work:
        own = self.own(prepared, place.files)
        audit = self._audit(engine, own, prepared, reference)
        place.store.write_prompts(own.prompts_id, own.prompts)
        record = {"engine": self.describe(), **audit.as_json()}
        stored = place.store.begin_evaluation(spec, {**evaluation_facts(own), "audit": record})
        audit.check(f"engine {self.settings.name}, {prepared.name} {prepared.language},")
        place.progress.say(f"  {prepared.name} {prepared.language}: {audit.statement()}")
        return Work(engine, own, spec, stored, place)

    def _audit(
        self,
        engine: ScoringEngine,
        own: PreparedTask,
        prepared: PreparedTask,
        reference: Engine | None,
    ) -> Audit:
        chosen = spread(len(own.sample_ids), self.settings.audit_samples)
        asked = [own.encoded[i] for i in chosen]
        if isinstance(engine, OpenAIEngine):
            engine.expect([])
        if reference is not None:
            return compare(engine, asked, reference, [prepared.encoded[i] for i in chosen])
        if not isinstance(engine, OpenAIEngine):
            raise EngineError(
                f"the engine {self.settings.name} is given no reference to be held against."
            )
        return repeat(
            engine, asked, lambda: engine.expect([]), difference=engine.context_difference
        )


class Work:
    """One task's samples on their way through an admitted engine into the store."""

    def __init__(
        self,
        engine: ScoringEngine,
        prepared: PreparedTask,
        spec: EvalSpec,
        stored: set[str],
        place: Place,
    ) -> None:
        self.engine = engine
        self.prepared = prepared
        self.spec = spec
        self.stored = stored
        """Samples that are answered; grows as rows come."""
        self.place = place
        self._waiting: list[SampleRecord] = []
        self._value, self._count = 0.0, 0
        self._began = self._said = time.monotonic()

    def run(self, answered: set[str]) -> None:
        """Scores every sample but those, and stores rows as they come."""
        name = f"{self.prepared.name} {self.prepared.language}"
        names = self.prepared.sample_ids
        done = len(answered & set(names))
        self.place.progress.begin(name, len(names), "samples", done=done)
        for rows in score_batches(
            self.engine,
            self.prepared,
            eval_id=self.spec.id,
            run_id=self.spec.run_id,
            stored=answered,
        ):
            self._waiting += rows
            self._value += sum(r.score for r in rows)
            self._count += len(rows)
            self.stored |= {r.sample_id for r in rows}
            self.place.progress.advance(len(rows))
            if time.monotonic() - self._said >= PART_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Writes the rows that wait."""
        rows, self._waiting, self._said = self._waiting, [], time.monotonic()
        self.place.store.add_samples(self.spec.id, rows)

    def finish(self) -> None:
        """Marks the task as answered."""
        self.flush()
        info = self.prepared.task.info
        self.place.store.finish_evaluation(
            self.spec.id,
            samples=len(self.prepared.sample_ids),
            limit=self.prepared.limit,
            seconds=time.monotonic() - self._began,
        )
        mean = f"{info.headline} {self._value / max(1, self._count):.3f}"
        self.place.progress.end(f"{self._count} outputs" if info.is_judged else mean)

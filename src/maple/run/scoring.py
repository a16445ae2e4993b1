"""Scores a model on the prepared tasks and stores the rows, resuming at the sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from maple.catalog import load_task, segment
from maple.catalog.contracts import GenerationRequest
from maple.evaluate import Engine, PreparedTask, checks, score_batches
from maple.evaluate.prepare import TaskRequest, heeded, read_paths
from maple.files import Files
from maple.records import SampleRecord
from maple.run.adapters import adapter_hash
from maple.run.context import CohortContext
from maple.run.early_look import EarlyLooks
from maple.run.generating import Writing, score_written, together
from maple.store.write import StoreWriter
from maple.study import DecodingSettings, EvalSpec, PromptSettings, RunSpec

if TYPE_CHECKING:
    from torch import nn

_ANY = "any"
PART_SECONDS = 2.0
"""Finished batches wait at most this long before they are stored."""


def score_model(model: nn.Module, run_id: str, adapter: str, context: CohortContext) -> None:
    """Scores a model on every prepared task that is not answered yet."""
    engine = Engine(model, context.base)
    if context.engine is not None:
        context.engine.score_run(engine, run_id, adapter, context)
        return
    written: set[int] = set()
    if context.looks is None:
        for group in together(context.prepared):
            written |= {id(p) for p in group}
            _write(engine, group, run_id, adapter, context)
    for prepared in context.prepared:
        if id(prepared) in written:
            continue
        spec = evaluation_spec(prepared, run_id, adapter)
        ruled = _ruled(spec, prepared.limit, context.store, context.looks)
        if _is_answered(prepared, spec, ruled, context.store):
            continue
        facts = evaluation_facts(prepared)
        if ruled is not None:
            # Imported by those who look: nothing else in a run needs scipy's solvers.
            from maple.run.look_scoring import score_in_looks

            score = partial(_score_some, engine, prepared, ruled, context)
            score_in_looks(prepared, ruled, score, facts, context)
            continue
        context.store.write_prompts(prepared.prompts_id, prepared.prompts)
        stored = context.store.begin_evaluation(spec, facts)
        _score_task(engine, prepared, spec, stored, context)


def _write(
    engine: Engine,
    group: Sequence[PreparedTask],
    run_id: str,
    adapter: str,
    context: CohortContext,
) -> None:
    """Answers a group of tasks whose answers are written."""
    store, tasks = context.store, []
    for prepared in group:
        spec = evaluation_spec(prepared, run_id, adapter)
        if store.has_all(spec.id, len(prepared.sample_ids)):
            tasks.append(Writing(prepared, spec, set(prepared.sample_ids), is_open=False))
            continue
        store.write_prompts(prepared.prompts_id, prepared.prompts)
        stored = store.begin_evaluation(spec, evaluation_facts(prepared))
        tasks.append(Writing(prepared, spec, stored, is_open=True))
    if any(t.is_open for t in tasks):
        score_written(engine, tasks, store, context.progress)


def evaluation_facts(prepared: PreparedTask) -> dict[str, Any]:
    """What is stored of an evaluation beside its identity."""
    info = prepared.task.info
    return {
        "prompts": prepared.prompts_id,
        "chance_level": info.chance_level,
        "headline": info.headline,
        "is_judged": info.is_judged,
        "available": prepared.available,
        **_tools(prepared),
    }


def _tools(prepared: PreparedTask) -> dict[str, str]:
    """What cuts and identifies generated text, with versions: scores and checks depend on them."""
    if not prepared.generates:
        return {}
    language = prepared.samples[0].fields.get("language", prepared.language)
    return {"segmenter": segment.describe(language), "identifier": checks.describe()}


def is_scored(run_id: str, adapter: str, context: CohortContext) -> bool:
    """Whether every prepared task of a run is answered, so that its adapter need not be loaded."""
    specs = [(p, evaluation_spec(p, run_id, adapter)) for p in context.prepared]
    return all(
        _is_answered(p, s, _ruled(s, p.limit, context.store, context.looks), context.store)
        for p, s in specs
    )


def _is_answered(
    prepared: PreparedTask, plain: EvalSpec, ruled: EvalSpec | None, store: StoreWriter
) -> bool:
    """Whether a task is scored: wholly, or up to the look that decided it."""
    if store.has_all(plain.id, len(prepared.sample_ids)):
        return True
    return ruled is not None and store.has_all(ruled.id, 1)


def _ruled(
    plain: EvalSpec, limit: int | None, store: StoreWriter, looks: EarlyLooks | None
) -> EvalSpec | None:
    """The specification with the rule it may be stopped by; None where nothing is looked at."""
    return looks.ruled(plain, limit, store) if looks else None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One task in one language that a complete run has answered, whichever run it is."""

    evaluation: EvalSpec
    """With ``_ANY`` run and adapter."""
    limit: int | None


def expected_evaluations(
    wanted: Sequence[TaskRequest], prompt: PromptSettings, files: Files
) -> list[Expected]:
    """Tells what will be asked of every run, without any base's tokenizer."""
    ranked = DecodingSettings()
    found = []
    for request in wanted:
        task = load_task(request.task)
        split = request.split or task.info.split
        asked = heeded(task, prompt)
        paths = read_paths(task, files, request.language, split, asked)
        spec = EvalSpec(
            run_id=_ANY,
            adapter=_ANY,
            task=request.task,
            task_version=task.info.version,
            language=request.language,
            data=files.fingerprint(paths),
            split=split,
            prompt=asked,
            decoding=request.decoding if _generates(request, asked, files) else ranked,
            engine=request.engine,
        )
        found.append(Expected(evaluation=spec, limit=request.limit))
    return found


def is_complete(
    run: RunSpec,
    expected: Sequence[Expected],
    store: StoreWriter,
    looks: EarlyLooks | None = None,
) -> bool:
    """Whether nothing is left to do for a run, told without loading its base."""
    if not store.is_run_done(run.id) or store.has_failed(run.id):
        return False
    own = {"run_id": run.id, "adapter": adapter_hash(run, store)}
    return all(
        _is_covered(e.evaluation.model_copy(update=own), e.limit, store, looks) for e in expected
    )


def _is_covered(
    plain: EvalSpec, limit: int | None, store: StoreWriter, looks: EarlyLooks | None
) -> bool:
    if store.covers(plain.id, limit):
        return True
    ruled = _ruled(plain, limit, store, looks)
    return ruled is not None and store.covers(ruled.id, limit)


def _generates(wanted: TaskRequest, prompt: PromptSettings, files: Files) -> bool:
    task = load_task(wanted.task)
    samples = task.samples(files, wanted.language, wanted.split or task.info.split)
    request = task.request(next(iter(samples)), wanted.language, prompt)
    return isinstance(request, GenerationRequest)


def evaluation_spec(prepared: PreparedTask, run_id: str, adapter: str) -> EvalSpec:
    """The identity of one model's answers to one prepared task."""
    return EvalSpec(
        run_id=run_id,
        adapter=adapter,
        task=prepared.name,
        task_version=prepared.task.info.version,
        language=prepared.language,
        data=prepared.data,
        split=prepared.split,
        prompt=prepared.prompt,
        # Decoding settings do not touch a ranking, so they are no part of its identity.
        decoding=prepared.decoding if prepared.generates else DecodingSettings(),
        engine=prepared.engine,
    )


def _score_task(
    engine: Engine,
    prepared: PreparedTask,
    spec: EvalSpec,
    stored: set[str],
    context: CohortContext,
) -> None:
    total = len(prepared.samples)
    done = len(stored & set(prepared.sample_ids))
    context.progress.begin(f"{prepared.name} {prepared.language}", total, "samples", done=done)
    began = time.monotonic()
    value = _score_some(engine, prepared, spec, context, stored=stored)
    seconds = time.monotonic() - began
    context.store.finish_evaluation(spec.id, samples=total, limit=prepared.limit, seconds=seconds)
    info, count = prepared.task.info, total - done
    mean = f"{info.headline} {value / max(1, count):.3f}"
    context.progress.end(f"{count} outputs" if info.is_judged else mean)


def _score_some(
    engine: Engine,
    prepared: PreparedTask,
    spec: EvalSpec,
    context: CohortContext,
    *,
    stored: set[str],
    among: Sequence[int] | None = None,
) -> float:
    """Scores and stores what is missing among those samples (None: all); the sum of its scores."""
    waiting: list[SampleRecord] = []
    value = 0.0
    said = time.monotonic()
    for rows in score_batches(
        engine, prepared, eval_id=spec.id, run_id=spec.run_id, stored=stored, among=among
    ):
        waiting += rows
        value += sum(r.score for r in rows)
        context.progress.advance(len(rows))
        if time.monotonic() - said >= PART_SECONDS:
            context.store.add_samples(spec.id, waiting)
            waiting, said = [], time.monotonic()
    context.store.add_samples(spec.id, waiting)
    return value

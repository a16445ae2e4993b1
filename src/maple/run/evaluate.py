"""Any model and any adapters on any task and language, without a study file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from maple.base import LoadedBase, describe_machine
from maple.catalog import load_method, load_quantizer
from maple.catalog.contracts import Method
from maple.errors import SourceError, StoreError, UsageError
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import TaskRequest
from maple.files import Files
from maple.plan import Evaluation, Resolver
from maple.run.adapters import check_match, detach, load_alive, read_card, refuse
from maple.run.cohort import attempt, load_model, prepare_tasks
from maple.run.context import CohortContext
from maple.run.early_look import EarlyLooks, early_looks
from maple.run.local import StudyOutcome
from maple.run.optional import chat_conflict, open_engine
from maple.run.progress import Progress
from maple.run.scoring import is_scored, score_model
from maple.run.shared_scoring import Subject, share_scoring
from maple.store.write import StoreWriter, open_for_writing, sha256_of_directory
from maple.study import (
    DecodingSettings,
    EarlyLook,
    EngineSettings,
    MethodRef,
    ModelRef,
    PromptSettings,
    RunSpec,
)
from maple.study.early_look import BASE

_Scored = tuple[RunSpec, tuple[Path, dict[str, Any]] | None]
"""A run, and the adapter's directory and card; None: the base alone."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What ``maple eval`` is asked: subjects, tasks, wording."""

    model: str
    adapters: tuple[Path, ...] = ()
    quantization: str | None = None
    """None: what the adapters were trained on, else the checkpoint's own precision."""
    evaluations: tuple[Evaluation, ...] = ()
    prompt: PromptSettings = field(default_factory=PromptSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    split: str | None = None
    limit: int | None = None
    batch_size: int | None = None
    allow_mismatch: bool = False
    share_passes: bool | None = None
    """Whether low-rank adapters rank in shared passes; None: where it gains and changes nothing."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    tokenizer: str | None = None
    """Of a model that only an endpoint has: directory or Hub repository; None: it takes text."""
    early_look: EarlyLook | None = None
    """Leave a task off once an adapter's comparison is decided; None: never."""


def evaluate_models(
    request: EvaluationRequest, files: Files, out: Path, *, progress: Progress
) -> StudyOutcome:
    """Scores the base, or each adapter on it, with one loaded base.

    Raises:
        MismatchError: an adapter of another base or other bits, unless allowed.
        SourceError: a directory that is no adapter; a model that cannot be had.
        UsageError: an engine that cannot serve what is asked.
    """
    check_engine(request)
    cards = [(path, read_card(path)) for path in request.adapters]
    model = resolve_model(ModelRef(name=request.model), files)
    quantization = chosen_quantization(request, [card for _, card in cards], model, files)
    mismatches = [check_match(card, model, quantization) for _, card in cards]
    for path, mismatch in zip(request.adapters, mismatches, strict=True):
        if mismatch and not request.allow_mismatch:
            raise refuse(path, mismatch)
        if mismatch:
            progress.say(f"note: adapter {path} was {mismatch}")
    runs = [_subject(c, p, model, quantization, m)
            for (p, c), m in zip(cards, mismatches, strict=True)]  # fmt: skip
    untouched = RunSpec(model=model, method=MethodRef(name="none"), quantization=quantization)
    subjects: list[_Scored] = list(zip(runs, cards, strict=True)) or [(untouched, None)]
    subjects, looks = _with_looks(request, untouched, subjects)
    runs = [run for run, _ in subjects]
    with open_for_writing(out) as store, progress:
        store.write_study(study_content(request, runs, load_quantizer(quantization).bits))
        base = load_model(model, quantization, files)
        context = _context(request, base, files, store, progress)
        ranks = [int(run.method.parameters.get("rank") or 0) for run in runs]
        context.engine = open_engine(
            request.engine, model, files, quantization=quantization, max_rank=max(ranks)
        )
        if looks is not None:
            context.looks = looks
            progress.say(looks.statement)
        environment = describe_machine(base.device)
        if looks is None:
            _share(request, runs, cards, context, environment)
        tried = []
        for run, subject in subjects:
            progress.say(run.label)
            store.begin_run(run, environment)
            tried.append(attempt(run, partial(_score, run, subject, context), store, progress))
    failures = [failure for failure in tried if failure is not None]
    return StudyOutcome(out, len(runs) - len(failures), tuple(failures))


def _with_looks(
    request: EvaluationRequest, untouched: RunSpec, subjects: list[_Scored]
) -> tuple[list[_Scored], EarlyLooks | None]:
    """What is scored, in order: first what the others are compared with, if they are."""
    settings = request.early_look
    if settings is None:
        return subjects, None
    adapters = [(run, subject) for run, subject in subjects if subject is not None]
    if settings.against == BASE:
        first: _Scored | None = (untouched, None)
    else:
        named = Path(settings.against).resolve()
        first = next((s for s in adapters if s[1][0].resolve() == named), None)
    if first is None:
        raise UsageError(
            f"--early-look-against is {settings.against!r}, and no --adapter is: name one of the "
            "adapters that are scored, or base."
        )
    rest: list[_Scored] = [s for s in adapters if s[0].id != first[0].id]
    if not rest:
        raise UsageError(
            "--early-look compares adapters with the base or with one of them: name at least one "
            "--adapter to compare."
        )
    looks = early_looks(
        settings,
        {run.id: first[0] for run, _ in rest},
        [e.task for e in request.evaluations],
        adapters={run.id: sha256_of_directory(subject[0]) for run, subject in adapters},
    )
    return [first, *rest], looks


def resolve_model(model: ModelRef, files: Files) -> ModelRef:
    """The model with its commit, so that a first and a second call mean the same run."""
    resolver = Resolver(files)
    if resolver.model_directory(model) is None:
        files.hub.resolve_model(model.name, model.revision)
    return resolver.model(model)


def _score(
    run: RunSpec, subject: tuple[Path, dict[str, Any]] | None, context: CohortContext
) -> None:
    if subject is None:
        score_model(context.base.model, run.id, "none", context)
        context.store.finish_run(run.id, None, [])
        return
    path, card = subject
    if context.engine is not None:
        context.engine.directories[run.id] = path
    adapter = sha256_of_directory(path)
    if context.engine is not None or not is_scored(run.id, adapter, context):
        model = load_alive(adapter_method(card), path, str(path), context)
        try:
            score_model(model, run.id, adapter, context)
        finally:
            detach(model, context.base)
    context.store.finish_run(run.id, None, [])


def _share(
    request: EvaluationRequest,
    runs: Sequence[RunSpec],
    cards: Sequence[tuple[Path, dict[str, Any]]],
    context: CohortContext,
    environment: dict[str, Any],
) -> None:
    """Scores in shared passes what gains by it, or was asked to; a break leaves the rest."""
    subjects = [
        Subject(run.id, sha256_of_directory(path), str(path), adapter_method(card), path)
        for run, (path, card) in zip(runs, cards, strict=False)
    ]
    if len(subjects) < 2:
        return
    for run in runs:
        context.store.begin_run(run, environment)
    try:
        share_scoring(subjects, context, asked=request.share_passes)
    except StoreError:
        raise
    except Exception as error:
        context.progress.say(f"shared passes broke off, adapters go on in turn: {error}")


def adapter_method(card: dict[str, Any]) -> Method:
    """The catalog's method where the adapter is ours; any PEFT directory loads like LoRA's."""
    if "run_id" in card:
        return load_method(card["method"]["name"], card["method"]["parameters"])
    return load_method("lora")


def _subject(
    card: dict[str, Any], path: Path, model: ModelRef, quantization: str, mismatch: str | None
) -> RunSpec:
    method = card["method"]
    shown = {k: v for k, v in method["parameters"].items() if k == "rank" and v is not None}
    parameters = {**shown, "adapter": sha256_of_directory(path)[:16]}
    if mismatch:
        parameters["mismatch"] = mismatch
    return RunSpec(
        model=model,
        method=MethodRef(name=method["name"], parameters=parameters),
        quantization=quantization,
    )


def chosen_quantization(
    request: EvaluationRequest, cards: list[dict[str, Any]], model: ModelRef, files: Files
) -> str:
    """The quantizer asked for, else what the adapters were trained on, else the checkpoint's.

    Raises:
        CatalogError: no quantizer has the name asked for.
        SourceError: adapters that were trained on different bits.
    """
    if request.quantization:
        load_quantizer(request.quantization)
        return request.quantization
    trained = {card["quantization"] for card in cards if card.get("quantization")}
    if len(trained) > 1:
        raise SourceError(
            f"the adapters were trained on different bits ({', '.join(sorted(trained))}), and one "
            "base is loaded for all: score them in one call per quantization."
        )
    if trained:
        return str(trained.pop())
    resolver = Resolver(files)
    if resolver.model_directory(model) is None:
        files.hub.snapshot(model.name, model.revision)
    config = resolver.model_config(resolver.model(model)) or {}
    return "fp32" if str(config.get("dtype", config.get("torch_dtype"))) == "float32" else "bf16"


def _context(
    request: EvaluationRequest,
    base: LoadedBase,
    files: Files,
    store: StoreWriter,
    progress: Progress,
) -> CohortContext:
    encoder = Encoder(base.tokenizer, base.family, request.prompt, max_length=base.max_length)
    wanted = [wanted_of(request, e.task, e.language) for e in request.evaluations]
    prepared = prepare_tasks(wanted, files, encoder, request.batch_size, progress=progress)
    return CohortContext(base=base, files=files, store=store, progress=progress, prepared=prepared)


def wanted_of(request: EvaluationRequest, task: str, language: str) -> TaskRequest:
    """One task and language of a request, as it is prepared."""
    return TaskRequest(
        task=task,
        language=language,
        split=request.split,
        limit=request.limit,
        decoding=request.decoding,
        engine=request.engine.identity,
    )


def check_engine(request: EvaluationRequest) -> None:
    """Refuses what an engine cannot be asked.

    Raises:
        UsageError: several adapters at one endpoint; a chat endpoint under another template; an
            early look with another engine or shared passes.
    """
    if request.early_look and (request.engine.name != "reference" or request.share_passes):
        raise UsageError(
            "--early-look ends each adapter's scoring at a look of its own: leave --engine and "
            "--share-passes out with it."
        )
    if request.engine.name == "openai" and len(request.adapters) > 1:
        raise UsageError(
            "an endpoint serves each adapter under a name of its own: score one --adapter a call, "
            "with its --engine-model."
        )
    if (conflict := chat_conflict(request.engine, request.prompt)) is not None:
        raise UsageError(conflict)


def study_content(
    request: EvaluationRequest, runs: Sequence[RunSpec], bits: int | None
) -> dict[str, Any]:
    """What ``study.json`` keeps of a call; ``bits`` per weight, None where they are not known."""
    return {
        "name": "eval",
        "study": {"name": "eval", "models": [request.model]},
        "cells": [
            {
                "run_id": run.id,
                "label": run.label,
                "model": run.model.name,
                "method": run.method.name,
                "parameters": run.method.parameters,
                "quantization": run.quantization,
                "bits": bits,
                "mixture": None,
                "seed": run.seed,
                "stands_for": 1,
            }
            for run in runs
        ],
        "skipped": [],
        "evaluations": [asdict(e) for e in request.evaluations],
        "missing": [],
        "prompt": request.prompt.model_dump(mode="json"),
        "limit": request.limit,
    }

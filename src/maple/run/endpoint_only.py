"""A model that exists only behind an endpoint: scored like any run, with no reference to hold it
against, and the record says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from maple.base import describe_machine, select_device
from maple.catalog import load_family
from maple.engines import TextEncoder
from maple.errors import SourceError, UsageError
from maple.evaluate.encode import Encoder
from maple.files import Files
from maple.run.cohort import attempt, prepare_tasks
from maple.run.engines import Place, Subject
from maple.run.evaluate import EvaluationRequest, check_engine, study_content, wanted_of
from maple.run.local import StudyOutcome
from maple.run.optional import Endpoint
from maple.run.progress import Progress
from maple.store.write import open_for_writing
from maple.study import MethodRef, ModelRef, RunSpec

BITS = "endpoint"
"""What stands for a quantization where nobody says what the weights are held in."""
_ANY_LENGTH = 1 << 20
"""Above this a tokenizer's length is a placeholder, and the server knows its model's own."""


def evaluate_endpoint(
    request: EvaluationRequest, files: Files, out: Path, *, progress: Progress
) -> StudyOutcome:
    """Scores a model by what its endpoint answers.

    Args:
        request: tasks, wording and engine; its model is a name, and nothing is loaded.
        files: where benchmarks come from.
        out: the store.
        progress: where to show what happens.

    Returns:
        The outcome; a run with a refused task is stored as failed, its other tasks are scored.

    Raises:
        UsageError: adapters or bits of a model that is not here; token ids without a tokenizer.
        SourceError: the tokenizer cannot be had.
    """
    check_engine(request)
    _check(request)
    encoder = _encoder(request)
    endpoint = Endpoint(request.engine, request.model)
    run = RunSpec(
        model=ModelRef(name=request.model), method=MethodRef(name="none"), quantization=BITS
    )
    try:
        with open_for_writing(out) as store, progress:
            store.write_study(study_content(request, [run], None))
            wanted = [wanted_of(request, e.task, e.language) for e in request.evaluations]
            prepared = prepare_tasks(wanted, files, encoder)
            progress.say(f"{run.label}: not audited against the reference engine")
            place = Place(files=files, store=store, progress=progress, prepared=prepared)
            environment = describe_machine(select_device())
            store.begin_run(run, environment | {"engine": endpoint.describe()})
            failure = attempt(run, partial(_score, run, endpoint, place), store, progress)
    finally:
        endpoint.close()
    failures = () if failure is None else (failure,)
    return StudyOutcome(out, 1 - len(failures), failures)


def _score(run: RunSpec, endpoint: Endpoint, place: Place) -> None:
    endpoint.score(Subject(run_id=run.id, adapter="none"), None, place)
    place.store.finish_run(run.id, None, [])


def _check(request: EvaluationRequest) -> None:
    if request.engine.name != "openai":
        raise UsageError(
            "--no-reference is for a model that only an endpoint has: pass --engine openai with it."
        )
    if request.adapters or request.quantization:
        raise UsageError(
            "--no-reference scores the model that an endpoint serves as it serves it: leave "
            "--adapter and --quantization out, or leave --no-reference out to have them audited."
        )
    if request.engine.api == "tokens" and request.tokenizer is None:
        raise UsageError(
            "token ids cannot be sent without the model's tokenizer: name it by --tokenizer "
            "(a directory or Hub repository), or pass --engine-api text or chat."
        )


def _encoder(request: EvaluationRequest) -> Encoder:
    if request.engine.api != "tokens":
        return TextEncoder(request.prompt, is_chat=request.engine.api == "chat")
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(request.tokenizer)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"the tokenizer {request.tokenizer!r} cannot be loaded: {error}"
        ) from error
    length = int(tokenizer.model_max_length)
    return Encoder(
        tokenizer,
        load_family("generic"),
        request.prompt,
        max_length=length if length < _ANY_LENGTH else _ANY_LENGTH,
    )

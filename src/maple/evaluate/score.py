"""A prepared task through an engine; what is finished comes back as sample rows.

Rankings go batch by batch. Prompts to continue go to the engine all at once, and their answers come
back as they finish.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    RankingResponse,
    Request,
    Response,
)
from maple.evaluate.batches import ranking_batches
from maple.evaluate.checks import check_output
from maple.evaluate.encode import EncodedOption, EncodedRequest
from maple.evaluate.generation import Limits
from maple.evaluate.prepare import PreparedTask
from maple.evaluate.protocol import ScoringEngine
from maple.records import SampleRecord


def score_batches(
    engine: ScoringEngine,
    prepared: PreparedTask,
    *,
    eval_id: str,
    run_id: str,
    stored: Container[str] = frozenset(),
    among: Sequence[int] | None = None,
) -> Iterator[list[SampleRecord]]:
    """Yields rows as they are finished, leaving out what is stored.

    A batch of rankings none of whose samples is missing is not run. One with some missing is run on
    those alone; since the batches do not depend on what is stored, that happens only after a change
    of ``limit``, and a plain resume repeats an uninterrupted run's batches exactly.

    Samples that ``among`` names by index are scored as if there were no others; None: all are.
    """
    if prepared.generates:
        asked = range(len(prepared.sample_ids)) if among is None else among
        missing = [i for i in asked if prepared.sample_ids[i] not in stored]
        for index, response in _generated(engine, prepared, missing):
            yield [_record(prepared, index, response, eval_id, run_id)]
        return
    alone: dict[EncodedOption, float] | None = None
    for batch in prepared.batches if among is None else _batches_among(prepared, among):
        wanted = [i for i in batch if prepared.sample_ids[i] not in stored]
        if not wanted:
            continue
        if alone is None:
            alone = _score_alone(engine, prepared)
        encoded = [prepared.encoded[i] for i in wanted]
        responses = _ranked(engine, encoded, alone)
        yield [
            _record(prepared, index, response, eval_id, run_id)
            for index, response in zip(wanted, responses, strict=True)
        ]


def _batches_among(prepared: PreparedTask, among: Sequence[int]) -> list[list[int]]:
    """Batches of some rankings alone, as full as those of the whole task are."""
    made = ranking_batches(
        [prepared.encoded[i] for i in among],
        max_tokens=prepared.max_tokens,
        max_requests=prepared.max_requests,
    )
    return [[among[i] for i in batch] for batch in made]


def _score_alone(engine: ScoringEngine, prepared: PreparedTask) -> dict[EncodedOption, float]:
    """Log-likelihood of each option without its context: few, since labels and letters repeat."""
    found: dict[EncodedOption, float] = {}
    for batch in prepared.alone:
        # A request each: as branches of one row they would share a BOS and pay for a wide mask.
        responses = engine.loglikelihoods([EncodedRequest(options=(o,)) for o in batch])
        found |= {o: r.loglikelihoods[0] for o, r in zip(batch, responses, strict=True)}
    return found


def _ranked(
    engine: ScoringEngine, encoded: list[EncodedRequest], alone: Mapping[EncodedOption, float]
) -> Sequence[Response]:
    return [
        replace(response, unconditional=tuple(alone[o] for o in request.unconditional))
        for request, response in zip(encoded, engine.loglikelihoods(encoded), strict=True)
    ]


@dataclass(frozen=True)
class Written:
    """A task whose answers are written, as one of several in a stream."""

    prepared: PreparedTask
    eval_id: str
    run_id: str
    stored: Container[str]
    """Names of samples that are answered already."""


def write_answers(
    engine: Streams, tasks: Sequence[Written]
) -> Iterator[tuple[int, SampleRecord, int]]:
    """Answers what is missing of several tasks in one stream.

    Which prompts are read together depends on the tasks alone, not on what is stored.

    Yields:
        The task's place, the row, and the tokens of its prompt and answer; as they finish.
    """
    places = [(n, i) for n, t in enumerate(tasks) for i in range(len(t.prepared.sample_ids))]
    wanted = [
        place
        for place, (n, i) in enumerate(places)
        if tasks[n].prepared.sample_ids[i] not in tasks[n].stored
    ]
    if not wanted:
        return
    encoded = [request for t in tasks for request in t.prepared.encoded]
    limits = _limits(tasks[0].prepared)
    for place, answer in engine.generate_stream(encoded, limits=limits, wanted=wanted):
        n, index = places[place]
        task = tasks[n]
        row = _record(task.prepared, index, answer, task.eval_id, task.run_id)
        yield n, row, len(encoded[place].prompt) + answer.n_tokens


def _limits(prepared: PreparedTask) -> Limits:
    return Limits(max_tokens=prepared.max_tokens, max_requests=prepared.max_requests)


@runtime_checkable
class Streams(Protocol):
    """An engine that takes all prompts at once and answers each as it is finished."""

    def generate_stream(
        self,
        requests: Sequence[EncodedRequest],
        *,
        limits: Limits | None = None,
        wanted: Collection[int] | None = None,
    ) -> Iterator[tuple[int, GenerationResponse]]:
        """Continues prompts; yields places in ``requests`` and answers, as they finish."""
        ...


def _generated(
    engine: ScoringEngine, prepared: PreparedTask, wanted: Sequence[int]
) -> Iterator[tuple[int, GenerationResponse]]:
    """Answers of those samples, by index, as they finish."""
    if isinstance(engine, Streams):
        limits = _limits(prepared)
        # Some prompts are read together: which, must not depend on what is stored.
        yield from engine.generate_stream(list(prepared.encoded), limits=limits, wanted=wanted)
        return
    missing = set(wanted)
    for batch in prepared.batches:
        left = [i for i in batch if i in missing]
        if left:
            yield from zip(left, engine.generate([prepared.encoded[i] for i in left]), strict=True)


def _record(
    prepared: PreparedTask, index: int, response: Response, eval_id: str, run_id: str
) -> SampleRecord:
    sample = prepared.samples[index]
    score = prepared.task.score(sample, prepared.requests[index], response)
    shared = SampleRecord(
        eval_id=eval_id,
        run_id=run_id,
        task=prepared.name,
        language=prepared.language,
        sample_id=sample.id,
        prompt_hash=prepared.prompt_hash(index),
        gold=sample.gold,
        prediction=score.prediction,
        score=score.value,
        metrics=dict(score.metrics),
    )
    if isinstance(response, GenerationResponse):
        request = prepared.requests[index]
        found = check_output(
            response.text,
            # Of a question in another language than its passage the answer is in the passage's.
            language=sample.fields.get("language", prepared.language),
            finish=response.finish,
            context=request.context,
            gold=_accepted(request, sample.gold),
            was_extracted=score.was_extracted,
            has_choices=isinstance(request, GenerationRequest) and bool(request.choices),
        )
        shared = replace(shared, checks=found)
    return _with_response(shared, response)


def _accepted(request: Request, gold: Sequence[str]) -> Sequence[str]:
    """What a right answer says: of a choice, the option and not its number."""
    if isinstance(request, GenerationRequest) and request.choices:
        return request.choices[int(gold[0])].texts
    return gold


def _with_response(record: SampleRecord, response: Response) -> SampleRecord:
    if isinstance(response, RankingResponse):
        return replace(
            record,
            loglikelihoods=response.loglikelihoods,
            is_greedy=response.is_greedy,
            n_tokens=response.n_tokens,
            unconditional=response.unconditional,
        )
    return replace(
        record, text=response.text, finish=response.finish, n_tokens=(response.n_tokens,)
    )

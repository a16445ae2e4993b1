"""A prepared task through an engine: batch by batch, each batch finished as sample rows."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    RankingResponse,
    Request,
    Response,
)
from maple.evaluate.checks import check_output
from maple.evaluate.encode import EncodedOption, EncodedRequest
from maple.evaluate.engine import Engine
from maple.evaluate.prepare import PreparedTask
from maple.records import SampleRecord


def score_batches(
    engine: Engine,
    prepared: PreparedTask,
    *,
    eval_id: str,
    run_id: str,
    stored: Container[str] = frozenset(),
) -> Iterator[list[SampleRecord]]:
    """Yields the rows of each batch as it is finished, leaving out what is stored.

    A batch none of whose samples is missing is not run. One with some missing is run on those
    alone; since the batches do not depend on what is stored, that happens only after a change
    of ``limit``, and a plain resume repeats an uninterrupted run's batches exactly.
    """
    alone: dict[EncodedOption, float] | None = None
    for batch in prepared.batches:
        wanted = [i for i in batch if prepared.samples[i].id not in stored]
        if not wanted:
            continue
        if alone is None:
            alone = _score_alone(engine, prepared)
        encoded = [prepared.encoded[i] for i in wanted]
        responses = _answer(engine, encoded, alone)
        yield [
            _record(prepared, index, response, eval_id, run_id)
            for index, response in zip(wanted, responses, strict=True)
        ]


def _score_alone(engine: Engine, prepared: PreparedTask) -> dict[EncodedOption, float]:
    """Log-likelihood of each option without its context: few, since labels and letters repeat."""
    found: dict[EncodedOption, float] = {}
    for batch in prepared.alone:
        # A request each: as branches of one row they would share a BOS and pay for a wide mask.
        responses = engine.loglikelihoods([EncodedRequest(options=(o,)) for o in batch])
        found |= {o: r.loglikelihoods[0] for o, r in zip(batch, responses, strict=True)}
    return found


def _answer(
    engine: Engine, encoded: list[EncodedRequest], alone: Mapping[EncodedOption, float]
) -> Sequence[Response]:
    if not encoded[0].options:
        return engine.generate(encoded)
    return [
        replace(response, unconditional=tuple(alone[o] for o in request.unconditional))
        for request, response in zip(encoded, engine.loglikelihoods(encoded), strict=True)
    ]


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
        prompt_hash=prepared.prompts[index].prompt_hash,
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

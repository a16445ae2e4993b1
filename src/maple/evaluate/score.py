"""A prepared task through an engine: batch by batch, each batch finished as sample rows."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

from maple.catalog.contracts import RankingResponse, Response
from maple.evaluate.encode import EncodedRequest
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
    for batch in prepared.batches:
        wanted = [i for i in batch if prepared.samples[i].id not in stored]
        if not wanted:
            continue
        encoded = [prepared.encoded[i] for i in wanted]
        responses = _answer(engine, encoded)
        yield [
            _record(prepared, index, response, eval_id, run_id)
            for index, response in zip(wanted, responses, strict=True)
        ]


def _answer(engine: Engine, encoded: list[EncodedRequest]) -> Sequence[Response]:
    if encoded[0].options:
        return engine.loglikelihoods(encoded)
    return engine.generate(encoded)


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
    return _with_response(shared, response)


def _with_response(record: SampleRecord, response: Response) -> SampleRecord:
    if isinstance(response, RankingResponse):
        return replace(
            record,
            loglikelihoods=response.loglikelihoods,
            is_greedy=response.is_greedy,
            n_tokens=response.n_tokens,
        )
    return replace(
        record, text=response.text, finish=response.finish, n_tokens=(response.n_tokens,)
    )

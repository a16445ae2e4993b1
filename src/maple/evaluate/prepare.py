"""Samples -> worded, encoded and batched requests: once per task and language, for all runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from maple.catalog import load_task
from maple.catalog.contracts import RankingRequest, Request, Sample, Task
from maple.errors import DataError
from maple.evaluate.batches import token_budget_batches
from maple.evaluate.encode import EncodedRequest, Encoder
from maple.files import Files
from maple.records import PromptRecord
from maple.study import DecodingSettings, PromptSettings, content_id


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """A task in one language, ready for any model with the same tokenizer."""

    name: str
    task: Task
    language: str
    split: str
    data: str
    """Identity of the files read."""
    prompt: PromptSettings
    decoding: DecodingSettings
    limit: int | None
    samples: tuple[Sample, ...]
    requests: tuple[Request, ...]
    encoded: tuple[EncodedRequest, ...]
    prompts: tuple[PromptRecord, ...]
    batches: tuple[tuple[int, ...], ...]
    """Indices of samples per forward pass."""
    available: int | None
    """Items in the split as upstream declares, where it does."""

    @property
    def prompts_id(self) -> str:
        """Content hash of everything a model is shown."""
        return content_id({"prompts": [p.prompt_hash for p in self.prompts]})


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """What to prepare: a task, a language, a split and how many samples of it."""

    task: str
    language: str
    split: str | None = None
    limit: int | None = None
    decoding: DecodingSettings = field(default_factory=DecodingSettings)


def prepare_task(
    wanted: TaskRequest,
    files: Files,
    encoder: Encoder,
    *,
    max_tokens: int,
    max_requests: int | None = None,
) -> PreparedTask:
    """Reads, words, encodes and batches one task in one language.

    Args:
        wanted: task, language, split, limit, decoding.
        files: where the benchmark's bytes come from.
        encoder: the tokenizer, template and length limit.
        max_tokens: padded tokens of one forward pass.
        max_requests: requests of one forward pass at most.

    Raises:
        DataError: a broken file, or one without samples.
        SourceError: a file that cannot be had.
    """
    task = load_task(wanted.task)
    split = wanted.split or task.info.split
    paths = task.paths(files, wanted.language, split)
    samples = tuple(islice(task.samples(files, wanted.language, split), wanted.limit))
    if not samples:
        raise DataError(f"{paths[0]}: {wanted.task} has no sample in {wanted.language}, {split}.")
    requests = tuple(task.request(s, wanted.language, encoder.prompt) for s in samples)
    encoded = tuple(_encode(encoder, r, wanted.decoding) for r in requests)
    batches = token_budget_batches(
        [e.width for e in encoded],
        [max(1, len(e.options)) for e in encoded],
        max_tokens=max_tokens,
        max_requests=max_requests,
    )
    return PreparedTask(
        name=wanted.task,
        task=task,
        language=wanted.language,
        split=split,
        data=files.fingerprint(paths),
        prompt=encoder.prompt,
        decoding=wanted.decoding,
        limit=wanted.limit,
        samples=samples,
        requests=requests,
        encoded=encoded,
        prompts=tuple(_prompt_records(samples, requests, encoder)),
        batches=tuple(tuple(b) for b in batches),
        available=task.info.declared(split, wanted.language),
    )


def _encode(encoder: Encoder, request: Request, decoding: DecodingSettings) -> EncodedRequest:
    if isinstance(request, RankingRequest):
        return encoder.ranking(request)
    return encoder.generation(request, decoding.max_new_tokens)


def _prompt_records(
    samples: Iterable[Sample], requests: Iterable[Request], encoder: Encoder
) -> Iterable[PromptRecord]:
    for sample, request in zip(samples, requests, strict=True):
        context, continuations = encoder.texts(request)
        text = "\0".join([sample.id, context, *continuations])
        yield PromptRecord(
            sample_id=sample.id,
            prompt_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
            context=context,
            continuations=continuations,
            gold=sample.gold,
        )

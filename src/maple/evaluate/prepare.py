"""Samples -> worded, encoded and batched requests: once per task and language, for all runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, RankingRequest, Request, Sample, Task
from maple.errors import DataError
from maple.evaluate.batches import token_budget_batches
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.evaluate.shots import add_shots, examples_split
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
    alone: tuple[tuple[EncodedOption, ...], ...]
    """Every option that PMI asks for without its context, once, per forward pass."""
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
    prompt = heeded(task, encoder.prompt)
    paths = read_paths(task, files, wanted.language, split, prompt)
    samples = tuple(islice(task.samples(files, wanted.language, split), wanted.limit))
    if not samples:
        raise DataError(f"{paths[0]}: {wanted.task} has no sample in {wanted.language}, {split}.")
    requests = word_requests(task, samples, files, wanted.language, split, prompt)
    encoded = tuple(_encode(encoder, r, wanted.decoding) for r in requests)
    batches = token_budget_batches(
        [e.width for e in encoded],
        [max(1, len(e.rows)) for e in encoded],
        max_tokens=max_tokens,
        max_requests=max_requests,
    )
    return PreparedTask(
        name=wanted.task,
        task=task,
        language=wanted.language,
        split=split,
        data=files.fingerprint(paths),
        prompt=prompt,
        decoding=wanted.decoding,
        limit=wanted.limit,
        samples=samples,
        requests=requests,
        encoded=encoded,
        prompts=tuple(prompt_records(samples, requests, encoder)),
        batches=tuple(tuple(b) for b in batches),
        alone=_alone(encoded, max_tokens),
        available=task.info.declared(split, wanted.language),
    )


def heeded(task: Task, prompt: PromptSettings) -> PromptSettings:
    """The settings with those at their default that the task does not heed.

    So ``choices`` tells two evaluations of Belebele apart, and not two of XNLI.
    """
    optional = {"choices", "scoring"} - task.info.settings
    return PromptSettings(**prompt.model_dump(exclude=optional))


def read_paths(
    task: Task, files: Files, language: str, split: str, prompt: PromptSettings
) -> list[Path]:
    """The files that a task's samples come from, and its examples where there are any.

    Raises:
        SourceError: a file cannot be had.
    """
    paths = task.paths(files, language, split)
    if prompt.shots:
        paths = [*paths, *task.paths(files, language, examples_split(task, split))]
    return list(dict.fromkeys(paths))


def word_requests(
    task: Task,
    samples: Sequence[Sample],
    files: Files,
    language: str,
    split: str,
    prompt: PromptSettings,
) -> tuple[Request, ...]:
    """Words samples, with the examples before them that the prompt asks for.

    Raises:
        DataError: a broken file, or too few examples.
        SourceError: a file that cannot be had.
        UsageError: the prompt form has no words for that language, or takes no examples.
    """
    requests = [task.request(sample, language, prompt) for sample in samples]
    if prompt.shots:
        source = examples_split(task, split)
        requests = add_shots(
            requests,
            samples,
            list(task.samples(files, language, source)),
            task=task,
            language=language,
            prompt=prompt,
            is_scored=source == split,
        )
    return tuple(requests)


def _alone(
    encoded: Iterable[EncodedRequest], max_tokens: int
) -> tuple[tuple[EncodedOption, ...], ...]:
    options = list(dict.fromkeys(option for e in encoded for option in e.unconditional))
    batches = token_budget_batches(
        [len(option.ids) for option in options], [1] * len(options), max_tokens=max_tokens
    )
    return tuple(tuple(options[i] for i in batch) for batch in batches)


def _encode(encoder: Encoder, request: Request, decoding: DecodingSettings) -> EncodedRequest:
    if isinstance(request, RankingRequest):
        return encoder.ranking(request)
    return encoder.generation(request, decoding.max_new_tokens)


def prompt_records(
    samples: Iterable[Sample], requests: Iterable[Request], encoder: Encoder
) -> Iterable[PromptRecord]:
    """Yields what the model is shown for each sample, with the hash that names it."""
    for sample, request in zip(samples, requests, strict=True):
        context, continuations = encoder.texts(request)
        text = "\0".join([sample.id, context, *continuations])
        yield PromptRecord(
            sample_id=sample.id,
            prompt_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
            context=context,
            continuations=continuations,
            gold=sample.gold,
            stop=request.stop if isinstance(request, GenerationRequest) else None,
            max_new_tokens=getattr(request, "max_new_tokens", None),
        )

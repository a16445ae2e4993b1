"""Samples -> worded, encoded and batched requests: once per task and language, for all runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from maple.catalog import load_task
from maple.catalog.contracts import (
    GenerationRequest,
    RankingRequest,
    Request,
    Sample,
    Task,
)
from maple.errors import DataError
from maple.evaluate.batches import ranking_batches, token_budget_batches
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.evaluate.generation import draw_key
from maple.evaluate.planned import Lazy, RequestTable, TableWriter, Texts
from maple.evaluate.planned_store import RequestStore, request_key
from maple.evaluate.request_plan import RequestPlan
from maple.evaluate.shots import add_shots, examples_split
from maple.files import Files
from maple.records import PromptRecord
from maple.study import DecodingSettings, PromptSettings

T = TypeVar("T")

_ENCODED_AT_ONCE = 256
"""Requests whose texts go to the tokenizer together."""


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """A task in one language, ready for any model with the same tokenizer.

    What belongs to a sample is made when it is asked for, from columns that all processes of this
    machine share: a task that is not being scored takes no memory.
    """

    name: str
    task: Task
    language: str
    split: str
    data: str
    """Identity of the files read."""
    prompt: PromptSettings
    decoding: DecodingSettings
    limit: int | None
    available: int | None
    """Items in the split as upstream declares, where it does."""
    plan: RequestPlan
    max_tokens: int
    """Tokens of one forward pass."""
    max_requests: int | None = None
    """Requests of one forward pass at most."""
    engine: str | None = None
    """As ``EvalSpec`` names it; None: the reference engine."""

    @property
    def prompts_id(self) -> str:
        """Content hash of everything a model is shown."""
        return str(self.plan.meta["prompts"])

    @property
    def generates(self) -> bool:
        """Whether answers are written; else options are ranked."""
        return bool(self.plan.meta["generates"])

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """The samples' names."""
        return self.plan.table().sample_ids

    @property
    def samples(self) -> Sequence[Sample]:
        """The items of the split, up to the limit, in upstream order."""
        return self._lazy(lambda index: self.plan.table().sample(index))

    @property
    def requests(self) -> Sequence[Request]:
        """The samples as they are worded."""
        return self._lazy(lambda index: self.plan.table().request(index))

    @property
    def prompts(self) -> Sequence[PromptRecord]:
        """What a model is shown, a record per sample."""
        return self._lazy(lambda index: self.plan.table().prompt(index))

    @property
    def encoded(self) -> Sequence[EncodedRequest]:
        """The requests as an engine takes them."""
        return self._lazy(self._encoded)

    @property
    def batches(self) -> tuple[tuple[int, ...], ...]:
        """Indices of samples per forward pass."""
        return self.plan.table().batches

    @property
    def alone(self) -> tuple[tuple[EncodedOption, ...], ...]:
        """Every option that PMI asks for without its context, once, per forward pass."""
        table = self.plan.table()
        options = [table.option_alone(number) for number in range(table.n_alone)]
        widths = [len(option.ids) for option in options]
        batches = token_budget_batches(widths, [1] * len(options), max_tokens=self.max_tokens)
        return tuple(tuple(options[i] for i in batch) for batch in batches)

    def prompt_hash(self, index: int) -> str:
        """The hash that names what a model is shown for the sample at a place."""
        return self.plan.table().prompt_hash(index)

    def _encoded(self, index: int) -> EncodedRequest:
        table = self.plan.table()
        encoded = table.encoded(index)
        if encoded.options or not self.decoding.is_drawn:
            return encoded
        key = draw_key(self.name, self.language, table.sample_ids[index])
        return replace(encoded, sampling=self.decoding, draw_key=key)

    def _lazy(self, make: Callable[[int], T]) -> Lazy[T]:
        return Lazy(int(self.plan.meta["samples"]), make)


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """What to prepare: a task, a language, a split and how many samples of it."""

    task: str
    language: str
    split: str | None = None
    limit: int | None = None
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    engine: str | None = None


def prepare_task(
    wanted: TaskRequest,
    files: Files,
    encoder: Encoder,
    *,
    max_tokens: int,
    max_requests: int | None = None,
    store: RequestStore | None = None,
) -> PreparedTask:
    """Reads, words, encodes and batches one task in one language.

    Args:
        wanted: task, language, split, limit, decoding.
        files: where the benchmark's bytes come from.
        encoder: the tokenizer, template and length limit.
        max_tokens: padded tokens of one forward pass.
        max_requests: requests of one forward pass at most.
        store: keeps what is encoded for later; None: it is held in memory.

    Raises:
        DataError: a broken file, or one without samples.
        SourceError: a file that cannot be had.
    """
    prepared = describe_task(
        wanted, files, encoder, max_tokens=max_tokens, max_requests=max_requests, store=store
    )
    prepared.plan.ready(wait=True)
    return prepared


def describe_task(
    wanted: TaskRequest,
    files: Files,
    encoder: Encoder,
    *,
    max_tokens: int,
    max_requests: int | None = None,
    store: RequestStore | None = None,
) -> PreparedTask:
    """As ``prepare_task``, with nothing read but the files' identity: ``plan`` is not ready yet.

    Raises:
        SourceError: a file that cannot be had.
    """
    task = load_task(wanted.task)
    split = wanted.split or task.info.split
    prompt = heeded(task, encoder.prompt)
    paths = read_paths(task, files, wanted.language, split, prompt)
    data = files.fingerprint(paths)

    def make() -> RequestTable:
        return _plan_requests(
            task,
            wanted,
            files,
            encoder,
            split=split,
            prompt=prompt,
            max_tokens=max_tokens,
            max_requests=max_requests,
        )

    key = None
    if store is not None:
        content = _identity(wanted, split, prompt, data)
        content |= {"max_tokens": max_tokens, "max_requests": max_requests}
        key = request_key(task, content, encoder)
    return PreparedTask(
        name=wanted.task,
        task=task,
        language=wanted.language,
        split=split,
        data=data,
        prompt=prompt,
        decoding=wanted.decoding,
        limit=wanted.limit,
        available=task.info.declared(split, wanted.language),
        engine=wanted.engine,
        plan=RequestPlan(make, store, key),
        max_tokens=max_tokens,
        max_requests=max_requests,
    )


def _identity(wanted: TaskRequest, split: str, prompt: PromptSettings, data: str) -> dict[str, Any]:
    return {
        "task": wanted.task,
        "language": wanted.language,
        "split": split,
        "limit": wanted.limit,
        "max_new_tokens": wanted.decoding.max_new_tokens,
        "prompt": prompt.model_dump(mode="json"),
        "data": data,
    }


def _plan_requests(
    task: Task,
    wanted: TaskRequest,
    files: Files,
    encoder: Encoder,
    *,
    split: str,
    prompt: PromptSettings,
    max_tokens: int,
    max_requests: int | None,
) -> RequestTable:
    samples = tuple(islice(task.samples(files, wanted.language, split), wanted.limit))
    if not samples:
        path = task.paths(files, wanted.language, split)[0]
        raise DataError(f"{path}: {wanted.task} has no sample in {wanted.language}, {split}.")
    requests = word_requests(task, samples, files, wanted.language, split, prompt)
    encoded: list[EncodedRequest] = []
    for start in range(0, len(requests), _ENCODED_AT_ONCE):
        part = requests[start : start + _ENCODED_AT_ONCE]
        encoded += encoder.encode(part, wanted.decoding.max_new_tokens)
    writer = TableWriter()
    for each in encoded:
        writer.add(each)
    batches = _batches(encoded, max_tokens=max_tokens, max_requests=max_requests)
    records = prompt_records(samples, requests, encoder)
    texts = [Texts(*each) for each in zip(samples, requests, records, strict=True)]
    return writer.finish(texts, batches)


def _batches(
    encoded: Sequence[EncodedRequest], *, max_tokens: int, max_requests: int | None
) -> list[list[int]]:
    if encoded[0].options:
        return ranking_batches(encoded, max_tokens=max_tokens, max_requests=max_requests)
    widths = [each.width for each in encoded]
    return token_budget_batches(
        widths, [1] * len(widths), max_tokens=max_tokens, max_requests=max_requests
    )


def heeded(task: Task, prompt: PromptSettings) -> PromptSettings:
    """The settings with those at their default that the task does not heed.

    So ``choices`` tells two evaluations of Belebele apart, and not two of XNLI.
    """
    optional = {"choices", "scoring"} - task.info.settings
    # What has a choice between the two ranks; of any other task the request says it.
    if "scoring" not in task.info.settings or prompt.scoring != "ranking":
        optional.add("unconditional")
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
    if not prompt.unconditional:
        requests = [_in_context_alone(request) for request in requests]
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


def _in_context_alone(request: Request) -> Request:
    if isinstance(request, RankingRequest):
        return replace(request, unconditional=False)
    return request


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

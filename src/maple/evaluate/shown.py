"""One sample as a model is shown it: the prompt, the answers to rank, or where to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, Sample
from maple.errors import DataError, UsageError
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import (
    TaskRequest,
    heeded,
    prompt_records,
    read_paths,
    word_requests,
)
from maple.files import Files
from maple.study import PromptSettings


@dataclass(frozen=True, kw_only=True)
class ShownPrompt:
    """What one evaluation puts before a model for one sample, character by character."""

    task: str
    version: int
    language: str
    split: str
    prompt: PromptSettings
    """As the task heeds it."""
    sample_id: str
    place: int
    """Of the sample in its split, counted from 1."""
    n_samples: int
    context: str
    continuations: tuple[str, ...]
    """Texts to rank, the delimiter before each; empty where the model writes the answer."""
    gold: tuple[str, ...]
    """Index of the right option as text, or every accepted answer."""
    stop: tuple[str, ...]
    """Strings that end a generated answer."""
    max_new_tokens: int | None
    """Most tokens of a generated answer; None where options are ranked."""
    choices: tuple[tuple[str, str], ...]
    """Mark and text of each choice that a generated answer is to name one of."""
    prompt_hash: str
    files: tuple[Path, ...]


def show_prompt(
    wanted: TaskRequest, files: Files, encoder: Encoder, *, sample: str | None = None
) -> ShownPrompt:
    """Words one sample as an evaluation would.

    Args:
        wanted: task, canonical language, split.
        files: where the benchmark's bytes come from.
        encoder: holds the prompt's settings; its tokenizer is used by ``chat`` alone.
        sample: the id of a sample, else its place in the split, counted from 1; None: the first.

    Raises:
        DataError: a broken file, or too few examples for the shots.
        SourceError: a file that cannot be had.
        UsageError: no such sample, or the prompt form has no words for the language.
    """
    task = load_task(wanted.task)
    split = wanted.split or task.info.split
    prompt = heeded(task, encoder.prompt)
    samples = list(task.samples(files, wanted.language, split))
    place = _find(samples, sample, f"{wanted.task} in {wanted.language}, {split}")
    chosen = samples[place]
    (request,) = word_requests(task, [chosen], files, wanted.language, split, prompt)
    (record,) = prompt_records([chosen], [request], encoder)
    generated = request if isinstance(request, GenerationRequest) else None
    return ShownPrompt(
        task=wanted.task,
        version=task.info.version,
        language=wanted.language,
        split=split,
        prompt=prompt,
        sample_id=chosen.id,
        place=place + 1,
        n_samples=len(samples),
        context=record.context,
        continuations=record.continuations,
        gold=record.gold,
        stop=generated.stop if generated else (),
        max_new_tokens=generated.max_new_tokens if generated else None,
        choices=_choices(generated),
        prompt_hash=record.prompt_hash,
        files=tuple(read_paths(task, files, wanted.language, split, prompt)),
    )


def _find(samples: Sequence[Sample], wanted: str | None, where: str) -> int:
    if not samples:
        raise DataError(f"{where}: there is no sample.")
    if wanted is None:
        return 0
    for place, sample in enumerate(samples):
        if sample.id == wanted:
            return place
    if wanted.isdecimal() and 1 <= int(wanted) <= len(samples):
        return int(wanted) - 1
    ids = ", ".join(sample.id for sample in samples[:3])
    raise UsageError(
        f"{where}: no sample {wanted!r}. Give an id ({ids}, ...) or a place from 1 to "
        f"{len(samples)}."
    )


def _choices(request: GenerationRequest | None) -> tuple[tuple[str, str], ...]:
    if request is None:
        return ()
    return tuple(
        (choice.mark, choice.texts[0] if choice.texts else "") for choice in request.choices
    )

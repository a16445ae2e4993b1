"""Benchmarks, one file each; here is what several share, so that no entry imports another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from maple import languages
from maple.catalog import prompts
from maple.catalog.contracts import (
    RankingRequest,
    RankingResponse,
    Request,
    Response,
    Sample,
    Score,
    TaskInfo,
)
from maple.errors import MapleError, UsageError, unknown_name
from maple.study import PromptSettings

Words = TypeVar("Words")


def subset(info: TaskInfo, language: str) -> str:
    """Upstream's name of a language, as its file names spell it.

    A language that the benchmark does not have falls back to its short tag, so that files in
    the benchmark's format can be read for any language: ``yor_Latn`` -> ``yo``.
    """
    return info.languages.get(language) or languages.find(language).tag


def check_split(info: TaskInfo, task: str, split: str) -> None:
    """Raises ``UsageError`` when the task has no such split; names those it has."""
    if split not in info.samples:
        raise UsageError(unknown_name(f"split of {task}", split, info.samples))


def check_shots(prompt: PromptSettings) -> None:
    """Raises ``UsageError`` when examples in the prompt are asked for."""
    if prompt.shots:
        raise UsageError(f"shots: {prompt.shots}: examples in the prompt come later. Set shots: 0.")


def mega_words(section: str, language: str, prompt: PromptSettings) -> Mapping[str, str]:
    """The mega form's words for a section of ``catalog/prompts``, English or native as asked.

    Raises:
        UsageError: the section has no words in that language; or examples were asked for.
    """
    check_shots(prompt)
    is_native = prompt.instruction_language == "native"
    return prompts.words(section, language if is_native else "eng_Latn")


def words_for(
    table: Mapping[str, Words], info: TaskInfo, language: str, prompt: PromptSettings
) -> Words:
    """Picks a language's row of a table of prompt words, keyed by upstream's language name.

    Raises:
        UsageError: the form has no words for that language; or examples were asked for.
    """
    check_shots(prompt)
    words = table.get(subset(info, language))
    if words is None:
        form = f"the {prompt.form} prompt form"
        if prompt.form == "mega":
            form += f" with {prompt.instruction_language} instructions"
        raise UsageError(
            f"{form} has no words for {language}. It has them for: {', '.join(sorted(table))}. "
            "Choose another form, or instruction_language: english, or leave the language out."
        )
    return words


def ranking_score(sample: Sample, request: Request, response: Response) -> Score:
    """Scores a ranking: the most likely option against the gold index, the first one on a tie.

    Metrics, all 0 or 1: ``accuracy`` (headline) compares summed log-likelihoods; ``accuracy_per_
    token``, ``accuracy_per_character`` and ``accuracy_per_byte`` divide by the continuation's
    length first, without the delimiter (lm-eval's acc, -, acc_norm and acc_bytes).

    Raises:
        MapleError: a log-likelihood is missing or not a finite number.
        TypeError: request and response are not those of a ranking.
    """
    if not isinstance(request, RankingRequest) or not isinstance(response, RankingResponse):
        raise TypeError("a ranking task needs a RankingRequest and its RankingResponse")
    values, options = response.loglikelihoods, request.continuations
    if len(values) != len(options) or not all(map(math.isfinite, values)):
        raise MapleError(
            f"sample {sample.id}: {len(options)} options got log-likelihoods {values}. "
            "They must be finite numbers: run in fp32 or bf16, and check the adapter's weights."
        )
    lengths = {
        "accuracy": [1] * len(options),
        "accuracy_per_token": response.n_tokens,
        "accuracy_per_character": [len(option) for option in options],
        "accuracy_per_byte": [len(option.encode()) for option in options],
    }
    chosen = {name: _most_likely(values, n) for name, n in lengths.items()}
    gold = int(sample.gold[0])
    metrics = {name: float(index == gold) for name, index in chosen.items()}
    return Score(value=metrics["accuracy"], prediction=str(chosen["accuracy"]), metrics=metrics)


def _most_likely(values: Sequence[float], lengths: Sequence[int]) -> int:
    scaled = [value / max(length, 1) for value, length in zip(values, lengths, strict=True)]
    return scaled.index(max(scaled))

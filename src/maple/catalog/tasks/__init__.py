"""Benchmarks, one file each; here is what several share, so that no entry imports another."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from maple import languages
from maple.catalog import completion, prompts, squad
from maple.catalog.contracts import (
    Choice,
    GenerationRequest,
    GenerationResponse,
    RankingRequest,
    RankingResponse,
    Request,
    Response,
    Sample,
    Score,
    TaskInfo,
)
from maple.catalog.extraction import extract_choice
from maple.errors import CatalogError, MapleError, UsageError, unknown_name
from maple.study import PromptSettings

Words = TypeVar("Words")

_MAX_NEW_TOKENS = 48
"""Of a generated choice: room for an answer that repeats the option's text."""


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


def mega_words(section: str, language: str, prompt: PromptSettings) -> Mapping[str, str]:
    """The mega form's words for a section of ``catalog/prompts``, English or native as asked.

    Raises:
        UsageError: the section has no words in that language.
    """
    is_native = prompt.instruction_language == "native"
    return prompts.words(section, language if is_native else "eng_Latn")


def words_for(
    table: Mapping[str, Words], info: TaskInfo, language: str, prompt: PromptSettings
) -> Words:
    """Picks a language's row of a table of prompt words, keyed by upstream's language name.

    Raises:
        UsageError: the form has no words for that language.
    """
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


def span_request(sample: Sample, language: str, prompt: PromptSettings) -> GenerationRequest:
    """Words a question about a passage in the mega or the completion form.

    It is answered by a continuation, up to the end of its line.

    Raises:
        UsageError: no words in that language.
    """
    fields = squad.cleaned(sample.fields)
    if prompt.form == "completion":
        words = mega_words("completion", language, prompt)
        return completion.answer_request(words, fields["context"], fields["question"])
    template = mega_words("qa", language, prompt)["template"]
    # An answer begins a line, as in training.
    return GenerationRequest(context=template.format(**fields), delimiter="\n")


def instruction_request(
    sample: Sample, prompt: PromptSettings, *, max_new_tokens: int
) -> GenerationRequest:
    """An instruction as it stands, in every form; only the end token ends the answer.

    Raises:
        UsageError: examples in the prompt are asked for, and there are none.
    """
    if prompt.shots:
        raise UsageError(
            f"shots: {prompt.shots}: this task has no examples to show before its question. "
            "Set shots: 0, or leave the task out."
        )
    return GenerationRequest(
        context=sample.fields["instruction"],
        stop=(),
        max_new_tokens=max_new_tokens,
        delimiter="\n",
    )


def choice_request(
    ranking: RankingRequest, choices: Sequence[Choice], prompt: PromptSettings
) -> Request:
    """The ranking itself or, under ``scoring: generation``, the same prompt to be answered freely.

    Raises:
        UsageError: generation in a form that does not say what to choose from.
    """
    if prompt.scoring == "ranking":
        return ranking
    if prompt.form != "mega":
        raise UsageError(
            f"scoring: generation: the {prompt.form} prompt form does not ask for an answer one "
            "could extract. Set form: mega, or scoring: ranking."
        )
    return GenerationRequest(
        context=ranking.context,
        delimiter=ranking.delimiter,
        # An answer may take a line of its own for its reason.
        stop=("\n\n",),
        max_new_tokens=_MAX_NEW_TOKENS,
        choices=tuple(choices),
        answers=ranking.continuations,
    )


def label_choices(section: str, language: str, labels: Sequence[str]) -> tuple[Choice, ...]:
    """Labels as a generated text may name them: in English and in the sample's language.

    Args:
        section: a section of ``catalog/prompts``, with a key per label.
        language: canonical code.
        labels: the keys, in the order of the gold indices.
    """
    tables = []
    for code in dict.fromkeys((language, "eng_Latn")):
        with contextlib.suppress(UsageError, CatalogError):
            tables.append(prompts.words(section, code))
    return tuple(
        Choice(mark="", texts=tuple(dict.fromkeys(table[label] for table in tables)))
        for label in labels
    )


def listed_choices(texts: Sequence[str], marks: Sequence[str] = ()) -> tuple[Choice, ...]:
    """Options as a generated text may name them: by what they say, or the mark they stand under."""
    names = marks or [""] * len(texts)
    return tuple(Choice(mark=m, texts=(t,)) for m, t in zip(names, texts, strict=True))


def choice_score(sample: Sample, request: Request, response: Response) -> Score:
    """Scores a choice, ranked or generated, against the gold index.

    Of a generated one: ``accuracy`` (headline) is 0 where no option could be extracted,
    ``accuracy_if_extracted`` is there only where one was, ``extracted`` says whether.

    Raises:
        MapleError: a log-likelihood is missing or not a finite number.
        TypeError: request and response are not of one kind.
    """
    if not isinstance(response, GenerationResponse):
        return ranking_score(sample, request, response)
    if not isinstance(request, GenerationRequest):
        raise TypeError("a generated choice needs a GenerationRequest and its response")
    named = extract_choice(response.text, request.choices)
    value = float(named == int(sample.gold[0]))
    metrics = {"accuracy": value, "extracted": float(named is not None)}
    if named is not None:
        metrics["accuracy_if_extracted"] = value
    prediction = "" if named is None else str(named)
    return Score(
        value=value, prediction=prediction, metrics=metrics, was_extracted=named is not None
    )


def ranking_score(sample: Sample, request: Request, response: Response) -> Score:
    """Scores a ranking: the most likely option against the gold index, the first one on a tie.

    Metrics, all 0 or 1: ``accuracy`` (headline) compares summed log-likelihoods; ``accuracy_per_
    token``, ``accuracy_per_character`` and ``accuracy_per_byte`` divide by the continuation's
    length first, without the delimiter (lm-eval's acc, -, acc_norm and acc_bytes); ``accuracy_pmi``
    takes off the option's log-likelihood without a context (acc_mutual_info), where it was asked.

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
    if response.unconditional:
        gains = [a - b for a, b in zip(values, response.unconditional, strict=True)]
        chosen["accuracy_pmi"] = gains.index(max(gains))
    gold = int(sample.gold[0])
    metrics = {name: float(index == gold) for name, index in chosen.items()}
    return Score(value=metrics["accuracy"], prediction=str(chosen["accuracy"]), metrics=metrics)


def _most_likely(values: Sequence[float], lengths: Sequence[int]) -> int:
    scaled = [value / max(length, 1) for value, length in zip(values, lengths, strict=True)]
    return scaled.index(max(scaled))

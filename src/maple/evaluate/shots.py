"""Examples before the question: k answered samples of the same language, worded as it is.

The same k stand before every sample of a task and language, so that what they cost can be shared;
where they come from the scored split itself, a sample that is one of them gets another instead.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from maple.catalog.contracts import RankingRequest, Request, Sample, Task
from maple.errors import DataError
from maple.study import PromptSettings

_BETWEEN = "\n\n"


def examples_split(task: Task, split: str) -> str:
    """The split that examples come from: the task's own choice, else the scored one."""
    return task.info.shots_split or split


def add_shots(
    requests: Sequence[Request],
    samples: Sequence[Sample],
    pool: Sequence[Sample],
    *,
    task: Task,
    language: str,
    prompt: PromptSettings,
    is_scored: bool,
) -> list[Request]:
    """Puts ``prompt.shots`` answered examples before each request.

    Args:
        requests: the worded samples.
        samples: what they word, in the same order.
        pool: the samples of the split that examples come from, in upstream order.
        task: words the examples.
        language: canonical code.
        prompt: how many, and how they are worded.
        is_scored: whether the pool is the scored split, so that a sample may be among its own.

    Raises:
        DataError: the pool holds too few.
    """
    k = prompt.shots
    if len(pool) <= k:
        raise DataError(
            f"shots: {k}: {language} has {len(pool)} samples to take examples from, and one more "
            "than that is needed. Ask for fewer, or name a split that has them."
        )
    # Drawn by place and not by content: parallel languages get parallel examples.
    drawn = [pool[i] for i in random.Random(k).sample(range(len(pool)), k + 1)]
    worded = {example.id: _answered(example, task, language, prompt) for example in drawn}
    found = []
    for request, sample in zip(requests, samples, strict=True):
        shown = [t for name, t in worded.items() if not is_scored or name != sample.id][:k]
        found.append(replace(request, context=_BETWEEN.join([*shown, request.context])))
    return found


def _answered(example: Sample, task: Task, language: str, prompt: PromptSettings) -> str:
    request = task.request(example, language, prompt)
    if isinstance(request, RankingRequest):
        answer = request.continuations[int(example.gold[0])]
    elif request.answers:
        answer = request.answers[int(example.gold[0])]
    else:
        answer = example.gold[0]
    if not request.context:
        return answer
    return f"{request.context}{request.delimiter or _space(request.context)}{answer}"


def _space(context: str) -> str:
    """Between a context without a delimiter and its answer: a space after a word or its colon."""
    last = context[-1:]
    return " " if last and not last.isspace() and unicodedata.east_asian_width(last) != "F" else ""

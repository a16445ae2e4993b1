"""Check of the scorer: the gold answer is worth 1, another one is not, and what variants are."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping

from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    RankingRequest,
    RankingResponse,
    Request,
    Sample,
    Task,
)
from maple.certify.certificate import Check
from maple.certify.reading import EXAMPLES, Reading, gold_index, option_texts, share, shown

_OTHER_TEXT = "zzqx"
_VARIED = 200
"""Items whose variants are scored at most: a figure, not a test."""
_VARIANTS: Mapping[str, Callable[[str], str]] = {
    "in capitals": str.upper,
    "with a full stop": lambda text: f"{text}.",
    "with an ideographic full stop": lambda text: f"{text}。",
    "in quotation marks": lambda text: f"“{text}”",
    "in normal form D": lambda text: unicodedata.normalize("NFD", text),
}


def answer_checks(reading: Reading) -> Iterator[Check]:
    """Yields scores and variants."""
    if reading.task.info.is_judged or reading.main is None:
        told = "A judge scores the answers." if reading.main else "No prompt form has words."
        yield Check(name="scores", status="grey", figure="-", message=told)
        yield Check(name="variants", status="grey", figure="-", message=told)
        return
    yield _scores(reading)
    yield _variants(reading)


def _scores(reading: Reading) -> Check:
    low, high = [], []
    n_scored = 0
    for worded in reading.worded.values():
        is_new = worded is reading.main or worded.settings.scoring == "generation"
        if not is_new:
            continue  # the other forms are scored alike
        for sample, request in zip(reading.samples, worded.requests, strict=True):
            n_scored += 1
            right, wrong = _extremes(reading.task, sample, request)
            if right < 1:
                low.append(f"{sample.id}: its own answer scores {right:.3g}")
            if wrong >= 1:
                high.append(f"{sample.id}: another answer scores {wrong:.3g}")
    found = len(low) + len(high)
    return Check(
        name="scores",
        status="red" if found else "green",
        figure=f"{found:,} wrong" if found else "1 and 0",
        message=f"Items whose own answer scores below 1: {len(low):,}; where another one scores "
        f"1: {len(high):,}; of {n_scored:,}."
        if found
        else "Scored against itself, every gold answer is worth 1; no other answer is.",
        examples=(*low[:EXAMPLES], *high[:EXAMPLES]),
    )


def _extremes(task: Task, sample: Sample, request: Request) -> tuple[float, float]:
    """The least that an accepted answer is worth, and the most that another one is."""
    if isinstance(request, RankingRequest):
        gold, n = gold_index(sample), len(request.continuations)
        if gold is None or gold >= n or n < 2:
            return 1.0, 0.0  # said by the check of the gold
        return (
            task.score(sample, request, _preferring(gold, n)).value,
            task.score(sample, request, _preferring((gold + 1) % n, n)).value,
        )
    right, wrong = _answers(sample, request)
    values = [task.score(sample, request, _generated(text)).value for text in right]
    others = [task.score(sample, request, _generated(text)).value for text in wrong]
    return min(values, default=1.0), max(others, default=0.0)


def _answers(sample: Sample, request: GenerationRequest) -> tuple[list[str], list[str]]:
    """Texts that are right and texts that are wrong."""
    if not request.choices:
        return list(sample.gold), [_OTHER_TEXT]
    gold, written = gold_index(sample), request.answers or option_texts(request)
    if gold is None or gold >= len(written):
        return [], []
    right = written[gold].strip()
    others = [text.strip() for n, text in enumerate(written) if n != gold]
    # Of two options that say the same, no text tells which is meant.
    return ([], []) if right in others else ([right], others)


def _preferring(index: int, n: int) -> RankingResponse:
    return RankingResponse(
        loglikelihoods=tuple(-1.0 if i == index else -1e9 for i in range(n)),
        is_greedy=(False,) * n,
        n_tokens=(1,) * n,
    )


def _generated(text: str) -> GenerationResponse:
    return GenerationResponse(text=text, finish="stop", n_tokens=1)


def _variants(reading: Reading) -> Check:
    pairs = [
        (sample, request)
        for worded in reading.worded.values()
        if worded is reading.main or worded.settings.scoring == "generation"
        for sample, request in zip(reading.samples, worded.requests, strict=True)
        if isinstance(request, GenerationRequest)
    ]
    pairs = pairs[:: max(1, len(pairs) // _VARIED)][:_VARIED]
    if not pairs:
        message = "Options are ranked, so an answer has no variants."
        return Check(name="variants", status="grey", figure="-", message=message)
    shares, missed = [], []
    for name, change in _VARIANTS.items():
        values = [_value(reading.task, *pair, change) for pair in pairs]
        shares.append(f"{name} {share(sum(value >= 1 for value in values), len(values))}")
        lost = next((pair[0] for pair, value in zip(pairs, values, strict=True) if value < 1), None)
        if lost is not None:
            missed.append(f"{name}: {lost.id}: {shown(lost.gold[0])}")
    return Check(
        name="variants",
        status="green",
        figure=shares[0].removeprefix("in capitals ") + " in capitals",
        message=f"Of {len(pairs):,} gold answers these are still worth 1: {', '.join(shares)}.",
        examples=tuple(missed),
    )


def _value(
    task: Task, sample: Sample, request: GenerationRequest, change: Callable[[str], str]
) -> float:
    right, _ = _answers(sample, request)
    if not right:
        return 0.0
    return task.score(sample, request, _generated(change(right[0]))).value

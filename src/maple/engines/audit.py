"""Holds an optional engine against the reference before any of its scores is kept.

Both answer the same k samples of a task and language, evenly spread over the split. Of rankings the
decisions and the log-likelihoods per token are compared, of generated text the greedy answers.
Where the model cannot be loaded here there is no reference; then the engine is held against itself,
and the record says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from maple.catalog.contracts import GenerationResponse, RankingResponse
from maple.errors import EngineError
from maple.evaluate.encode import EncodedOption, EncodedRequest
from maple.evaluate.protocol import ScoringEngine

LEAST_EQUAL_DECISIONS = 0.9
"""Options that are nearly equal are decided by rounding: bfloat16 flips a few in a hundred."""
MOST_MEAN_DIFFERENCE = 0.05
"""Nats per token. Measured on atlas-base: 0.014-0.031 between float32 and bfloat16, 0.10-0.17 from
bfloat16 to int8, 0.21-0.54 to nf4; another model lies far beyond."""
MOST_LARGEST_DIFFERENCE = 0.25
"""Nats per token, of one option: 0.08 at most between float32 and bfloat16."""
LEAST_EQUAL_TEXTS = 0.75
"""One flipped token changes all that follows, so greedy texts agree less than decisions do."""

AGAINST_REFERENCE, AGAINST_ITSELF = "the reference engine", "itself, asked again"
ContextDifference = Callable[[EncodedOption], float | None]
"""By how many nats per token the log-likelihood of an option's context differs between the context
alone and the context with the option behind it; None where they do not compare."""
_AT_ONCE = 4
"""Requests that the reference engine answers in one pass."""
_CONTEXTS = 8
"""Contexts that an endpoint without a reference is asked for alone."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """How an engine's answers compared on a few samples; None where nothing of that kind was
    compared."""

    against: str
    samples: int
    equal_decisions: float | None = None
    """Share of ranked samples with the same most likely option."""
    mean_difference: float | None = None
    """Of log-likelihoods per token over all options, in nats."""
    largest_difference: float | None = None
    equal_texts: float | None = None
    """Share of greedy texts that are the same but for white space at their ends."""
    context_difference: float | None = None
    """Largest difference per token between a context's log-likelihood alone and before an answer,
    which an answer cannot change."""

    @property
    def is_parity(self) -> bool:
        """Whether the engine was held against the reference."""
        return self.against == AGAINST_REFERENCE

    def problems(self) -> list[str]:
        """What lies beyond the thresholds, in words; a text that a model behind an endpoint
        repeats otherwise is recorded and no problem: many providers do not repeat themselves."""
        least_texts = LEAST_EQUAL_TEXTS if self.is_parity else 0.0
        found = [
            _below("equal decisions", self.equal_decisions, LEAST_EQUAL_DECISIONS),
            _above("mean difference per token", self.mean_difference, MOST_MEAN_DIFFERENCE),
            _above("largest difference per token", self.largest_difference,
                   MOST_LARGEST_DIFFERENCE),
            _below("equal texts", self.equal_texts, least_texts),
            _above("difference of a context's log-likelihood per token", self.context_difference,
                   MOST_LARGEST_DIFFERENCE),
        ]  # fmt: skip
        return [problem for problem in found if problem is not None]

    def statement(self) -> str:
        """What was found, in one line for reports."""
        parts = []
        if self.equal_decisions is not None:
            parts.append(f"{self.equal_decisions:.0%} equal decisions")
            parts.append(
                f"log-likelihoods per token {self.mean_difference:.2g} apart "
                f"(at most {self.largest_difference:.2g})"
            )
        if self.equal_texts is not None:
            parts.append(f"{self.equal_texts:.0%} equal texts")
        lead = "against the reference" if self.is_parity else (
            "not audited against the reference; asked twice"
        )  # fmt: skip
        return f"{lead}: {', '.join(parts)} on {self.samples} samples"

    def as_json(self) -> dict[str, Any]:
        """The record that is stored with the evaluation."""
        found = {k: v for k, v in asdict(self).items() if v is not None}
        return found | {
            "is_parity": self.is_parity,
            "problems": self.problems(),
            "statement": self.statement(),
            "thresholds": {
                "equal_decisions": LEAST_EQUAL_DECISIONS,
                "mean_difference": MOST_MEAN_DIFFERENCE,
                "largest_difference": MOST_LARGEST_DIFFERENCE,
                "equal_texts": LEAST_EQUAL_TEXTS if self.is_parity else 0.0,
            },
        }

    def check(self, what: str) -> None:
        """Refuses an engine that disagrees.

        Args:
            what: engine, task and language, for the message.

        Raises:
            EngineError: something lies beyond the thresholds.
        """
        if problems := self.problems():
            against = "the reference engine" if self.is_parity else "itself when asked again"
            advice = (
                "It serves other weights, bits, a chat template or a tokenizer of another version. "
                "Name the model that it serves, or score with --engine reference."
                if self.is_parity
                else "Its log-likelihoods cannot be relied on: use --scoring generation."
            )
            raise EngineError(
                f"{what} disagrees with {against} on {self.samples} samples: "
                f"{'; '.join(problems)}. {advice}"
            )


def spread(n_samples: int, k: int) -> list[int]:
    """Up to k places, evenly spread over n: the same ones at every call."""
    count = min(n_samples, k)
    return [i * n_samples // count for i in range(count)]


def compare(
    engine: ScoringEngine,
    asked: Sequence[EncodedRequest],
    reference: ScoringEngine,
    same: Sequence[EncodedRequest],
) -> Audit:
    """Compares an engine's answers to the reference engine's.

    Args:
        engine: the one to be admitted.
        asked: requests as it takes them.
        reference: the reference engine on the same model.
        same: the same samples' requests as the reference takes them.

    Raises:
        EngineError: the engine cannot answer such requests.
    """
    ours = _answers(engine, asked)
    parts = [same[i : i + _AT_ONCE] for i in range(0, len(same), _AT_ONCE)]
    theirs = [answer for part in parts for answer in _answers(reference, part)]
    return _compared(ours, theirs, AGAINST_REFERENCE)


def repeat(
    engine: ScoringEngine,
    asked: Sequence[EncodedRequest],
    again: Callable[[], None],
    *,
    difference: ContextDifference,
) -> Audit:
    """Compares an engine's answers to its own second ones.

    Args:
        engine: the one to be admitted.
        asked: requests as it takes them.
        again: makes it forget its answers, so that it asks anew.
        difference: what it says of an option's context, with and without the option.

    Raises:
        EngineError: the engine cannot answer such requests.
    """
    first = _answers(engine, asked)
    again()
    audit = _compared(_answers(engine, asked), first, AGAINST_ITSELF)
    options = [r.options[-1] for r in asked if r.options][:_CONTEXTS]
    found = [d for d in map(difference, options) if d is not None]
    return replace(audit, context_difference=max(found)) if found else audit


def _answers(
    engine: ScoringEngine, requests: Sequence[EncodedRequest]
) -> Sequence[RankingResponse] | Sequence[GenerationResponse]:
    if requests[0].options:
        return engine.loglikelihoods(requests)
    # Drawn answers differ by their generators; the most likely ones must be the same.
    return engine.generate([replace(r, sampling=None, draw_key="") for r in requests])


def _compared(ours: Sequence[Any], theirs: Sequence[Any], against: str) -> Audit:
    if isinstance(ours[0], GenerationResponse):
        equal = [a.text.strip() == b.text.strip() for a, b in zip(ours, theirs, strict=True)]
        return Audit(against=against, samples=len(ours), equal_texts=fmean(equal))
    pairs = list(zip(ours, theirs, strict=True))
    differences = [
        abs(a - b) / max(1, n)
        for mine, other in pairs
        for a, b, n in zip(mine.loglikelihoods, other.loglikelihoods, other.n_tokens, strict=True)
    ]
    return Audit(
        against=against,
        samples=len(pairs),
        equal_decisions=fmean(_choice(a) == _choice(b) for a, b in pairs),
        mean_difference=fmean(differences),
        largest_difference=max(differences),
    )


def _choice(response: RankingResponse) -> int:
    values = response.loglikelihoods
    return max(range(len(values)), key=values.__getitem__)


def _below(what: str, value: float | None, least: float) -> str | None:
    if value is None or value >= least:
        return None
    return f"{what} {value:.0%}, at least {least:.0%} are wanted"


def _above(what: str, value: float | None, most: float) -> str | None:
    # Not `value > most`: what is no number is beyond every threshold.
    if value is None or value <= most:
        return None
    return f"{what} {value:.3g}, at most {most:.3g} is allowed"

"""What passes between a task and an engine: samples, requests, responses and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One test item as upstream states it."""

    id: str
    fields: Mapping[str, str]
    gold: tuple[str, ...]
    """Index of the right option as text, or every accepted answer."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One answer of a multiple choice, as a generated text may name it."""

    mark: str
    """What the prompt lists it under: ``A`` or ``1``; empty where it lists none."""
    texts: tuple[str, ...]
    """What it says; the label's word in English and in the sample's language, for labels."""


@dataclass(frozen=True, kw_only=True)
class RankingRequest:
    """Score each continuation after the context; the most likely one is the answer."""

    context: str
    continuations: tuple[str, ...]
    delimiter: str = " "
    """Between context and continuation when the prompt is not wrapped in a template."""
    unconditional: bool = True
    """Whether the continuations are also scored with nothing before them."""


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """Continue the context greedily until a stop string or the limit."""

    context: str
    stop: tuple[str, ...] = ("\n",)
    max_new_tokens: int = 64
    delimiter: str = ""
    """Between context and answer when the prompt is not wrapped in a template."""
    choices: tuple[Choice, ...] = ()
    """The answers that the text is to name one of; empty where any text may be right."""
    answers: tuple[str, ...] = ()
    """How a choice is written where the prompt shows it answered, an entry per choice."""


@dataclass(frozen=True, kw_only=True)
class RankingResponse:
    """What an engine says of a ranking request, an entry per continuation."""

    loglikelihoods: tuple[float, ...]
    is_greedy: tuple[bool, ...]
    n_tokens: tuple[int, ...]
    unconditional: tuple[float, ...] = ()
    """Log-likelihood of each continuation with no context before it; empty: not asked for."""


@dataclass(frozen=True, kw_only=True)
class GenerationResponse:
    """What an engine generated: text with the stop string cut off, and why it ended."""

    text: str
    finish: Literal["stop", "length"]
    n_tokens: int


Request = RankingRequest | GenerationRequest
Response = RankingResponse | GenerationResponse


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one answer is worth."""

    value: float
    """The headline metric, in 0..1."""
    prediction: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    was_extracted: bool = True
    """Whether the generated text names one of the choices, where there are any to name."""

"""A prompt echoed with log-probabilities, read with care: what is not whole is refused.

Servers differ in what they echo: nothing at all (llama.cpp), a generated token more, a BOS in
front. A wrong sum is worse than none, so each answer must fit what was sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maple.errors import EngineError

_HOW = (
    "Score ranking tasks by --scoring generation, or use a server that echoes prompts with "
    "log-probabilities (vLLM does)."
)


@dataclass(frozen=True)
class Echo:
    """The tokens of a prompt as a server echoes them."""

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    """Natural log of each token's probability after those before it; None for the first."""
    is_top: tuple[bool, ...]
    """Whether no other token was more likely; False where the server does not say."""

    def sum_from(self, start: int, end: int | None = None) -> tuple[float, bool, int]:
        """Sum of log-probabilities, whether all tokens are the likeliest, and how many there are.

        Raises:
            EngineError: a token in that range has no log-probability.
        """
        values = self.logprobs[start:end]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            raise EngineError(
                f"the server gives no log-probability of token {start + len(known)} of a prompt, "
                f"which is to be scored. {_HOW}"
            )
        return math.fsum(known), all(self.is_top[start:end]), len(known)


def read_echo(choice: Mapping[str, Any], usage: Mapping[str, Any]) -> Echo:
    """Reads the echoed prompt of a completion's choice.

    Raises:
        EngineError: there are no log-probabilities, or they are none.
    """
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        raise EngineError(f"the server answers without log-probabilities of the prompt. {_HOW}")
    tokens, values = found.get("tokens"), found.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        raise EngineError(
            "the server's log-probabilities are not a list as long as its tokens: it does not "
            f"speak the completions API. {_HOW}"
        )
    tops = found.get("top_logprobs")
    tops = tops if isinstance(tops, list) and len(tops) == len(values) else [None] * len(values)
    # What was generated behind the prompt, where a server cannot generate nothing.
    made = usage.get("completion_tokens")
    end = len(values) - made if isinstance(made, int) and 0 < made < len(values) else len(values)
    logprobs = tuple(_logprob(v) for v in values[:end])
    is_top = tuple(_is_top(v, t) for v, t in zip(logprobs, tops[:end], strict=True))
    return Echo(tuple(str(t) for t in tokens[:end]), logprobs, is_top)


def check_count(echo: Echo, n_sent: int) -> None:
    """Refuses an echo that is not of as many tokens as were sent.

    Raises:
        EngineError: the numbers differ.
    """
    if len(echo.tokens) != n_sent:
        raise EngineError(
            f"the server echoes {len(echo.tokens)} tokens of a prompt of {n_sent}: it does not "
            "take token ids as they are, cuts prompts, or echoes none of them. Try --engine-api "
            f"text. {_HOW}"
        )


def first_from(echo: Echo, text: str, boundary: int) -> int:
    """The first echoed token that holds a character behind the boundary.

    Args:
        echo: what the server made of the text.
        text: what was sent.
        boundary: characters of the text that are not scored.

    Raises:
        EngineError: the tokens do not spell the text, so that no boundary can be found in them.
    """
    whole = "".join(echo.tokens)
    added = len(whole) - len(text)
    # A beginning-of-text token may stand in front, and nothing else.
    has_front = added > 0 and bool(echo.tokens) and len(echo.tokens[0]) == added
    if not whole.endswith(text) or (added and not has_front):
        raise EngineError(
            "the tokens that the server echoes do not spell the prompt, as where a character is "
            "cut into several: the answer's first token cannot be told. Name a model whose "
            f"tokenizer is at hand, so that token ids are sent (--engine-api tokens). {_HOW}"
        )
    place = -added
    for number, token in enumerate(echo.tokens):
        place += len(token)
        if place > boundary and not (has_front and number == 0):
            return number
    return len(echo.tokens)


def _logprob(value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Rounding may lift a certain token a little above 0.
    if not is_number or math.isnan(value) or value > 1e-4 or value == -math.inf:
        raise EngineError(
            f"the server gives {str(value)[:40]!r} for the log of a probability. {_HOW}"
        )
    return float(value)


def _is_top(value: float | None, tops: Any) -> bool:
    if value is None or not isinstance(tops, dict):
        return False
    others: Sequence[Any] = list(tops.values())
    numbers = [v for v in others if isinstance(v, int | float)]
    return bool(numbers) and value >= max(numbers)

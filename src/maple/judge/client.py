"""A judge at an OpenAI-compatible server: one question in, one choice out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maple.endpoint import RequestError, Server, ServerSettings, StoppedError
from maple.errors import SourceError
from maple.judge.protocols import Message, Protocol

__all__ = ["Answer", "Endpoint", "EndpointSettings", "StoppedError"]


@dataclass(frozen=True, kw_only=True)
class EndpointSettings(ServerSettings):
    """How a judge is asked."""

    judge: str
    """Name of the model at the server."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server returned for one question."""

    choice: Mapping[str, Any]
    """The first choice of the chat completion, as JSON."""
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class Endpoint:
    """A judge's server and the pace at which it may be asked; shared by threads."""

    def __init__(self, settings: EndpointSettings) -> None:
        """Makes a client; nothing is sent yet.

        Raises:
            UsageError: the ``openai`` package is not installed, or no key is set for OpenAI.
        """
        self.settings = settings
        self._server = Server(settings, asker="a judge")
        self.url = self._server.url

    def stop(self) -> None:
        """Calls off every question that waits; those under way are answered."""
        self._server.stop()

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def ask(self, protocol: Protocol, messages: Sequence[Message]) -> Answer:
        """Asks one question, as often as the settings allow.

        Raises:
            SourceError: the server cannot be reached, refuses, or fails at every try.
            StoppedError: ``stop`` was called meanwhile.
        """
        began = time.monotonic()
        body = {"model": self.settings.judge, "messages": list(messages), **protocol.settings}
        try:
            completion = _without_nulls(self._server.post("chat", body))
        except RequestError as error:
            raise self._failure(error, protocol) from error
        choice = _first_choice(completion)
        usage = completion.get("usage") or {}
        if _lacks_logprobs(choice, protocol):
            raise SourceError(
                f"judge {self.settings.judge!r} at {self.url} answers without log-probabilities, "
                "which the weighted protocol reads the preference from. Ask it with --prompt "
                "pairwise, or choose a server that returns them."
            )
        return Answer(
            choice=choice,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            seconds=round(time.monotonic() - began, 3),
        )

    def _failure(self, error: RequestError, protocol: Protocol) -> SourceError:
        after = f" after {error.tries} tries" if error.tries > 1 else ""
        return SourceError(
            f"judge {self.settings.judge!r} at {self.url or 'the OpenAI API'} failed{after}: "
            f"{error.reason}. {_advice(error, protocol)} Verdicts so far are kept: the same "
            "command goes on from there."
        )


def _first_choice(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, dict) else {}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _lacks_logprobs(choice: Mapping[str, Any], protocol: Protocol) -> bool:
    """Whether a text came without what was asked beside it: ``transformers serve`` ignores it."""
    has_text = bool((choice.get("message") or {}).get("content"))
    return has_text and "logprobs" in protocol.settings and not choice.get("logprobs")


def _advice(error: RequestError, protocol: Protocol) -> str:
    status = error.status
    if status in (401, 403):
        return "Check OPENAI_API_KEY."
    if status == 404:
        return "Check --judge and OPENAI_BASE_URL, which ends in /v1 for most servers."
    if status in (400, 422) and "logprobs" in protocol.settings:
        return "A server that gives no logprobs can be asked with --prompt pairwise."
    if status == 429:
        wait = f"It asks to wait {error.retry_after:.0f} s. " if error.retry_after else ""
        return f"{wait}Lower --requests-per-minute or --concurrency."
    if not error.was_answered:
        return "Check that the server runs and OPENAI_BASE_URL names it."
    return "Try again later, or check the server's log."

"""An OpenAI-compatible server: one question in, one choice out, patiently.

Rate limits, server errors and timeouts are waited out. What a server says in ``Retry-After`` holds
for every thread: while one is told to wait, no other asks.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from maple.errors import SourceError, UsageError
from maple.judge.protocols import Message, Protocol

if TYPE_CHECKING:
    from openai import OpenAI

_LONGEST_WAIT_SECONDS = 60.0
"""Of the waits that grow from try to try; a server's own Retry-After may be longer."""
_LONGEST_RETRY_AFTER_SECONDS = 900.0
"""A server that asks for more (a spent daily quota) is reported instead of waited for."""


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How a server is asked."""

    judge: str
    """Name of the model at the server."""
    base_url: str | None = None
    """None: ``OPENAI_BASE_URL``, else OpenAI's own."""
    api_key: str | None = None
    """None: ``OPENAI_API_KEY``."""
    tries: int = 8
    timeout_seconds: float = 120.0
    requests_per_minute: float | None = None
    first_wait_seconds: float = 1.0
    """Doubled with every further try of the same question."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server returned for one question."""

    choice: Mapping[str, Any]
    """The first choice of the chat completion, as JSON."""
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class StoppedError(Exception):
    """Asking was called off while a question waited for its turn."""


class Endpoint:
    """A server and the pace at which it may be asked; shared by threads."""

    def __init__(self, settings: EndpointSettings) -> None:
        """Makes a client; nothing is sent yet.

        Raises:
            UsageError: the ``openai`` package is not installed, or no key is set for OpenAI.
        """
        self.settings = settings
        self.url = settings.base_url or os.environ.get("OPENAI_BASE_URL") or ""
        self._client = _client(settings, self.url)
        self._lock = threading.Lock()
        self._next = self._held = 0.0
        """Moments before which no new question, and none that waits already, is sent."""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Calls off every question that waits; those under way are answered."""
        self._stopped.set()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def ask(self, protocol: Protocol, messages: Sequence[Message]) -> Answer:
        """Asks one question, as often as the settings allow.

        Raises:
            SourceError: the server cannot be reached, refuses, or fails at every try.
            StoppedError: ``stop`` was called meanwhile.
        """
        from openai import APIConnectionError, APIStatusError, OpenAIError

        for number in range(1, self.settings.tries + 1):
            self._wait_for_turn()
            try:
                return self._ask_once(protocol, messages)
            except (APIConnectionError, APIStatusError) as error:
                if not _is_passing(error) or number == self.settings.tries:
                    raise self._failure(error, number, protocol) from error
                self._put_off(error, number)
            except OpenAIError as error:
                raise self._failure(error, number, protocol) from error
        raise AssertionError("tries is at least 1")

    def _ask_once(self, protocol: Protocol, messages: Sequence[Message]) -> Answer:
        began = time.monotonic()
        create: Any = self._client.chat.completions.create
        completion = create(
            model=self.settings.judge, messages=list(messages), **protocol.settings
        ).model_dump(mode="json", exclude_none=True)
        choice = (completion.get("choices") or [{}])[0]
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

    def _wait_for_turn(self) -> None:
        """Takes the next moment at which a question may be sent, and waits for it."""
        rate = self.settings.requests_per_minute
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + (60.0 / rate if rate else 0.0)
        while (left := turn - time.monotonic()) > 0:
            if self._stopped.wait(left):
                break
            with self._lock:  # another thread may have been told to wait since
                turn = max(turn, self._held)
        if self._stopped.is_set():
            raise StoppedError

    def _put_off(self, error: Exception, number: int) -> None:
        demanded = _retry_after(error)
        doubled = self.settings.first_wait_seconds * 2 ** (number - 1)
        # Spread, so that threads that failed together do not come back together.
        own = min(doubled, _LONGEST_WAIT_SECONDS) * random.uniform(0.75, 1.0)
        if demanded is not None:
            with self._lock:
                self._held = max(self._held, time.monotonic() + demanded)
                self._next = max(self._next, self._held)
        elif self._stopped.wait(own):
            raise StoppedError

    def _failure(self, error: Exception, tries: int, protocol: Protocol) -> SourceError:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        after = f" after {tries} tries" if tries > 1 else ""
        return SourceError(
            f"judge {self.settings.judge!r} at {self.url or 'the OpenAI API'} failed{after}: "
            f"{reason}. {_advice(error, protocol)} Verdicts so far are kept: the same command "
            "goes on from there."
        )


def _client(settings: EndpointSettings, url: str) -> OpenAI:
    try:
        from openai import OpenAI
    except ImportError as error:
        raise UsageError(
            "a judge is asked through the openai package, which is not installed. "
            "Run: pip install 'maple-peft[judge]'."
        ) from error
    key = settings.api_key or os.environ.get("OPENAI_API_KEY")
    if not key and not url:
        raise UsageError(
            "no judge to ask: neither OPENAI_BASE_URL nor OPENAI_API_KEY is set. Set "
            "OPENAI_BASE_URL to an OpenAI-compatible server, or OPENAI_API_KEY for OpenAI's."
        )
    # Tried again by us, not by the library, whose threads would not wait for one another.
    return OpenAI(
        api_key=key or "none",
        base_url=url or None,
        timeout=settings.timeout_seconds,
        max_retries=0,
    )


def _lacks_logprobs(choice: Mapping[str, Any], protocol: Protocol) -> bool:
    """Whether a text came without what was asked beside it: ``transformers serve`` ignores it."""
    has_text = bool((choice.get("message") or {}).get("content"))
    return has_text and "logprobs" in protocol.settings and not choice.get("logprobs")


def _is_passing(error: Exception) -> bool:
    """Whether another try may succeed: no connection, a timeout, too many requests, 5xx."""
    status = getattr(error, "status_code", None)
    if status is None:
        return True
    # An account without money is reported as too many requests, and stays so.
    if getattr(error, "code", None) == "insufficient_quota":
        return False
    demanded = _retry_after(error)
    if demanded is not None and demanded > _LONGEST_RETRY_AFTER_SECONDS:
        return False
    return status in (408, 409, 429) or status >= 500


def _retry_after(error: Exception) -> float | None:
    """Seconds that the server asks to wait: a number, or a date, as HTTP allows."""
    response = getattr(error, "response", None)
    text = response.headers.get("retry-after") if response is not None else None
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _advice(error: Exception, protocol: Protocol) -> str:
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return "Check OPENAI_API_KEY."
    if status == 404:
        return "Check --judge and OPENAI_BASE_URL, which ends in /v1 for most servers."
    if status in (400, 422) and "logprobs" in protocol.settings:
        return "A server that gives no logprobs can be asked with --prompt pairwise."
    if status == 429:
        demanded = _retry_after(error)
        wait = f"It asks to wait {demanded:.0f} s. " if demanded else ""
        return f"{wait}Lower --requests-per-minute or --concurrency."
    if status is None:
        return "Check that the server runs and OPENAI_BASE_URL names it."
    return "Try again later, or check the server's log."

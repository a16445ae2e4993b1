"""An OpenAI-compatible server: one request in, one JSON object out, patiently.

Rate limits, server errors, dropped connections, timeouts and answers that are no JSON are tried
again. What a server says in ``Retry-After`` holds for every thread: while one is told to wait, no
other asks. The key comes from the environment, and no message holds it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from maple.errors import UsageError

if TYPE_CHECKING:
    from openai import OpenAI

Call = Literal["chat", "completions"]

_LONGEST_WAIT_SECONDS = 60.0
"""Of the waits that grow from try to try; a server's own Retry-After may be longer."""
_LONGEST_RETRY_AFTER_SECONDS = 900.0
"""A server that asks for more (a spent daily quota) is reported instead of waited for."""
_LARGEST_ANSWER_BYTES = 64 << 20
"""An answer above this is not read to its end: it is no completion, whatever it is."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server is asked."""

    base_url: str | None = None
    """None: ``OPENAI_BASE_URL``, else OpenAI's own."""
    api_key: str | None = field(default=None, repr=False)
    """None: ``OPENAI_API_KEY``."""
    tries: int = 8
    timeout_seconds: float = 120.0
    requests_per_minute: float | None = None
    first_wait_seconds: float = 1.0
    """Doubled with every further try of the same request."""


class StoppedError(Exception):
    """Asking was called off while a request waited for its turn."""


class RequestError(Exception):
    """A request that has failed for good: refused, or failed at every try."""

    def __init__(self, reason: str, tries: int, cause: Exception) -> None:
        super().__init__(reason)
        self.reason = reason
        """What the server or the connection said, in one line of 300 characters at most."""
        self.tries = tries
        self.status: int | None = getattr(cause, "status_code", None)
        """The HTTP status; None where there was no answer, or none that could be read."""
        self.retry_after = _retry_after(cause)
        """Seconds that the server asks to wait, where it does."""
        self.was_answered = self.status is not None or isinstance(cause, _UnreadableError)


class _UnreadableError(Exception):
    """An answer with status 200 that is no JSON object, or is torn, or too large."""

    def __init__(self, reason: str, *, is_passing: bool = True) -> None:
        super().__init__(reason)
        self.is_passing = is_passing


class Server:
    """A server and the pace at which it may be asked; shared by threads."""

    def __init__(self, settings: ServerSettings, *, asker: str) -> None:
        """Makes a client; nothing is sent yet.

        Args:
            settings: whom to ask, how often and how long.
            asker: who asks, as messages call it: "a judge", "an endpoint".

        Raises:
            UsageError: the ``openai`` package is not installed, no key is set for OpenAI, or the
                address holds a password.
        """
        self.settings = settings
        self.url = settings.base_url or os.environ.get("OPENAI_BASE_URL") or ""
        self._key = settings.api_key or os.environ.get("OPENAI_API_KEY") or ""
        self._client = _client(settings, self.url, self._key, asker)
        self._lock = threading.Lock()
        self._next = self._held = 0.0
        """Moments before which no new request, and none that waits already, is sent."""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Calls off every request that waits; those under way are answered."""
        self._stopped.set()

    def resume(self) -> None:
        """Takes requests again after ``stop``."""
        self._stopped.clear()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def post(self, call: Call, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sends one request, as often as the settings allow.

        Args:
            call: ``chat`` for ``/chat/completions``, ``completions`` for ``/completions``.
            body: the request's parameters.

        Returns:
            The answer's JSON object.

        Raises:
            RequestError: the server cannot be reached, refuses, or fails at every try.
            StoppedError: ``stop`` was called meanwhile.
        """
        from openai import APIConnectionError, APIStatusError, OpenAIError

        for number in range(1, self.settings.tries + 1):
            self._wait_for_turn()
            try:
                return self._post_once(call, body)
            except (APIConnectionError, APIStatusError, _UnreadableError) as error:
                if not _is_passing(error) or number == self.settings.tries:
                    raise self._failure(error, number) from error
                self._put_off(error, number)
            except OpenAIError as error:
                raise self._failure(error, number) from error
        raise AssertionError("tries is at least 1")

    def _post_once(self, call: Call, body: Mapping[str, Any]) -> dict[str, Any]:
        client: Any = self._client
        made = client.chat.completions if call == "chat" else client.completions
        with made.with_streaming_response.create(**body) as response:
            content = _read(response)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _UnreadableError(f"its answer is no JSON: {_one_line(content)!r}") from error
        if not isinstance(answer, dict):
            raise _UnreadableError(f"its answer is no JSON object: {_one_line(content)!r}")
        return answer

    def _wait_for_turn(self) -> None:
        """Takes the next moment at which a request may be sent, and waits for it."""
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

    def _failure(self, error: Exception, tries: int) -> RequestError:
        said = " ".join(str(error).split()) or type(error).__name__
        # Some servers repeat the key that they refuse.
        if len(self._key) > 3:
            said = said.replace(self._key, "***")
        return RequestError(said[:300], tries, error)


def _client(settings: ServerSettings, url: str, key: str, asker: str) -> OpenAI:
    try:
        from openai import OpenAI
    except ImportError as error:
        raise UsageError(
            f"{asker} is asked through the openai package, which is not installed. "
            "Run: pip install 'maple-peft[endpoint]'."
        ) from error
    if not key and not url:
        raise UsageError(
            f"no server to ask for {asker}: neither OPENAI_BASE_URL nor OPENAI_API_KEY is set. Set "
            "OPENAI_BASE_URL to an OpenAI-compatible server, or OPENAI_API_KEY for OpenAI's."
        )
    if url and not _is_plain(url):
        raise UsageError(
            "the server's address must be http(s)://HOST[:PORT]/v1 or so, with no user, password "
            "or query in it: addresses are stored with results. Put a key into OPENAI_API_KEY."
        )
    # Tried again by us, not by the library, whose threads would not wait for one another.
    return OpenAI(
        api_key=key or "none",
        base_url=url or None,
        timeout=settings.timeout_seconds,
        max_retries=0,
    )


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    secret = parts.username or parts.password or parts.query or parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not secret


def _read(response: Any) -> bytes:
    """The body of an answer, as far as it may be large."""
    content = bytearray()
    try:
        for block in response.iter_bytes(1 << 16):
            content += block
            if len(content) > _LARGEST_ANSWER_BYTES:
                size = _LARGEST_ANSWER_BYTES >> 20
                raise _UnreadableError(f"its answer is larger than {size} MiB", is_passing=False)
    except _UnreadableError:
        raise
    except Exception as error:
        # The transport's own errors, of whichever library and version is below the client.
        reason = str(error) or type(error).__name__
        raise _UnreadableError(f"its answer broke off: {reason}") from error
    return bytes(content)


def _one_line(content: bytes) -> str:
    return " ".join(content[:120].decode("utf-8", "replace").split())


def _is_passing(error: Exception) -> bool:
    """Whether another try may succeed: no connection, a timeout, too many requests, 5xx."""
    if isinstance(error, _UnreadableError):
        return error.is_passing
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
    seconds = math.nan
    with contextlib.suppress(ValueError, TypeError):
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    with contextlib.suppress(ValueError):
        seconds = float(text)
    return max(seconds, 0.0) if math.isfinite(seconds) else None

"""A judge in this process, and outputs for it to compare."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.json_server import JsonServer, Reply

from maple.judge import Endpoint, EndpointSettings, Output


class JudgeServer(JsonServer):
    """An OpenAI-compatible server that answers as ``reply`` says and remembers what it was asked.

    ``reply(body, n)`` -> (status, headers, JSON) for the n-th request, counted from 1.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.reply: Callable[[dict[str, Any], int], tuple[int, dict[str, str], Any]] = ranked
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> Reply:
        with self._lock:
            self.asked.append(body)
            self.times.append(time.monotonic())
            number = len(self.asked)
        status, headers, content = self.reply(body, number)
        return status, headers, json.dumps(content).encode()

    def endpoint(self, **changes: Any) -> Endpoint:
        settings = {"judge": "j", "base_url": self.url, "api_key": "k", "first_wait_seconds": 0.01}
        return Endpoint(EndpointSettings(**{**settings, **changes}))


def completion(text: str, **choice: Any) -> dict[str, Any]:
    """A chat completion with one choice, as a server sends it."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "j",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def ranked(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], Any]:
    """Prefers the longer answer of the pairwise prompt."""
    text = body["messages"][-1]["content"]
    first, second = (part.split('"""')[0] for part in text.split('"answer": """')[1:])
    best = 1 if len(first) > len(second) else 2
    ranks = [{"model": "model_1", "rank": best}, {"model": "model_2", "rank": 3 - best}]
    return 200, {}, completion(str(ranks))


def outputs_of(generator: str, n: int, text: Callable[[int], str]) -> list[Output]:
    return [
        Output(instruction=f"Say {i}.", output=text(i), generator=generator, dataset="koala")
        for i in range(n)
    ]

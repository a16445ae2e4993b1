"""An OpenAI-compatible server in this process that answers from a loaded base, or falsely.

Its numbers come from transformers' own forward pass and ``generate``, not from Maple's engine.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.json_server import JsonServer, Reply

from maple.base import LoadedBase
from maple.endpoint import Server, ServerSettings
from maple.engines import OpenAIEngine
from maple.study import EngineSettings

Spoil = Callable[[dict[str, Any], int, Callable[[], dict[str, Any]]], Reply | dict[str, Any]]
"""Request, its number from 1, and how to answer it honestly -> what is sent instead."""


class CompletionServer(JsonServer):
    """Serves one base at ``/v1``; ``spoil`` may change what it sends."""

    def __init__(self, base: LoadedBase) -> None:
        self.base = base
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.most_at_once = 0
        self.spoil: Spoil = lambda body, number, honest: honest()
        self._lock, self._model_lock = threading.Lock(), threading.Lock()
        self._under_way = 0
        super().__init__()

    def engine(self, *, tries: int = 3, timeout: float = 30.0, **settings: Any) -> OpenAIEngine:
        server = Server(
            ServerSettings(
                base_url=self.url,
                api_key="sk-secret",
                tries=tries,
                timeout_seconds=timeout,
                first_wait_seconds=0.01,
            ),
            asker="a test",
        )
        chosen = EngineSettings(name="openai", endpoint=self.url, **settings)
        return OpenAIEngine(server, chosen, model="tiny")

    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> Reply:
        with self._lock:
            self.asked.append(body)
            self.keys.add(key)
            number = len(self.asked)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            said = self.spoil(body, number, lambda: self.honest(path, body))
        finally:
            with self._lock:
                self._under_way -= 1
        return said if isinstance(said, tuple) else (200, {}, json.dumps(said).encode())

    def honest(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._model_lock:
            if path == "/v1/chat/completions":
                return self._chat(body)
            assert path == "/v1/completions"
            tokenizer = self.base.tokenizer
            prompt = body["prompt"]
            ids = prompt if isinstance(prompt, list) else tokenizer(prompt)["input_ids"]
            return self._echo(ids) if body.get("echo") else self._write(ids, body)

    def _echo(self, ids: list[int]) -> dict[str, Any]:
        import torch

        tokens = [self.base.tokenizer.decode([i]) for i in ids]
        with torch.inference_mode():
            logits = self.base.model(input_ids=torch.tensor([ids])).logits[0].double()
        scores = logits.log_softmax(dim=-1)
        values: list[Any] = [None]
        tops: list[Any] = [None]
        for place, token in enumerate(ids[1:]):
            best = int(scores[place].argmax())
            values.append(float(scores[place, token]))
            tops.append({f"t{t}": float(scores[place, t]) for t in (best, token)})
        found = {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops}
        return self._answer({"text": "".join(tokens), "logprobs": found}, len(ids), 0)

    def _write(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        text, made, reason = self._continued(ids, body)
        return self._answer({"text": text, "finish_reason": reason}, len(ids), made)

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        (message,) = body["messages"]
        text = self.base.family.chat([("user", message["content"])])
        ids = self.base.tokenizer(text)["input_ids"]
        written, made, reason = self._continued(ids, body)
        message = {"role": "assistant", "content": written}
        return self._answer({"message": message, "finish_reason": reason}, len(ids), made)

    def _continued(self, ids: list[int], body: dict[str, Any]) -> tuple[str, int, str]:
        import torch

        limit = body.get("max_tokens") or body["max_completion_tokens"]
        model: Any = self.base.model
        with torch.inference_mode():
            out = model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
                max_new_tokens=limit,
                do_sample=False,
                use_cache=True,
                pad_token_id=2,
            )[0, len(ids) :].tolist()
        text = self.base.tokenizer.decode(out, skip_special_tokens=True)
        cuts = [p for s in body.get("stop") or () if (p := text.find(s)) >= 0]
        ended = bool(cuts) or len(out) < limit or out[-1] == 1
        return text[: min(cuts)] if cuts else text, len(out), "stop" if ended else "length"

    def _answer(self, choice: dict[str, Any], read: int, made: int) -> dict[str, Any]:
        usage = {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
        return {
            "id": "1",
            "object": "text_completion",
            "created": 0,
            "model": "tiny-served",
            "choices": [{"index": 0, "finish_reason": "length", "logprobs": None, **choice}],
            "usage": usage,
        }


def failing_first(replies: list[Reply]) -> Spoil:
    """Fails the first requests so, then answers honestly."""

    def spoil(body: dict[str, Any], number: int, honest: Any) -> Reply | dict[str, Any]:
        return replies[number - 1] if number <= len(replies) else honest()

    return spoil


def shifted(by: float) -> Spoil:
    """Adds to every log-probability, different from option to option."""

    def spoil(body: dict[str, Any], number: int, honest: Any) -> Reply | dict[str, Any]:
        answer = honest()
        if found := answer["choices"][0]["logprobs"]:
            shift = by * (1 + len(body["prompt"]) % 3)
            found["token_logprobs"] = [
                v if v is None else v - shift for v in found["token_logprobs"]
            ]
        return answer

    return spoil


def slow(seconds: float, number: int) -> Spoil:
    """Waits before it answers that request."""

    def spoil(body: dict[str, Any], n: int, honest: Any) -> Reply | dict[str, Any]:
        time.sleep(seconds if n == number else 0)
        return honest()

    return spoil

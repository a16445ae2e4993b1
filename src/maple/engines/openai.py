"""An OpenAI-compatible endpoint as an engine: a vLLM server, a provider's API, any other.

    tokens   /completions with token ids; log-likelihoods by echo; the base's tokenizer is at hand
    text     /completions with text; log-likelihoods where the echoed tokens spell the text
    chat     /chat/completions, the server's own chat template; generation only

Each prompt is a request of its own, several under way at once; the server puts them together.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maple.catalog.contracts import GenerationResponse, RankingResponse, Response
from maple.endpoint import Call, RequestError, Server
from maple.engines.ahead import Ahead
from maple.engines.echo import Echo, check_count, first_from, read_echo
from maple.engines.seeds import seed_of
from maple.engines.text import text_of
from maple.errors import EngineError, SourceError
from maple.evaluate.encode import EncodedOption, EncodedRequest
from maple.study.engines import EngineSettings

_MOST_STOPS = 4
"""Stop strings that OpenAI's API takes; all of them are cut at here, too."""
_NEW_LIMIT = "max_completion_tokens"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an endpoint was asked and says it used."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class OpenAIEngine:
    """One model behind an endpoint."""

    def __init__(self, server: Server, settings: EngineSettings, *, model: str) -> None:
        """Sends nothing yet.

        Args:
            server: whom to ask.
            settings: in what form, and how many requests at once.
            model: what the server calls the model.
        """
        self.model = model
        self._server = server
        self._settings = settings
        self._ahead: Ahead[Response] = Ahead(self._answer, settings.concurrency)
        self._lock = threading.Lock()
        self._usage = Usage()
        self._least = 0
        """Tokens to generate behind an echo: 1 where the server refuses to generate none."""
        self._limit_name = "max_tokens"
        self.reported_model: str | None = None
        """What the server's last answer calls the model."""

    def expect(self, requests: Sequence[EncodedRequest]) -> None:
        """Begins to ask what will be wanted, in this order; answers of before are kept."""
        self._server.resume()
        self._ahead.expect(requests)

    def has(self, request: EncodedRequest) -> bool:
        """Whether a request's answer has come."""
        return self._ahead.has(request)

    def settle(self) -> None:
        """Calls off what waits, and waits for what is under way."""
        self._server.stop()
        self._ahead.settle()

    def close(self) -> None:
        """Ends threads and connections."""
        self._ahead.close()
        self._server.close()

    def take_usage(self) -> Usage:
        """What was used since the last call."""
        with self._lock:
            used, self._usage = self._usage, Usage()
        return used

    def loglikelihoods(self, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        """Scores the options of each request by the server's echo of them.

        Raises:
            EngineError: the server gives no log-probabilities that can be relied on.
            SourceError: the server cannot be reached, refuses, or fails at every try.
        """
        if self._settings.api == "chat":
            raise EngineError(
                f"a chat endpoint gives no log-likelihoods, and {self.model!r} is asked by one. "
                "Score ranking tasks by --scoring generation, or use --engine-api tokens or text."
            )
        answers = self._ahead.ask(requests)
        return [answer for answer in answers if isinstance(answer, RankingResponse)]

    def generate(self, requests: Sequence[EncodedRequest]) -> list[GenerationResponse]:
        """Lets the server continue each prompt.

        Raises:
            EngineError: an answer holds no text.
            SourceError: the server cannot be reached, refuses, or fails at every try.
        """
        answers = self._ahead.ask(requests)
        return [answer for answer in answers if isinstance(answer, GenerationResponse)]

    def echo(self, ids: Sequence[int]) -> Echo:
        """The tokens of a prompt with their log-probabilities, as the server echoes them.

        Raises:
            EngineError: there are none, or not as many as were sent.
            SourceError: the server cannot be reached, refuses, or fails at every try.
        """
        body = {"prompt": self._prompt(ids), "echo": True, "logprobs": 1, "temperature": 0}
        choice, usage = self._post("completions", body, limit=self._least)
        echo = read_echo(choice, usage)
        if self._settings.api == "tokens":
            check_count(echo, len(ids))
        return echo

    def first_scored(self, echo: Echo, option: EncodedOption) -> int:
        """The echoed token that an option's score begins with.

        Raises:
            EngineError: it cannot be told.
        """
        if self._settings.api == "tokens":
            return option.start
        boundary = len(text_of(option.ids[: option.start]))
        return first_from(echo, text_of(option.ids), boundary)

    def context_difference(self, option: EncodedOption) -> float | None:
        """By how much an option changes what is echoed of its context, which stands before it.

        Returns:
            Nats per token; None where the context is one token or is tokenized otherwise alone.

        Raises:
            EngineError, SourceError: as ``echo``.
        """
        whole, alone = self.echo(option.ids), self.echo(option.ids[: option.start])
        count = len(alone.tokens)
        if count < 2 or whole.tokens[:count] != alone.tokens:
            return None
        difference = whole.sum_from(1, count)[0] - alone.sum_from(1)[0]
        return abs(difference) / (count - 1)

    def _answer(self, request: EncodedRequest) -> Response:
        return self._rank(request) if request.options else self._generate(request)

    def _rank(self, request: EncodedRequest) -> RankingResponse:
        sums, flags, counts = [], [], []
        for option in request.options:
            echo = self.echo(option.ids)
            value, is_greedy, n_tokens = echo.sum_from(self.first_scored(echo, option))
            if not n_tokens:
                raise EngineError(
                    "the server echoes no token of an answer that is to be scored. Score ranking "
                    "tasks by --scoring generation."
                )
            sums.append(value)
            flags.append(is_greedy)
            counts.append(n_tokens)
        return RankingResponse(
            loglikelihoods=tuple(sums), is_greedy=tuple(flags), n_tokens=tuple(counts)
        )

    def _generate(self, request: EncodedRequest) -> GenerationResponse:
        prompt = self._prompt(request.prompt)
        body: dict[str, Any] = _decoding(request)
        if stops := [s for s in request.stop if s][:_MOST_STOPS]:
            body["stop"] = stops
        if self._settings.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
            choice, usage = self._post("chat", body, limit=request.max_new_tokens)
            text = (choice.get("message") or {}).get("content")
        else:
            choice, usage = self._post(
                "completions", body | {"prompt": prompt}, limit=request.max_new_tokens
            )
            text = choice.get("text")
        # A model that says nothing says null in a chat.
        text = "" if text is None and self._settings.api == "chat" else text
        if not isinstance(text, str):
            raise EngineError("the server's answer holds no text: it is no completion.")
        return _response(request, text, choice, usage)

    def _prompt(self, ids: Sequence[int]) -> list[int] | str:
        return list(ids) if self._settings.api == "tokens" else text_of(ids)

    def _post(
        self, call: Call, body: Mapping[str, Any], *, limit: int
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The first choice of an answer, and the usage that stands beside it."""
        name = self._limit_name
        try:
            answer = self._server.post(call, {"model": self.model, name: limit, **body})
        except RequestError as error:
            # OpenAI's newer models know the limit of a chat by another name only.
            if call == "chat" and name != _NEW_LIMIT and _NEW_LIMIT in error.reason:
                self._limit_name = _NEW_LIMIT
                return self._post(call, body, limit=limit)
            if limit == 0 and error.status in (400, 422):
                self._least = 1
                return self._post(call, body, limit=1)
            raise self._failure(error, is_echo="echo" in body) from error
        if isinstance(said := answer.get("model"), str):
            self.reported_model = said[:200]
        usage = answer.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        self._count(usage)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise EngineError("the server's answer holds no choice: it is no completion.")
        return choices[0], usage

    def _count(self, usage: Mapping[str, Any]) -> None:
        with self._lock:
            self._usage += Usage(
                requests=1,
                prompt_tokens=_whole(usage.get("prompt_tokens")),
                completion_tokens=_whole(usage.get("completion_tokens")),
            )

    def _failure(self, error: RequestError, *, is_echo: bool) -> EngineError | SourceError:
        where = f"{self.model!r} at {self._server.url or 'the OpenAI API'}"
        if is_echo and error.status in (400, 422, 501):
            return EngineError(
                f"{where} does not echo prompts with log-probabilities: {error.reason}. Score "
                "ranking tasks by --scoring generation."
            )
        after = f" after {error.tries} tries" if error.tries > 1 else ""
        return SourceError(
            f"{where} failed{after}: {error.reason}. {_advice(error)} Answers so far are kept: "
            "the same command goes on from there."
        )


def _decoding(request: EncodedRequest) -> dict[str, Any]:
    """The settings by which the next token is chosen, as the API names them."""
    sampling = request.sampling
    if sampling is None:
        return {"temperature": 0}
    found: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed_of(request),
    }
    return found | ({"extra_body": {"top_k": sampling.top_k}} if sampling.top_k else {})


def _response(
    request: EncodedRequest, text: str, choice: Mapping[str, Any], usage: Mapping[str, Any]
) -> GenerationResponse:
    cuts = [place for s in request.stop if s and (place := text.find(s)) >= 0]
    is_cut = bool(cuts) or choice.get("finish_reason") != "length"
    return GenerationResponse(
        text=text[: min(cuts)] if cuts else text,
        finish="stop" if is_cut else "length",
        n_tokens=_whole(usage.get("completion_tokens")),
    )


def _whole(value: Any) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and value > 0 else 0


def _advice(error: RequestError) -> str:
    if error.status in (401, 403):
        return "Check OPENAI_API_KEY."
    if error.status == 404:
        return "Check --engine-model and --endpoint, which ends in /v1 for most servers."
    if error.status == 429:
        wait = f"It asks to wait {error.retry_after:.0f} s. " if error.retry_after else ""
        return f"{wait}Lower --requests-per-minute or --concurrency."
    if error.status in (400, 413, 422):
        return "The server does not take this request: its log says why; a prompt may be too long."
    if not error.was_answered:
        return "Check that the server runs and --endpoint names it."
    return "Try again later, or check the server's log."

"""Requests -> token ids: the prompt in its template, context and answer tokenized as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from maple.catalog.contracts import GenerationRequest, ModelFamily, RankingRequest, Request
from maple.data import render_instruction
from maple.evaluate.branches import Row, branched_rows
from maple.evaluate.texts import Text, Tokens, tokenize_texts
from maple.study import DecodingSettings, PromptSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedOption:
    """One continuation after its context."""

    ids: tuple[int, ...]
    start: int
    """Index of the first scored token, at least 1."""


@dataclass(frozen=True)
class EncodedRequest:
    """A request as an engine takes it: options to score, or a prompt to continue."""

    options: tuple[EncodedOption, ...] = ()
    prompt: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 0
    unconditional: tuple[EncodedOption, ...] = ()
    """The options with nothing before them, for PMI; empty where that is not asked, and where the
    context is empty already."""
    was_truncated: bool = False
    """Whether the prompt was cut at its left to fit the model."""
    sampling: DecodingSettings | None = None
    """How the answer is drawn at random; None: the most likely token at every place."""
    draw_key: str = ""
    """What its random numbers belong to, beside the seed: the sample, whoever answers it."""

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows that score the options, the prompt they share fed once; none to generate."""
        return branched_rows([(o.ids, o.start) for o in self.options])

    @property
    def width(self) -> int:
        """Tokens of the longest row this request needs, the predicted last one included."""
        if self.options:
            return max(len(row.ids) for row in self.rows) + 1
        return len(self.prompt) + self.max_new_tokens


def _asks_alone(request: Request) -> bool:
    return isinstance(request, RankingRequest) and request.unconditional


class Encoder:
    """Encodes requests for one tokenizer, family and prompt wording."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        family: ModelFamily,
        prompt: PromptSettings,
        *,
        max_length: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.prompt = prompt
        self.max_length = max_length

    def wrap(self, context: str) -> str:
        """The context inside the prompt's template; unchanged under ``plain``."""
        if self.prompt.template == "plain":
            return context
        return render_instruction(
            context, template=self.prompt.template, tokenizer=self.tokenizer, family=self.family
        )

    def texts(self, request: RankingRequest | GenerationRequest) -> tuple[str, tuple[str, ...]]:
        """The context and the continuations as the model is shown them."""
        context = self.wrap(request.context)
        # A template ends where the answer begins; only plain text needs a delimiter.
        delimiter = request.delimiter if self.prompt.template == "plain" else ""
        if isinstance(request, GenerationRequest):
            return f"{context}{delimiter}", ()
        return context, tuple(f"{delimiter}{c}" for c in request.continuations)

    def ranking(self, request: RankingRequest) -> EncodedRequest:
        """Encodes every option; a sequence too long for the model loses its left end."""
        return self.encode([request])[0]

    def generation(self, request: GenerationRequest, max_new_tokens: int | None) -> EncodedRequest:
        """Encodes a prompt, leaving room for the answer."""
        return self.encode([request], max_new_tokens)[0]

    def encode(
        self, requests: Sequence[Request], max_new_tokens: int | None = None
    ) -> list[EncodedRequest]:
        """Encodes requests of either kind, their texts in few calls of the tokenizer.

        Args:
            requests: in any order.
            max_new_tokens: of every generated answer; None: the request's own limit.
        """
        worded = [self.texts(request) for request in requests]
        parts = [
            [Text(context)]
            if isinstance(request, GenerationRequest)
            else [self._split(context, c) for c in texts]
            for request, (context, texts) in zip(requests, worded, strict=True)
        ]
        # Labels and letters repeat from sample to sample: each different text is encoded once.
        alone = [
            [self._split("", c) for c in texts] if context and _asks_alone(request) else []
            for request, (context, texts) in zip(requests, worded, strict=True)
        ]
        everything = dict.fromkeys(part for each in (*parts, *alone) for part in each)
        found = dict(zip(everything, tokenize_texts(list(everything), self.tokenizer), strict=True))
        encoded = []
        for request, own, without in zip(requests, parts, alone, strict=True):
            tokens = [found[part] for part in own]
            if isinstance(request, GenerationRequest):
                encoded.append(self._generation(request, tokens[0].ids, max_new_tokens))
            else:
                encoded.append(self._ranking(own, tokens, [(p, found[p]) for p in without]))
        return encoded

    @cached_property
    def tokenizer_identity(self) -> dict[str, Any] | None:
        """What tells this tokenizer from another by its content; None of one written in Python."""
        tokenizer: Any = self.tokenizer
        if not tokenizer.is_fast:
            return None
        # Encoding anything leaves truncation and padding as encoding finds them.
        tokenizer("")
        backend = tokenizer.backend_tokenizer.to_str()
        return {
            "class": type(tokenizer).__qualname__,
            "backend": hashlib.sha256(backend.encode()).hexdigest(),
            "ends": [tokenizer.bos_token_id, tokenizer.eos_token_id],
            "bos": str(tokenizer.bos_token),
            "template": str(getattr(tokenizer, "chat_template", None)),
        }

    def _generation(
        self, request: GenerationRequest, ids: Sequence[int], max_new_tokens: int | None
    ) -> EncodedRequest:
        limit = min(max_new_tokens or request.max_new_tokens, self.max_length - 1)
        whole = ids or [self._prefix()]
        room = self.max_length - limit
        return EncodedRequest(
            prompt=tuple(whole[-room:]),
            stop=request.stop,
            max_new_tokens=limit,
            was_truncated=len(whole) > room,
        )

    def _ranking(
        self,
        parts: Sequence[Text],
        tokens: Sequence[Tokens],
        alone: Sequence[tuple[Text, Tokens]],
    ) -> EncodedRequest:
        options = [self._option(part, each) for part, each in zip(parts, tokens, strict=True)]
        return EncodedRequest(
            options=tuple(option for option, _ in options),
            unconditional=tuple(self._option(part, each)[0] for part, each in alone),
            was_truncated=any(cut for _, cut in options),
        )

    def _split(self, context: str, continuation: str) -> Text:
        # As lm-eval does: white space before the answer belongs to the answer's first token.
        # A template's last newline is no such space: generation starts after it.
        head = context.rstrip(None if self.prompt.template == "plain" else " ")
        tail = context[len(head) :] + continuation
        return Text(head, tail, special=bool(head))

    def _option(self, text: Text, tokens: Tokens) -> tuple[EncodedOption, bool]:
        ids, start = tokens
        if not text.head:
            has_prefix = list(ids[:1]) == [self._prefix()]
            ids, start = ids if has_prefix else [self._prefix(), *ids], 1
        start = max(start, 1)
        # One token more than the model's length fits: the last one is predicted, never fed.
        excess = max(0, len(ids) - (self.max_length + 1))
        return EncodedOption(tuple(ids[excess:]), max(1, start - excess)), excess > 0

    def _prefix(self) -> int:
        """What stands before an empty context: BOS, else EOS, as in lm-eval."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(bos if bos is not None else eos if eos is not None else 0)

"""Requests for a server that takes text: their ids are the text's own bytes.

Where no tokenizer is at hand, or the server tokenizes by itself, an encoded request holds UTF-8
bytes instead of token ids. Everything that reads requests goes on as before, and the text comes
back out of them whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from maple.catalog import load_family
from maple.catalog.contracts import GenerationRequest, RankingRequest, Request
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.study import PromptSettings

_BEGIN = 256
"""Stands before an empty context; no byte has it, and no text shows it."""
_LONGEST = 1 << 24
"""Bytes of a prompt: the server knows its model's length, we do not, and nothing is cut here."""


class _NoTokenizer:
    """What a template asks of a tokenizer where there is none."""

    is_fast = False
    bos_token_id = _BEGIN
    eos_token_id = None
    bos_token = None
    chat_template = None


def text_of(ids: Sequence[int]) -> str:
    """The text that a request's bytes stand for."""
    return bytes(i for i in ids if i != _BEGIN).decode("utf-8", "replace")


class TextEncoder(Encoder):
    """Encodes requests as bytes.

    An option without its context is not asked for: a server that puts nothing before a text has no
    log-probability for its first token.
    """

    def __init__(self, prompt: PromptSettings, *, is_chat: bool) -> None:
        """Encodes under a wording.

        Args:
            prompt: how samples become text.
            is_chat: whether the server wraps each prompt in its own chat template.
        """
        family = load_family("generic")
        super().__init__(cast(Any, _NoTokenizer()), family, prompt, max_length=_LONGEST)
        self._is_chat = is_chat

    def wrap(self, context: str) -> str:
        """The context inside the prompt's template, unless the server adds its own."""
        return context if self._is_chat else super().wrap(context)

    def encode(
        self, requests: Sequence[Request], max_new_tokens: int | None = None
    ) -> list[EncodedRequest]:
        """Encodes requests of either kind as the bytes of what the model is shown."""
        return [
            self._written(request, max_new_tokens)
            if isinstance(request, GenerationRequest)
            else self._ranked(request)
            for request in requests
        ]

    def _written(self, request: GenerationRequest, max_new_tokens: int | None) -> EncodedRequest:
        context, _ = self.texts(request)
        return EncodedRequest(
            prompt=_bytes(context) or (_BEGIN,),
            stop=request.stop,
            max_new_tokens=max_new_tokens or request.max_new_tokens,
        )

    def _ranked(self, request: RankingRequest) -> EncodedRequest:
        context, continuations = self.texts(request)
        # As for token ids: white space before the answer belongs to the answer's first token.
        head = _bytes(context.rstrip(None if self.prompt.template == "plain" else " "))
        front = head or (_BEGIN,)
        options = [
            EncodedOption((*front, *_bytes(context + text)[len(head) :]), len(front))
            for text in continuations
        ]
        return EncodedRequest(options=tuple(options))


def _bytes(text: str) -> tuple[int, ...]:
    # A lone surrogate, which no UTF-8 can hold, becomes a question mark.
    return tuple(text.encode("utf-8", "replace"))

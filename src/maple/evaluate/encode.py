"""Requests -> token ids: the prompt in its template, context and answer tokenized as one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from maple.catalog.contracts import GenerationRequest, ModelFamily, RankingRequest
from maple.data import render_instruction
from maple.data.tokenize import split_tokens
from maple.evaluate.branches import Row, branched_rows
from maple.study import PromptSettings

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
    """The options with nothing before them, for PMI; empty where the context is empty already."""
    was_truncated: bool = False
    """Whether the prompt was cut at its left to fit the model."""

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
        context, continuations = self.texts(request)
        options = [self._option(context, c) for c in continuations]
        alone = [self._option("", c)[0] for c in continuations] if context else []
        return EncodedRequest(
            options=tuple(o for o, _ in options),
            unconditional=tuple(alone),
            was_truncated=any(cut for _, cut in options),
        )

    def generation(self, request: GenerationRequest, max_new_tokens: int | None) -> EncodedRequest:
        """Encodes a prompt, leaving room for the answer."""
        context, _ = self.texts(request)
        limit = min(max_new_tokens or request.max_new_tokens, self.max_length - 1)
        ids = list(self.tokenizer(context)["input_ids"]) or [self._prefix()]
        room = self.max_length - limit
        return EncodedRequest(
            prompt=tuple(ids[-room:]),
            stop=request.stop,
            max_new_tokens=limit,
            was_truncated=len(ids) > room,
        )

    def _option(self, context: str, continuation: str) -> tuple[EncodedOption, bool]:
        # As lm-eval does: white space before the answer belongs to the answer's first token.
        # A template's last newline is no such space: generation starts after it.
        head = context.rstrip(None if self.prompt.template == "plain" else " ")
        tail = context[len(head) :] + continuation
        if head:
            ids, start = split_tokens(head, tail, self.tokenizer)
        else:
            own = list(self.tokenizer(tail, add_special_tokens=False)["input_ids"])
            has_prefix = own[:1] == [self._prefix()]
            ids, start = own if has_prefix else [self._prefix(), *own], 1
        start = max(start, 1)
        # One token more than the model's length fits: the last one is predicted, never fed.
        excess = max(0, len(ids) - (self.max_length + 1))
        return EncodedOption(tuple(ids[excess:]), max(1, start - excess)), excess > 0

    def _prefix(self) -> int:
        """What stands before an empty context: BOS, else EOS, as in lm-eval."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(bos if bos is not None else eos if eos is not None else 0)

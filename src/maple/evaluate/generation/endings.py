"""When an answer is complete, and what of it counts: end tokens, stop strings, the limit.

A stop string is looked for in text, since it may lie across tokens or begin inside one. Decoding
every answer after every token would cost more than the model where the model is small, so a token
that cannot bring a stop string's last character is passed over, and after one that can only the
text's end is decoded; a find is confirmed on the whole text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from maple.catalog.contracts import GenerationResponse
from maple.evaluate.encode import EncodedRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENS_PER_CHARACTER = 4
"""At most, in a byte-level vocabulary: the bytes of a character in UTF-8."""
_MARGIN = 16
"""Characters more than a stop string has: the first ones of a cut text may be broken or missing."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class Endings:
    """Ends the answers of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._may_end: dict[tuple[str, ...], dict[int, bool]] = {}

    def is_over(self, request: EncodedRequest, ids: Sequence[int]) -> bool:
        """Whether an answer is complete with its newest token."""
        return (
            len(ids) >= request.max_new_tokens
            or ids[-1] in self._end_ids
            or (bool(request.stop) and self._stops(request.stop, ids))
        )

    def response(self, request: EncodedRequest, ids: Sequence[int]) -> GenerationResponse:
        """The answer up to its end token and its first stop string."""
        end = next((i for i, token in enumerate(ids) if token in self._end_ids), None)
        kept = ids[:end]
        text = self._text(kept)
        cuts = [place for s in request.stop if s and (place := text.find(s)) >= 0]
        stopped = bool(cuts) or end is not None
        return GenerationResponse(
            text=text[: min(cuts)] if cuts else text,
            finish="stop" if stopped else "length",
            n_tokens=len(kept),
        )

    def _stops(self, stop: tuple[str, ...], ids: Sequence[int]) -> bool:
        if not self._may_bring(stop, ids[-1]):
            return False
        longest = max(map(len, stop))
        # Any cut between tokens of an answer: a text's end does not depend on where it begins,
        # but for what the margin holds.
        end = self._text(ids[-_TOKENS_PER_CHARACTER * (longest + _MARGIN) :])
        return _holds(end, stop) and _holds(self._text(ids), stop)

    def _may_bring(self, stop: tuple[str, ...], token: int) -> bool:
        """Whether a token can be the one that completes a stop string."""
        known = self._may_end.setdefault(stop, {})
        if token not in known:
            alone = self._text([token])
            last = {s[-1] for s in stop if s}
            # A token's leading space is left out where it stands alone, a character whose bytes
            # are spread over tokens is broken, and a special token has no text.
            unsure = not alone or _BROKEN in alone or any(c.isspace() for c in last)
            known[token] = unsure or not last.isdisjoint(alone)
        return known[token]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def _holds(text: str, stop: tuple[str, ...]) -> bool:
    return any(s and s in text for s in stop)

"""Texts -> token ids, many a call: the tokenizer's own loop instead of one in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from maple.data.tokenize import split_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARACTERS = 1 << 18
"""Of one call: the tokenizer holds some 100 bytes a token while its result is read."""


class Text(NamedTuple):
    """A text to encode, and the end of it that is scored."""

    head: str
    tail: str = ""
    special: bool = True
    """Whether the tokenizer adds its special tokens (BOS)."""


class Tokens(NamedTuple):
    """A text's token ids, and the index of the first that holds a character of its tail."""

    ids: Sequence[int]
    start: int


def tokenize_texts(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
    """Encodes each text as ``split_tokens`` does."""
    if not tokenizer.is_fast:
        return [Tokens(*split_tokens(t.head, t.tail, tokenizer, special=t.special)) for t in texts]
    found: dict[Text, Tokens] = {}
    for special in (True, False):
        for part in _parts([text for text in texts if text.special == special]):
            found |= _encode(part, tokenizer, special)
    return [found[text] for text in texts]


def _encode(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, special: bool
) -> dict[Text, Tokens]:
    encoded: Any = tokenizer(
        [text.head + text.tail for text in texts],
        add_special_tokens=special,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    return {
        text: Tokens(ids, _start(len(text.head), one) if text.tail else len(ids))
        for text, ids, one in zip(texts, encoded["input_ids"], encoded.encodings, strict=True)
    }


def _start(boundary: int, encoding: Any) -> int:
    """As ``split_tokens`` finds it: the first token that ends behind the boundary."""
    places = enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True))
    return next(
        (index for index, ((_, end), special) in places if end > boundary and not special),
        len(encoding.ids),
    )


def _parts(texts: Sequence[Text]) -> Iterator[list[Text]]:
    part: list[Text] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text.head) + len(text.tail)
        if size > _CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part

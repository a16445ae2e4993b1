"""Prompt and response -> token ids with the response marked, tokenized as one text.

text    ### Input:\\n ... ### Output:\\n | Nairobi ni mji mkuu ... | EOS
ids     b  t  t  t  t  t  t  t  t  t    | t  t  t  t  t  t        | e
label   .  .  .  .  .  .  .  .  .  .    | x  x  x  x  x  x        | x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from maple.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """One tokenized training example."""

    ids: tuple[int, ...]
    label_start: int
    """Index of the first response token; everything before it is masked."""
    language: str
    dataset: str
    was_truncated: bool = False

    @property
    def n_labels(self) -> int:
        """Tokens that carry loss: the response and its EOS, never the first token of all."""
        return max(0, len(self.ids) - max(self.label_start, 1))


def tokenize_example(
    prompt: str,
    response: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    language: str,
    dataset: str,
) -> Example:
    """Tokenizes prompt and response jointly and appends EOS.

    A token that holds both the prompt's last and the response's first character belongs to the
    response. An example longer than ``max_length`` is cut at its end and then has no EOS, since
    the answer does not end there; its ``n_labels`` is 0 when no response token is left.

    Raises:
        TrainingError: the tokenizer has no EOS token.
    """
    if tokenizer.eos_token_id is None:
        raise TrainingError("the tokenizer has no EOS token, so no response could ever end.")
    ids, label_start = split_tokens(prompt, response, tokenizer)
    if not ids or ids[-1] != tokenizer.eos_token_id:
        ids = [*ids, int(tokenizer.eos_token_id)]
    return Example(
        ids=tuple(ids[:max_length]),
        label_start=min(label_start, max_length),
        language=language,
        dataset=dataset,
        was_truncated=len(ids) > max_length,
    )


def split_tokens(
    head: str, tail: str, tokenizer: PreTrainedTokenizerBase, *, special: bool = True
) -> tuple[list[int], int]:
    """Tokenizes ``head + tail`` as one text and says where the tail begins.

    Args:
        head: the text before the boundary; may be empty.
        tail: the text after it.
        tokenizer: a fast tokenizer gives exact offsets; a slow one falls back to the length of
            the head's own tokens.
        special: whether the tokenizer adds its special tokens (BOS).

    Returns:
        Token ids of the whole, and the index of the first token that holds a character of the
        tail. Cutting the text first would split a token in scripts without spaces.
    """
    if not tokenizer.is_fast:
        whole = tokenizer(head + tail, add_special_tokens=special)["input_ids"]
        return list(whole), len(tokenizer(head, add_special_tokens=special)["input_ids"])
    encoded = tokenizer(
        head + tail,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    ids = list(encoded["input_ids"])
    boundary = len(head)
    for index, ((_, end), is_special) in enumerate(
        zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    ):
        if not is_special and end > boundary:
            return ids, index
    return ids, len(ids)

"""How long the prompts are in a model's tokens, how many it would cut, and tokens per word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maple import atlas
from maple.catalog.contracts import GenerationRequest, Request
from maple.catalog.words import words
from maple.certify.certificate import Check
from maple.certify.prompts import prompt_text
from maple.certify.reading import EXAMPLES, Reading
from maple.errors import SourceError

_DEFAULT_LENGTH = 4096
_UNLIMITED = 1_000_000
"""transformers says 1e30 where a tokenizer knows no length."""
_FERTILITY_CHARACTERS = 100_000
_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class TokenCounter:
    """Counts tokens as one model does."""

    name: str
    tokenizer: Any
    """A tokenizer of transformers."""
    max_length: int
    """Tokens that fit the model."""
    is_asked: bool = True
    """False for the embedded tokenizer that stands in where no model is named."""

    def count(self, texts: list[str], *, special: bool = True) -> list[int]:
        """Tokens of each text, the special ones at its start included if asked."""
        counts: list[int] = []
        for start in range(0, len(texts), _BATCH):
            batch = [t.encode("utf-8", "replace").decode() for t in texts[start : start + _BATCH]]
            encoded = self.tokenizer(
                batch, add_special_tokens=special, return_attention_mask=False, verbose=False
            )
            counts += [len(ids) for ids in encoded["input_ids"]]
        return counts


def load_counter(name: str | None = None, max_length: int | None = None) -> TokenCounter:
    """Loads a tokenizer.

    Args:
        name: a directory, a Hub repository or a shipped base; None: ``atlas-base``, which speaks
            Atlas's languages only and stands in where no model is named.
        max_length: tokens that fit; None: what the model's config, else the tokenizer, says,
            else 4096.

    Raises:
        SourceError: the tokenizer cannot be loaded.
    """
    from transformers import AutoTokenizer

    chosen = name or atlas.BASES[0]
    source = str(atlas.base_model_path(chosen)) if chosen in atlas.BASES else chosen
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"the tokenizer {chosen!r} cannot be loaded: {str(error).splitlines()[0]} "
            "Name a directory that holds tokenizer.json, or a Hub repository."
        ) from error
    return TokenCounter(
        name=chosen,
        tokenizer=tokenizer,
        max_length=max_length or _model_length(source, tokenizer),
        is_asked=name is not None,
    )


def length_checks(reading: Reading, counter: TokenCounter | None) -> Iterator[Check]:
    """Yields length and fertility, both grey where nothing counts tokens."""
    if counter is None or reading.main is None:
        message = "No tokens were counted."
        yield Check(name="length", status="grey", figure="-", message=message)
        yield Check(name="fertility", status="grey", figure="-", message=message)
        return
    yield _lengths(reading, reading.main.requests, counter)
    yield _fertility(reading, counter)


def _model_length(source: str, tokenizer: Any) -> int:
    path = Path(source) / "config.json"
    if path.is_file():
        try:
            stated = json.loads(path.read_text(encoding="utf-8")).get("max_position_embeddings")
        except ValueError as error:
            raise SourceError(f"{path}: not JSON ({error}). Copy it again.") from error
    else:
        stated = _configured_length(source)
    length = stated or tokenizer.model_max_length
    return int(length) if length < _UNLIMITED else _DEFAULT_LENGTH


def _configured_length(source: str) -> int | None:
    """The length of a Hub model's config; None where there is only a tokenizer."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError):
        return None
    return getattr(config, "max_position_embeddings", None)


def _lengths(reading: Reading, requests: Any, counter: TokenCounter) -> Check:
    counts = counter.count([prompt_text(request) for request in requests])
    cut = [
        sample.id
        for sample, request, count in zip(reading.samples, requests, counts, strict=True)
        if count > _room(request, counter.max_length)
    ]
    middle, high = (int(np.percentile(counts, q)) for q in (50, 95))
    message = (
        f"{len(cut):,} of {len(counts):,} prompts would be cut at {counter.max_length:,} tokens; "
        f"half have {middle:,} tokens or fewer, 95% {high:,} or fewer, the longest {max(counts):,}."
    )
    if not counter.is_asked:
        message += f" Told of {counter.name}, for no model was named."
    status = "green" if not cut else "yellow" if counter.is_asked else "grey"
    return Check(
        name="length",
        status=status,  # type: ignore[arg-type]
        figure=f"{len(cut):,} cut" if cut else f"{max(counts):,} at most",
        message=message,
        examples=tuple(cut[:EXAMPLES]),
    )


def _room(request: Request, max_length: int) -> int:
    """Tokens of a prompt that fit, as the engine counts: the last of a ranking is never fed."""
    if isinstance(request, GenerationRequest):
        return max_length - min(request.max_new_tokens, max_length - 1)
    return max_length + 1


def _fertility(reading: Reading, counter: TokenCounter) -> Check:
    texts, n_characters = [], 0
    for text in dict.fromkeys(t for s in reading.samples for t in reading.texts(s)):
        texts.append(text)
        n_characters += len(text)
        if n_characters >= _FERTILITY_CHARACTERS:
            break
    n_tokens = sum(counter.count(texts, special=False))
    n_words = sum(len(words(text)) for text in texts)
    per_character, per_word = n_tokens / max(1, n_characters), n_tokens / max(1, n_words)
    unit = "letter" if reading.language.writes_without_spaces else "word"
    return Check(
        name="fertility",
        status="green",
        figure=f"{per_word:.2f} per {unit}",
        message=f"{per_word:.2f} tokens of {counter.name} per {unit} and {per_character:.2f} per "
        f"character, over {n_characters:,} characters.",
    )

"""The next token of every answer: the most likely one, or one drawn at random.

What is drawn depends on the settings' seed, the sample and the place in its answer, and on nothing
else: no generator is shared, so batch, slot, worker and resume do not matter. Scores are divided by
the temperature, cut to the ``top_k`` most likely, those to the fewest that hold ``top_p``, all in
float32, in transformers' order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maple.evaluate.generation.answer import Answer
from maple.study import DecodingSettings

if TYPE_CHECKING:
    import torch

_LIKELY = 1024
"""Tokens looked at first for ``top_p``: to sort a whole vocabulary costs as much as the model."""


def draw_key(task: str, language: str, sample_id: str) -> str:
    """What a sample's random numbers are drawn by, beside the seed."""
    return "\0".join((task, language, sample_id))


def next_tokens(logits: torch.Tensor, answers: Sequence[Answer]) -> list[int]:
    """Chooses a token for each answer.

    Args:
        logits: (answers, vocabulary).
        answers: whose they are.
    """
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    kinds = {a.request.sampling for a in answers if a.request.sampling is not None}
    for settings in sorted(kinds, key=repr):
        rows = [i for i, a in enumerate(answers) if a.request.sampling == settings]
        uniforms = [_uniform(answers[i], settings.seed) for i in rows]
        for row, token in zip(rows, draw(logits[rows], uniforms, settings), strict=True):
            chosen[row] = token
    return chosen


def draw(logits: torch.Tensor, uniforms: Sequence[float], settings: DecodingSettings) -> list[int]:
    """Draws a token a row by inverting the cumulative probabilities.

    Args:
        logits: (rows, vocabulary).
        uniforms: a number in [0, 1) per row.
        settings: temperature above 0.
    """
    import torch

    shares, tokens = _candidates(logits.float() / settings.temperature, settings)
    # Summed in float64, so that the last of a large vocabulary have their share.
    sums = shares.double().cumsum(dim=-1)
    last = torch.full_like(sums[:, :1], sums.shape[1] - 1, dtype=torch.long)
    if settings.top_p < 1:
        # The first token that reaches top_p belongs to the kept ones.
        last = torch.minimum(last, (sums < settings.top_p).sum(dim=-1, keepdim=True))
    drawn = torch.tensor(uniforms, dtype=sums.dtype, device=sums.device)[:, None]
    wanted = drawn * sums.gather(1, last)
    places = torch.minimum(torch.searchsorted(sums, wanted, right=True), last)
    found: list[int] = (places if tokens is None else tokens.gather(1, places))[:, 0].tolist()
    return found


def _candidates(
    scores: torch.Tensor, settings: DecodingSettings
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Probabilities, the likeliest first, and their tokens; None: all tokens, in order."""
    import torch

    size = scores.shape[1]
    if settings.top_k is not None:
        best, order = scores.topk(min(settings.top_k, size), dim=-1)
        return torch.softmax(best, dim=-1), order
    if settings.top_p == 1:
        return torch.softmax(scores, dim=-1), None
    best, order = scores.topk(min(_LIKELY, size), dim=-1)
    # Shares of all tokens, not of those looked at.
    shares = (best - scores.logsumexp(dim=-1, keepdim=True)).exp()
    if size > _LIKELY and bool((shares.sum(dim=-1) < settings.top_p).any()):
        best, order = torch.sort(scores, dim=-1, descending=True, stable=True)
        shares = torch.softmax(best, dim=-1)
    return shares, order


def _uniform(answer: Answer, seed: int) -> float:
    """A number in [0, 1) that belongs to a sample's next place, whoever computes it."""
    text = f"{seed}\0{answer.request.draw_key}\0{len(answer.ids)}"
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53

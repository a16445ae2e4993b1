"""transformers' own loop, batch by batch, for models that cannot be told masks and positions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from maple.base import LoadedBase, compute_context
from maple.catalog.contracts import GenerationResponse
from maple.evaluate.batches import halving, token_budget_batches
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.generation.answer import Answer
from maple.evaluate.generation.choice import next_tokens
from maple.evaluate.generation.endings import Endings
from maple.evaluate.generation.stream import Limits

if TYPE_CHECKING:
    import torch
    from torch import nn


def generate_batched(
    requests: Sequence[EncodedRequest],
    model: nn.Module,
    base: LoadedBase,
    endings: Endings,
    *,
    limits: Limits,
    wanted: Collection[int] | None = None,
) -> Iterator[tuple[int, GenerationResponse]]:
    """Continues prompts; yields places in ``requests`` and answers, batch by batch.

    The batches depend on ``requests`` alone, not on which of them are wanted.

    Raises:
        MapleError: a single request does not fit into memory.
    """

    def generate(batch: Sequence[int]) -> list[object]:
        answers = [Answer(n, requests[n]) for n in batch]
        _generate(answers, model, base, endings)
        return [(a.number, endings.response(a.request, a.ids)) for a in answers]

    chosen = set(range(len(requests)) if wanted is None else wanted)
    batches = token_budget_batches(
        [r.width for r in requests],
        [1] * len(requests),
        max_tokens=limits.max_tokens,
        max_requests=limits.max_requests,
    )
    for planned in batches:
        batch = [n for n in planned if n in chosen]
        if batch:
            yield from cast(Iterator[tuple[int, GenerationResponse]], halving(batch, generate))


def _generate(answers: Sequence[Answer], model: Any, base: LoadedBase, endings: Endings) -> None:
    """Writes every answer of a batch, rows padded at the left and masked."""
    import torch

    pad = int(base.tokenizer.pad_token_id or 0)
    width = max(len(a.request.prompt) for a in answers)
    ids = np.full((len(answers), width), pad, dtype=np.int64)
    mask = np.zeros((len(answers), width), dtype=np.int64)
    for row, answer in enumerate(answers):
        ids[row, width - len(answer.request.prompt) :] = answer.request.prompt
        mask[row, width - len(answer.request.prompt) :] = 1
    follow = _Follow(answers, endings)
    with torch.inference_mode(), compute_context(base):
        model.generate(
            input_ids=torch.from_numpy(ids).to(base.device),
            attention_mask=torch.from_numpy(mask).to(base.device),
            max_new_tokens=max(a.request.max_new_tokens for a in answers),
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=pad,
            logits_processor=[follow.choose] if follow.draws else None,
            stopping_criteria=[follow.is_over],
        )


class _Follow:
    """Chooses each row's next token for ``generate``, and tells it which rows are complete."""

    def __init__(self, answers: Sequence[Answer], endings: Endings) -> None:
        self._answers = answers
        self._endings = endings
        self._over = [False] * len(answers)
        self.draws = any(a.request.sampling is not None for a in answers)
        """Whether any token is drawn at random."""

    def choose(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores in which the chosen token is the largest: greedy ``generate`` then takes it."""
        tokens = next_tokens(scores, self._answers)
        index = scores.new_tensor(tokens).long()[:, None]
        return scores.scatter(1, index, float("inf"))

    def is_over(self, input_ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        """Which rows are complete, after each has its newest token."""
        import torch

        newest = input_ids[:, -1].tolist()
        for row, (answer, token) in enumerate(zip(self._answers, newest, strict=True)):
            if not self._over[row]:
                answer.ids.append(token)
                self._over[row] = self._endings.is_over(answer.request, answer.ids)
        return torch.tensor(self._over, device=input_ids.device)

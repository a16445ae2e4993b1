"""Log-probabilities of chosen tokens, a block of rows at a time: no (rows, vocabulary) is held.

    hidden (n, d) ── head ── logits (block, vocabulary) ── log-softmax in float32 ── chosen tokens

Several tokens may be asked of one row (letters after one prompt); its logits are computed once.
"""

from __future__ import annotations

import torch

_BLOCK_VALUES = 1 << 22
"""Logits of one block."""
_CACHED_VALUES = 1 << 18
"""Of them in float32 at a time: 1 MiB."""
LEAST_ROWS = 16
"""Products of fewer rows run in other kernels, which add up in another order."""


def token_scores(
    hidden: torch.Tensor, weight: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores tokens at rows of hidden states.

    Args:
        hidden: (n, d), what the head reads.
        weight: (vocabulary, d), the head.
        places: (m,) row of each token, in any order.
        tokens: (m,) int64.

    Returns:
        (m,) float32 log-probabilities in nats, and (m,) bool: whether each is its row's likeliest.
    """
    count = len(hidden)
    read = hidden.to(weight.dtype)
    if count < LEAST_ROWS:
        read = torch.cat([read, read[-1:].expand(LEAST_ROWS - count, -1)])
    order = torch.argsort(places, stable=True)
    sorted_places = places[order].contiguous()
    values = torch.empty(len(tokens), dtype=torch.float32, device=hidden.device)
    greedy = torch.empty(len(tokens), dtype=torch.bool, device=hidden.device)
    step = max(LEAST_ROWS, _BLOCK_VALUES // len(weight))
    starts = list(range(0, max(1, len(read) - LEAST_ROWS + 1), step))
    bounds = torch.tensor([*starts[1:], len(read)], device=hidden.device)
    ends = torch.searchsorted(sorted_places, bounds).tolist()
    for start, stop, first, last in zip(
        starts, bounds.tolist(), [0, *ends[:-1]], ends, strict=True
    ):
        chosen = order[first:last]
        logits = read[start:stop] @ weight.t()
        rows, own = places[chosen] - start, tokens[chosen]
        total, likeliest = _normalisers(logits)
        values[chosen] = logits[rows, own].float() - total[rows]
        greedy[chosen] = likeliest[rows] == own
    return values, greedy


def _normalisers(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's log-sum-exp in float32, and its largest column."""
    on_cpu = logits.device.type == "cpu"
    step = max(1, _CACHED_VALUES // logits.shape[1]) if on_cpu else len(logits)
    totals, likeliest = [], []
    for rows in logits.split(step):
        values = rows.float()
        totals.append(torch.logsumexp(values, -1))
        likeliest.append(values.argmax(-1))
    return torch.cat(totals), torch.cat(likeliest)

"""Between the tokens of a pass, end to end, and the padded batches of its attention."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def laid_out(x: torch.Tensor, places: torch.Tensor, rows: int) -> torch.Tensor:
    """Takes the tokens of a batch: (tokens, heads, d) -> (rows, heads, width, d).

    Args:
        x: of all tokens of the pass.
        places: (rows * width,) which of them, row by row.
        rows: of the batch.
    """
    return x.index_select(0, places).view(rows, -1, *x.shape[1:]).transpose(1, 2)


def put_back(batches: Iterable[torch.Tensor], back: torch.Tensor) -> torch.Tensor:
    """Puts what batches of (rows, heads, width, d) answered in the tokens' order.

    Args:
        batches: laid end to end; each is asked for when the one before is flat.
        back: (tokens,) each token's place in them.

    Returns:
        (tokens, heads, d).
    """
    flat = [b.transpose(1, 2).reshape(-1, b.shape[1], b.shape[3]) for b in batches]
    laid = flat[0] if len(flat) == 1 else torch.cat(flat)
    return laid.index_select(0, back)

"""Options that share a prompt, fed once: the prompt, then every option as a branch of its own.

    fed        p0 p1 p2 p3 | a4 a5 | b4 | c4 c5 c6
    position    0  1  2  3 |  4  5 |  4 |  4  5  6
    b4 sees     x  x  x  x |       |  x |             the prompt and its own branch, nothing else

An option's last token is predicted and never fed, so options of one token add none. A row whose
options share little would be longer than it saves: then each option is a row, as a plain forward
has it. Either way the model sees every token in the same company and at the same position.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_LARGEST_SHARE = 0.8
"""Of the plain rows' tokens that a branched row may hold; above, plain rows are kept."""


@dataclass(frozen=True)
class Row:
    """One sequence of a forward pass: a shared beginning, and one branch an option."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    n_shared: int
    """Tokens that every branch sees."""
    branches: tuple[tuple[int, int], ...]
    """First and last place, the last one excluded, of each branch that holds any token."""
    targets: tuple[tuple[tuple[int, int], ...], ...]
    """Per option: the places that predict its scored tokens, each with the token."""


class Branched(Protocol):
    """Tokens of a row, their positions, and who sees whom."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids."""

    @property
    def positions(self) -> Sequence[int]:
        """Their positions."""

    @property
    def n_shared(self) -> int:
        """Tokens that every branch sees."""

    @property
    def branches(self) -> Sequence[tuple[int, int]]:
        """First and last place of each branch, the last one excluded."""


def padded_tables(
    rows: Sequence[Branched], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and positions (rows, width), padded at the right.

    Args:
        rows: of one pass.
        pad: the id that fills rows up; positions go on counting there.
    """
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    positions = np.tile(np.arange(width), (len(rows), 1))
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
        positions[number, : len(row.ids)] = row.positions
    return ids, positions


def seen(rows: Sequence[Branched], width: int) -> NDArray[np.bool_] | None:
    """What each token sees, (rows, width, width); None where causal attention says it already."""
    if all(len(row.branches) < 2 for row in rows):
        return None
    sees = np.tile(np.tri(width, dtype=bool), (len(rows), 1, 1))
    for number, row in enumerate(rows):
        for begin, end in row.branches[1:]:
            sees[number, begin:end, row.n_shared : begin] = False
    return sees


def added_mask(sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Zero where seen, in the scores' dtype: a bool mask is not taken by all kernels."""
    import torch

    zeros = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return zeros.masked_fill(~sees, torch.finfo(dtype).min)


def plain_rows(options: Sequence[tuple[tuple[int, ...], int]]) -> tuple[Row, ...]:
    """A row an option.

    Args:
        options: token ids, and the index of the first scored one (at least 1).
    """
    return tuple(_row([option]) for option in options)


def branched_rows(options: Sequence[tuple[tuple[int, ...], int]]) -> tuple[Row, ...]:
    """One row for all options, or a row an option where that is about as short.

    Args:
        options: token ids, and the index of the first scored one (at least 1).
    """
    rows = plain_rows(options)
    if len(options) < 2:
        return rows
    row = _row(options)
    return (row,) if len(row.ids) <= _LARGEST_SHARE * sum(len(r.ids) for r in rows) else rows


def common_start(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with, found by halving: slices compare at C speed."""
    first, *others = sequences

    def differs(length: int) -> bool:
        return any(each[:length] != first[:length] for each in others)

    shortest = min(map(len, sequences))
    return bisect_right(range(shortest + 1), False, key=differs) - 1


def _row(options: Sequence[tuple[tuple[int, ...], int]]) -> Row:
    fed = [ids[:-1] for ids, _ in options]
    n_shared = common_start(fed)
    row = list(fed[0][:n_shared])
    positions = list(range(n_shared))
    branches, targets = [], []
    for (ids, start), own in zip(options, fed, strict=True):
        begin = len(row)
        row += own[n_shared:]
        positions += range(n_shared, len(own))
        if len(row) > begin:
            branches.append((begin, len(row)))
        # A token is predicted at the place before it, in the shared part or in the branch.
        shift = begin - n_shared
        targets.append(
            tuple(
                (place if place < n_shared else place + shift, ids[place + 1])
                for place in range(start - 1, len(ids) - 1)
            )
        )
    return Row(tuple(row), tuple(positions), n_shared, tuple(branches), tuple(targets))

"""Attention in a tree of segments: each sees the segments on the way to it, and itself causally.

    segment 0   p p p p p                     rows without a way: one causal call per length
    segment 1   . . . . . a a                 keys: the way (0), then the row's own segments
    segment 2   . . . . . . . b b b           queries: the row's own segments, under a small mask

Segments with the same parent share a row as long as what they do not see of one another costs
less than gathering their common keys again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from maple.base.fused.places import laid_out, put_back

_CALL_PAIRS = 1 << 12
"""What one more call is worth, in token pairs."""
_GATHER_ROWS = 32
"""Reading and copying a key is worth as many products with it."""
_SHORT = 256
"""Up to as many keys a processor in bfloat16 is faster by plain products than by torch's kernel."""


class Piece(Protocol):
    """A segment as attention needs it."""

    @property
    def start(self) -> int:
        """Place of its first token in the pass."""

    @property
    def length(self) -> int:
        """Tokens."""

    @property
    def parent(self) -> int:
        """Index of the segment before it, or -1."""

    @property
    def depth(self) -> int:
        """Tokens before it."""


@dataclass(frozen=True)
class Group:
    """Rows of like shape, as one padded batch."""

    queries: torch.Tensor
    """(rows * width,) places; padding repeats a row's last."""
    keys: torch.Tensor
    """(rows * reach,) places."""
    rows: int
    mask: torch.Tensor | None
    """(rows, 1, width, reach), added to the scores; None: causal, width and reach are equal."""


@dataclass(frozen=True)
class TreeLayout:
    """Where the segments of a pass lie, of one model or of several that read the same tokens."""

    groups: tuple[Group, ...]
    back: torch.Tensor
    """(tokens,) for each token of the pass its place in the groups laid end to end."""
    longest: int
    """Tokens of the longest sequence."""


@dataclass(frozen=True)
class _Row:
    way: NDArray[np.int64]
    """Places of what all of the row's segments see."""
    own: tuple[tuple[int, int], ...]
    """Start and length of each segment."""

    @property
    def width(self) -> int:
        return sum(length for _, length in self.own)


def tree_layout(
    pieces: Sequence[Piece], *, copies: int, dtype: torch.dtype, device: torch.device
) -> TreeLayout:
    """Groups the segments of a tree for attention.

    Args:
        pieces: parents before their children; together all tokens of the pass.
        copies: how often the same tokens stand end to end.
        dtype: of the scores that masks are added to.
        device: where the model is.
    """
    tokens = sum(p.length for p in pieces)
    back = np.zeros((copies, tokens), dtype=np.int64)
    groups, laid = [], 0
    for rows in _alike(list(_rows(pieces))):
        group = _group(rows, tokens=tokens, copies=copies, dtype=dtype, device=device)
        width = len(group.queries) // group.rows
        for number, row in enumerate(rows):
            places = np.concatenate([np.arange(s, s + n) for s, n in row.own])
            for copy in range(copies):
                first = laid + (copy * len(rows) + number) * width
                back[copy, places] = np.arange(first, first + len(places))
        laid += len(group.queries)
        groups.append(group)
    longest = max(p.depth + p.length for p in pieces)
    return TreeLayout(tuple(groups), torch.from_numpy(back.reshape(-1)).to(device), longest)


def tree_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: TreeLayout,
    *,
    scale: float,
) -> torch.Tensor:
    """Attention of a pass that is laid out as a tree; without gradients.

    Args:
        query: (tokens, heads, d).
        key: (tokens, key-value heads, d); each serves as many query heads as divide evenly.
        value: (tokens, key-value heads, d).
        layout: of these tokens.
        scale: multiplies the scores.

    Returns:
        (tokens, heads, d).
    """

    def answered(group: Group) -> torch.Tensor:
        q = laid_out(query, group.queries, group.rows)
        k, v = (laid_out(x, group.keys, group.rows) for x in (key, value))
        return _attend(q, k, v, group.mask, scale=scale)

    return put_back(map(answered, layout.groups), layout.back)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scale: float,
) -> torch.Tensor:
    """(rows, heads, width, d), (rows, key-value heads, reach, d) -> the query's shape."""
    reach = key.shape[2]
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and reach <= _SHORT:
        if mask is None:
            mask = torch.full((reach, reach), float("-inf"), dtype=query.dtype).triu_(1)[None, None]
        return _by_products(query, key, value, mask, scale=scale)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )


def _by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scale: float,
) -> torch.Tensor:
    """Attention by its definition; the query heads of one key-value head are one taller product."""
    rows, heads, width, d = query.shape
    kept, reach = key.shape[1], key.shape[2]
    q = query.reshape(rows * kept, -1, d)
    k, v = (x.reshape(rows * kept, reach, d) for x in (key, value))
    scores = torch.bmm(q, k.transpose(1, 2)).view(rows, heads, width, reach)
    weights = torch.add(mask, scores, alpha=scale).softmax(-1)
    return torch.bmm(weights.view(rows * kept, -1, reach), v).view(rows, heads, width, d)


def _rows(pieces: Sequence[Piece]) -> Iterator[_Row]:
    """A row for each segment that begins a sequence, and rows of siblings for the others."""
    ways: dict[int, NDArray[np.int64]] = {-1: np.zeros(0, dtype=np.int64)}
    children: dict[int, list[tuple[int, int]]] = {}
    for number, piece in enumerate(pieces):
        children.setdefault(piece.parent, []).append((piece.start, piece.length))
        own = np.arange(piece.start, piece.start + piece.length)
        ways[number] = np.concatenate([ways[piece.parent], own])
    for parent, siblings in children.items():
        way = ways[parent]
        mean = sum(length for _, length in siblings) / len(siblings)
        # Least of (way + n * mean) * (n * mean + gather) / n, over n segments a row.
        together = max(1, round(sqrt(len(way) * _GATHER_ROWS) / mean)) if parent >= 0 else 1
        for first in range(0, len(siblings), together):
            yield _Row(way, tuple(siblings[first : first + together]))


def _alike(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Rows of similar shape together, until their padding costs what a call does."""

    def shape(row: _Row) -> tuple[bool, int, int]:
        return len(row.way) > 0, len(row.way) + row.width, row.width

    for _, same in groupby(sorted(rows, key=shape, reverse=True), key=lambda r: len(r.way) > 0):
        group: list[_Row] = []
        width = way = needed = 0
        for row in same:
            wide, far = max(width, row.width), max(way, len(row.way))
            own = row.width * (len(row.way) + row.width)
            padding = (len(group) + 1) * wide * (far + wide) - needed - own
            if group and padding > _CALL_PAIRS:
                yield group
                group, needed = [], 0
                wide, far = row.width, len(row.way)
            group.append(row)
            width, way, needed = wide, far, needed + own
        yield group


def _group(
    rows: Sequence[_Row], *, tokens: int, copies: int, dtype: torch.dtype, device: torch.device
) -> Group:
    width, far = max(r.width for r in rows), max(len(r.way) for r in rows)
    queries = np.empty((len(rows), width), dtype=np.int64)
    keys = np.empty((len(rows), far + width), dtype=np.int64)
    owner = np.full((len(rows), width), -1)
    for number, row in enumerate(rows):
        places = np.concatenate([np.arange(s, s + n) for s, n in row.own])
        queries[number, : len(places)], queries[number, len(places) :] = places, places[-1]
        keys[number, : len(row.way)], keys[number, len(row.way) : far] = row.way, places[0]
        owner[number, : len(places)] = np.repeat(np.arange(len(row.own)), [n for _, n in row.own])
    keys[:, far:] = queries
    mask = None
    if far:
        lengths = np.array([len(r.way) for r in rows])
        sees = np.empty((len(rows), width, far + width), dtype=bool)
        sees[:, :, :far] = (np.arange(far) < lengths[:, None])[:, None]
        sees[:, :, far:] = (owner[:, :, None] == owner[:, None]) & np.tri(width, dtype=bool)
        blank = torch.zeros(sees.shape, dtype=dtype)
        added = blank.masked_fill_(torch.from_numpy(~sees), float("-inf"))
        mask = added.repeat(copies, 1, 1)[:, None].to(device)
    return Group(
        _repeated(queries, tokens, copies).to(device),
        _repeated(keys, tokens, copies).to(device),
        len(rows) * copies,
        mask,
    )


def _repeated(places: NDArray[np.int64], tokens: int, copies: int) -> torch.Tensor:
    shifted = places.reshape(1, -1) + tokens * np.arange(copies)[:, None]
    return torch.from_numpy(shifted.reshape(-1))

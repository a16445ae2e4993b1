"""A batch's options as a tree: every beginning they share is fed once, however many share it.

    examples ─┬─ passage 1 ─┬─ question 1 ─┬─ option a
              │             │              └─ option b
              │             └─ question 2 ─── ...
              └─ passage 2 ─── ...

A segment's tokens see the segments on the way to it, and themselves up to their own place. An
option's last token is predicted and never fed, so options of one token add none. A beginning too
short to pay for attention in two parts is repeated in every branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LEAST_SAVED = 0.15
"""Of the tokens below a shared beginning that sharing it must save."""

Option = tuple[tuple[int, ...], int]
"""Token ids, and the index of the first scored one (at least 1)."""


@dataclass(frozen=True)
class Segment:
    """Tokens in a row, and what stands before them."""

    start: int
    """Place of the first one among all tokens of the pass."""
    length: int
    parent: int
    """Index of the segment before it; -1: it begins a sequence."""
    depth: int
    """Tokens before it: the position of its first one."""


@dataclass(frozen=True)
class Tree:
    """The tokens of one pass, end to end."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    segments: tuple[Segment, ...]
    """Parents before their children."""
    places: tuple[NDArray[np.int64], ...]
    """Per option: the places that predict its scored tokens, in order."""
    tokens: tuple[tuple[int, ...], ...]
    """Per option: its scored tokens."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(s.depth + s.length for s in self.segments)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def prefix_tree(options: Sequence[Option], *, least_tokens: int = 0) -> Tree:
    """Lays out options so that shared beginnings stand once.

    Args:
        options: of all requests of a pass.
        least_tokens: a pass of fewer is filled up with tokens that nothing reads.
    """
    fed = [ids[:-1] for ids, _ in options]
    growing = _Growing(sorted(set(fed)))
    growing.grow()
    if (missing := least_tokens - growing.size) > 0:
        growing.add((0,) * missing, -1, 0)
    where = {ids: growing.way(n) for n, ids in enumerate(growing.sequences)}
    places = tuple(
        where[own][start - 1 : len(ids) - 1] for own, (ids, start) in zip(fed, options, strict=True)
    )
    return Tree(
        np.array(growing.ids, dtype=np.int64),
        np.concatenate([np.arange(s.depth, s.depth + s.length) for s in growing.segments]),
        tuple(growing.segments),
        places,
        tuple(ids[start:] for ids, start in options),
    )


class _Growing:
    """Builds a tree from distinct sequences in lexical order."""

    def __init__(self, sequences: list[tuple[int, ...]]) -> None:
        self.sequences = sequences
        self.segments: list[Segment] = []
        self.ids: list[int] = []
        self._ends = [0] * len(sequences)
        """The segment that each sequence ends in."""
        self._alike = [common_length(a, b) for a, b in pairwise(sequences)]

    @property
    def size(self) -> int:
        return len(self.ids)

    def add(self, ids: tuple[int, ...], parent: int, depth: int) -> int:
        self.segments.append(Segment(len(self.ids), len(ids), parent, depth))
        self.ids += ids
        return len(self.segments) - 1

    def grow(self) -> None:
        # A stack of its own: sequences may lie inside one another deeper than Python recurses.
        waiting = [(0, len(self.sequences), -1, 0)]
        while waiting:
            low, high, parent, depth = waiting.pop()
            first = self.sequences[low]
            shared = min(self._alike[low : high - 1], default=len(first))
            parts = self._parts(low, high, shared)
            ends = len(first) == shared
            if self._pays(parts, depth, shared):
                parent = self.add(first[depth:shared], parent, depth)
                depth = shared
                self._ends[low] = parent if ends else 0
            elif ends:
                # It is the beginning of its neighbour, and lies inside the neighbour's segments.
                self._ends[low] = -1 - (low + 1)
            parts = parts[1:] if ends else parts
            waiting += [(*part, parent, depth) for part in reversed(parts)]

    def _parts(self, low: int, high: int, shared: int) -> list[tuple[int, int]]:
        """Sequences that go on alike behind what all share."""
        cuts = [n + 1 for n in range(low, high - 1) if self._alike[n] == shared]
        return list(zip([low, *cuts], [*cuts, high], strict=True))

    def _pays(self, parts: Sequence[tuple[int, int]], depth: int, shared: int) -> bool:
        if len(parts) == 1:
            return True
        low, high = parts[0][0], parts[-1][1]
        lengths = [len(s) - depth for s in self.sequences[low:high]]
        again = [a - depth for a in self._alike[low : high - 1]]
        ends_here = len(self.sequences[low]) == shared
        saved = (len(parts) - 1 - ends_here) * (shared - depth)
        return saved >= _LEAST_SAVED * (sum(lengths) - sum(again) + saved) and shared > depth

    def way(self, number: int) -> NDArray[np.int64]:
        """Each token's place in the pass."""
        end, length = self._ends[number], len(self.sequences[number])
        while end < 0:
            number = -1 - end
            end = self._ends[number]
        found = []
        while end >= 0:
            segment = self.segments[end]
            found.append(np.arange(segment.start, segment.start + segment.length))
            end = segment.parent
        return np.concatenate(found[::-1])[:length]

"""Keys and values of the answers being written: one slot each, in place from token to token.

    layer l   keys, values (slots, heads, length, head size)
    slot s    places 0 .. n-1 hold the answer's tokens; behind them stands what no mask shows

The answers in slots are always the first ones, without a gap, so that a pass runs over a view.
transformers' own caches put a batch's rows at one common length and copy all of them, or pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from maple.evaluate.generation.answer import Answer

if TYPE_CHECKING:
    import torch

_STEP = 32
"""Widths of a pass are multiples of it: kernels like even ones, and fewer shapes repeat."""


def rounded(width: int) -> int:
    """The width that a pass over so many places has."""
    return -(-width // _STEP) * _STEP


class Slots:
    """Room for a number of answers of at most some length."""

    def __init__(self, n_slots: int, length: int) -> None:
        self.n_slots = n_slots
        self.length = rounded(length)
        self.active: list[Answer] = []
        """The answer of each slot that is taken."""
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._at: Any = None
        self._width = 0

    def put(
        self,
        answers: Sequence[Answer],
        layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
        rows: torch.Tensor,
        places: torch.Tensor,
    ) -> None:
        """Copies the keys and values of prompts just read into the next slots.

        Args:
            answers: whose they are.
            layers: keys and values per layer, (rows, heads, width, head size).
            rows: (answers,) the row of each answer.
            places: (answers, longest) where in its row each of its tokens stands, then anything.
        """
        if not self._layers:
            self._layers = [(self._room(k), self._room(v)) for k, v in layers]
        begin, end = len(self.active), len(self.active) + len(answers)
        for own, read in zip(self._layers, layers, strict=True):
            for room, states in zip(own, read, strict=True):
                found = states.transpose(1, 2)[rows[:, None], places]
                room[begin:end, :, : places.shape[1]] = found.transpose(1, 2)
        self.active += answers

    def remove(self, finished: Sequence[int]) -> None:
        """Gives slots back; the last answers move into them."""
        gone = set(finished)
        kept = len(self.active) - len(gone)
        holes = [slot for slot in sorted(gone) if slot < kept]
        movers = [slot for slot in range(kept, len(self.active)) if slot not in gone]
        for hole, mover in zip(holes, movers, strict=True):
            self.active[hole] = self.active[mover]
        for room in (r for layer in self._layers if holes for r in layer):
            room[holes] = room[movers]
        del self.active[kept:]

    def moved(self, n_slots: int, length: int) -> Slots:
        """The same answers in more or shorter slots."""
        new = Slots(n_slots, length)
        new.active = self.active
        count, width = len(self.active), min(self.length, new.length)
        for layer in self._layers:
            pair = []
            for room in layer:
                other = room.new_zeros(n_slots, room.shape[1], new.length, room.shape[3])
                other[:count, :, :width] = room[:count, :, :width]
                pair.append(other)
            new._layers.append((pair[0], pair[1]))
        return new

    def cache(self, at: torch.Tensor, width: int) -> Any:
        """A transformers cache for one pass over all answers, one token each.

        Args:
            at: (answers,) the place of each one's token.
            width: places that the pass looks at.
        """
        from transformers.cache_utils import DynamicCache, DynamicLayer

        cache: Any = DynamicCache()
        kind: Any = DynamicLayer
        order = at.new_tensor(range(len(at)))
        for rooms in self._layers:
            layer = kind()
            vars(layer)["update"] = partial(_update, rooms, order, at, width)
            cache.layers.append(layer)
        return cache

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        # Zeros: what stands behind an answer is hidden by a number added to its scores, and
        # nothing added to a NaN hides it.
        _, heads, _, size = states.shape
        return states.new_zeros(self.n_slots, heads, self.length, size)


def _update(
    rooms: tuple[torch.Tensor, torch.Tensor],
    order: torch.Tensor,
    at: torch.Tensor,
    width: int,
    keys: torch.Tensor,
    values: torch.Tensor,
    *_: Any,
    **__: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Writes one token's keys and values into each slot; returns all that the pass looks at."""
    for room, states in zip(rooms, (keys, values), strict=True):
        room[order, :, at] = states[:, :, 0]
    n = len(order)
    return rooms[0][:n, :, :width], rooms[1][:n, :, :width]

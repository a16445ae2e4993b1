"""Examples -> rows -> micro-batches: packed, with no attention across examples.

ids        a a a a a b b b c c c c . .      one row, padded at the end
positions  0 1 2 3 4 0 1 2 0 1 2 3 0 1      restart at every example: the model reads the
labels     . . a a a . . b . c c c . .      boundaries off them and masks across them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maple.data.tokenize import Example

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass. ``targets[i]`` is the token to predict at the i-th marked position."""

    ids: torch.Tensor
    """(rows, width) int64."""
    positions: torch.Tensor
    """(rows, width) int64, from 0 in every example."""
    predicts: torch.Tensor
    """(rows, width) bool: positions whose *next* token carries loss."""
    targets: torch.Tensor
    """(label tokens,) int64, in row-major order of ``predicts``."""
    lengths: tuple[int, ...]
    """Real tokens of each row; what follows them is padding."""
    languages: tuple[tuple[str, ...], ...]
    """Per row, the language of each example; for methods that route by language."""

    @property
    def n_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return sum(self.lengths)


def pack_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Packs lengths into rows of at most ``capacity``, best fit first by decreasing length.

    Returns:
        Indices of ``lengths`` per row, longest first; deterministic (ties by index).

    Raises:
        ValueError: a length exceeds the capacity.
    """
    rows: list[list[int]] = []
    space: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"an example of {length} tokens does not fit a row of {capacity}")
        fitting = [r for r in range(len(rows)) if space[r] >= length]
        if fitting:
            row = min(fitting, key=lambda r: (space[r], r))
            rows[row].append(index)
            space[row] -= length
        else:
            rows.append([index])
            space.append(capacity - length)
    return rows


def to_micro_batches(
    examples: Sequence[Example], *, max_length: int, micro_batch_tokens: int, pad_id: int
) -> list[MicroBatch]:
    """Packs the examples of one optimiser step and cuts them into forward passes.

    Args:
        examples: the step's examples, each at most ``max_length`` tokens.
        max_length: width of a row.
        micro_batch_tokens: rows times width of a forward pass, at most (at least one row).
        pad_id: fills the end of short rows; no loss, and no example attends to it.
    """
    rows = pack_rows([len(e.ids) for e in examples], max_length)
    filled = [[examples[i] for i in row] for row in rows]
    filled.sort(key=lambda row: -sum(len(e.ids) for e in row))
    batches = []
    start = 0
    while start < len(filled):
        width = sum(len(e.ids) for e in filled[start])
        count = max(1, micro_batch_tokens // width)
        batches.append(_micro_batch(filled[start : start + count], width, pad_id))
        start += count
    return batches


def _micro_batch(rows: Sequence[Sequence[Example]], width: int, pad_id: int) -> MicroBatch:
    import torch

    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    predicts = np.zeros((len(rows), width), dtype=bool)
    targets: list[int] = []
    for r, row in enumerate(rows):
        start = 0
        for example in row:
            end = start + len(example.ids)
            ids[r, start:end] = example.ids
            positions[r, start:end] = np.arange(end - start)
            first = start + max(example.label_start, 1)
            predicts[r, first - 1 : end - 1] = True
            targets += example.ids[first - start :]
            start = end
        positions[r, start:] = np.arange(width - start)
    return MicroBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        predicts=torch.from_numpy(predicts),
        targets=torch.tensor(targets, dtype=torch.int64),
        lengths=tuple(sum(len(e.ids) for e in row) for row in rows),
        languages=tuple(tuple(e.language for e in row) for row in rows),
    )

"""Columns that are much the same in every evaluation: names of samples, metrics and checks.

What was just seen is recognised by its bytes, which costs a hundredth of looking at each row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_REMEMBERED = 16
"""Lists of samples that are recognised: runs with other batches have them in other orders."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a map column holds under one name."""

    name: str
    row: NDArray[np.int64] | None
    """(entries,) the rows that have the name; None where every row has it."""
    value: NDArray[np.float64]
    """(entries,) the numbers; 0 or 1 for a check."""

    def of(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Returns what a column, an entry per row, holds in the rows that have the name."""
        return rows if self.row is None else rows[self.row]


class Samples:
    """Numbers the samples of many evaluations: the same name gets the same number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._seen: deque[tuple[pa.Array, NDArray[np.int64], bool]] = deque(maxlen=_REMEMBERED)

    def number(self, column: pa.ChunkedArray) -> tuple[NDArray[np.int64], bool]:
        """Returns the number of each row's sample, and whether each is another.

        Args:
            column: names, none of them null.
        """
        names = whole(column)
        found = next((seen for seen in self._seen if seen[0].equals(names)), None)
        if found is None:
            encoded = names.dictionary_encode()
            distinct = encoded.dictionary.to_pylist()
            numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in distinct]
            places = _numbers(encoded.indices, np.dtype(np.int32))
            is_distinct = len(distinct) == len(names)
            found = (names, np.array(numbers, np.int64)[places], is_distinct)
            self._seen.append(found)
        return found[1:]

    def sort(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Returns the names, sorted, and by a sample's number its place among them.

        Rows come in any order; sorted, the sums over them are the same to the last bit.
        """
        names = list(self._numbers)
        place = np.empty(len(names), np.int64)
        place[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return tuple(sorted(names)), place


@dataclass(frozen=True)
class _Entries:
    """Where one name is in a map column: which rows have it, and where their values are."""

    name: str
    row: NDArray[np.int64] | None
    place: NDArray[np.int64] | slice


class Maps:
    """Parts the map columns of many evaluations by name."""

    def __init__(self) -> None:
        self._n_rows = 0
        self._last: tuple[pa.Array, pa.Array, list[_Entries]] | None = None
        self._found: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}

    def add(self, column: pa.ChunkedArray) -> None:
        """Takes in the rows of one evaluation; NULL, in older parts, reads as no entry."""
        maps = whole(column)
        if maps.null_count:
            maps = maps.fill_null(pa.scalar([], maps.type))
        rows = np.arange(self._n_rows, self._n_rows + len(maps))
        self._n_rows += len(maps)
        # A sliced array still holds its whole children.
        first, last = (maps.offsets[i].as_py() for i in (0, -1))
        value = floats(maps.items.slice(first, last - first))
        for entries in self._entries(maps.offsets, maps.keys.slice(first, last - first)):
            own = rows if entries.row is None else rows[entries.row]
            self._found.setdefault(entries.name, []).append((own, value[entries.place]))

    def by_name(self) -> tuple[Named, ...]:
        """Returns what was added, its rows counted on from one evaluation to the next."""
        return tuple(self._named(name) for name in sorted(self._found))

    def _named(self, name: str) -> Named:
        row = np.concatenate([row for row, _ in self._found[name]])
        value = np.concatenate([value for _, value in self._found[name]])
        is_everywhere = np.array_equal(row, np.arange(self._n_rows))
        return Named(name=name, row=None if is_everywhere else row, value=value)

    def _entries(self, offsets: pa.Array, keys: pa.Array) -> Sequence[_Entries]:
        if self._last is None or not (self._last[0].equals(offsets) and self._last[1].equals(keys)):
            self._last = offsets, keys, _find_entries(offsets, keys)
        return self._last[2]


def _find_entries(offsets: pa.Array, keys: pa.Array) -> list[_Entries]:
    lengths = np.diff(_numbers(offsets, np.dtype(np.int32)))
    encoded = keys.dictionary_encode()
    names, key = encoded.dictionary.to_pylist(), _numbers(encoded.indices, np.dtype(np.int32))
    k = len(names)
    # Every row has the same names in the same order, as nearly always.
    if k and (lengths == k).all() and (key.reshape(-1, k) == key[:k]).all():
        return [_Entries(names[i], None, slice(at, None, k)) for at, i in enumerate(key[:k])]
    row = np.repeat(np.arange(lengths.size), lengths)
    return [_Entries(name, row[key == i], np.flatnonzero(key == i)) for i, name in enumerate(names)]


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Returns a column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def floats(numbers: pa.Array) -> NDArray[np.float64]:
    """Returns numbers or truth values, a null as NaN.

    Not by ``to_numpy``: it imports pandas, where that is installed, which takes a second.
    """
    if numbers.type != pa.float64():
        numbers = numbers.cast(pa.float64())
    if numbers.null_count:
        numbers = numbers.fill_null(float("nan"))
    return _numbers(numbers, np.dtype(np.float64))


def _numbers(array: pa.Array, kind: np.dtype[Any]) -> NDArray[Any]:
    if not len(array):
        return np.empty(0, kind)
    values = array.buffers()[1]
    return np.frombuffer(values, kind, len(array), array.offset * kind.itemsize)

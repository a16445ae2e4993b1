"""The folders of a store, of which there may be tens of thousands."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

_READERS = 8
_STRETCH = 200
"""So many folders are read before it is asked whether the disk is waited for."""
_WAITING = 4.0
"""It is where they took so many times the processor's time; a busy machine takes twice or more."""
_Found = TypeVar("_Found")


def directories(parent: Path) -> list[Path]:
    """Returns the folders of a folder by name, no hidden one; none of one that is not there."""
    if not parent.is_dir():
        return []
    with os.scandir(parent) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    return [parent / name for name in names]


def in_order(read: Callable[[Path], _Found], folders: Sequence[Path]) -> list[_Found]:
    """Reads folders in order, in threads only where a disk is waited for.

    Small files that are in memory are read four times as fast by one thread: eight wait for one
    another's lock at every call of the system.
    """
    found: list[_Found] = []
    for first in range(0, len(folders), _STRETCH):
        began, busy = time.perf_counter(), time.thread_time()
        found += map(read, folders[first : first + _STRETCH])
        if time.perf_counter() - began > _WAITING * (time.thread_time() - busy):
            return found + _in_threads(read, folders[len(found) :])
    return found


def _in_threads(read: Callable[[Path], _Found], folders: Sequence[Path]) -> list[_Found]:
    size = -(-len(folders) // _READERS) or 1  # whole stretches: a task per file costs more
    stretches = [folders[i : i + size] for i in range(0, len(folders), size)]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(chain(*pool.map(lambda some: [read(folder) for folder in some], stretches)))


def part_files(folder: Path) -> list[Path]:
    """Returns an evaluation's parts by name; none of a folder that is not there."""
    # os.listdir, not Path.glob: a study has tens of thousands of these folders.
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / n for n in sorted(names) if n.startswith("part-") and n.endswith(".parquet")]

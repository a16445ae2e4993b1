"""Requests kept on this machine: encoded once, then mapped by every adapter, worker and later call.

``$HF_HOME/maple/requests/<key>.requests``. The key names everything that the requests follow from,
so nothing kept is ever out of date: it is only unused, and what was used longest ago goes first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maple
from maple.catalog.contracts import Task
from maple.evaluate.encode import Encoder
from maple.evaluate.planned import RequestTable
from maple.evaluate.planned_file import BrokenFileError, map_file, read_header, write_file
from maple.files import environment
from maple.study import content_id

MOST_BYTES = 8 << 30
"""What is kept at most; what was used longest ago is removed first."""
_LOADED = time.time()
_SUFFIX = ".requests"
_OPEN_TABLES = 2
_STALE_SECONDS = 3600.0
_SOURCES = (
    "catalog/*.py",
    "catalog/tasks/*",
    "catalog/models/*",
    "catalog/prompts/*",
    "data/*.py",
    "files/*.py",
    "languages.*",
    *(f"evaluate/{name}.py" for name in ("encode", "texts", "shots", "prepare", "planned")),
    *(f"evaluate/{name}.py" for name in ("batches", "branches", "prefix_tree", "planned_file")),
)
"""Of the package: what decides how a sample is read, worded, encoded and kept."""
_LIBRARIES = ("transformers", "tokenizers", "jinja2", "regex", "numpy")


class RequestStore:
    """The folder of kept requests, and the few tables of it that are open."""

    def __init__(self, folder: Path | None = None) -> None:
        """Names the folder; it is made when something is kept.

        Args:
            folder: None: the machine's own, in the Hub's folder.
        """
        self.folder = folder or environment.home() / "maple" / "requests"
        self._open: OrderedDict[str, RequestTable] = OrderedDict()
        self._checked: set[tuple[str, int]] = set()
        self._has_written = False

    def meta(self, key: str) -> dict[str, Any] | None:
        """What a kept table says of itself, by its header alone; None where it must be made."""
        path = self._path(key)
        try:
            header = read_header(path)
            os.utime(path)  # its last use: some file systems do not note when a file is read
        except (OSError, BrokenFileError):
            return None
        return header.meta

    def open(self, key: str) -> RequestTable | None:
        """A kept table, every byte of it checked once a process; None where it must be made."""
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        path = self._path(key)
        try:
            mark = (key, path.stat().st_ino)
            header, arrays = map_file(path, check=mark not in self._checked)
        except (OSError, BrokenFileError):
            return None
        self._checked.add(mark)
        return self._hold(key, RequestTable(header.meta, arrays))

    def keep(self, key: str, table: RequestTable) -> bool:
        """Keeps a table for all processes; False where the folder cannot be written."""
        self._open.pop(key, None)
        try:
            write_file(self._path(key), table.meta, table.arrays)
        except OSError:
            return False
        self._has_written = True
        return True

    @contextlib.contextmanager
    def claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Makes the other processes leave a table to this one while it is made.

        Args:
            key: the table's.
            wait: whether to wait for a process that is making it.

        Returns:
            Whether it is ours to make; where nothing can be locked, it always is.
        """
        try:
            import fcntl

            self.folder.mkdir(parents=True, exist_ok=True)
            stream = self._path(key).with_suffix(".lock").open("a")
        except (ImportError, OSError):
            yield True
            return
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks
                yield True
                return
            try:
                yield True
            finally:
                with contextlib.suppress(OSError):
                    Path(stream.name).unlink()

    def tidy(self, most_bytes: int = MOST_BYTES) -> None:
        """Removes what was used longest ago, and what killed processes left half-written."""
        if not self._has_written:
            return
        self._has_written = False
        kept: list[tuple[float, int, Path]] = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    kept.append((status.st_mtime, status.st_size, Path(entry.path)))
        total = 0
        for used, size, path in sorted(kept, reverse=True):
            total += size
            is_leftover = path.suffix != _SUFFIX or path.name.startswith(".tmp-")
            is_stale = is_leftover and time.time() - used > _STALE_SECONDS
            if is_stale or (not is_leftover and total > most_bytes):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _hold(self, key: str, table: RequestTable) -> RequestTable:
        self._open[key] = table
        while len(self._open) > _OPEN_TABLES:
            self._open.popitem(last=False)
        return table

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"


def request_key(task: Task, content: dict[str, Any], encoder: Encoder) -> str | None:
    """Names the requests of a task by all that they follow from.

    Args:
        task: words them; the file that defines it counts, wherever it is.
        content: task, language, split, limit, decoding, prompt and identity of the data.
        encoder: its tokenizer counts by its content.

    Returns:
        32 hexadecimal digits; None where something is not known well enough to be named.
    """
    tokenizer = encoder.tokenizer_identity
    code = _code()
    if tokenizer is None or code is None:
        return None
    everything = {
        **content,
        "version": task.info.version,
        "tokenizer": tokenizer,
        "code": code,
        "entries": [_own_source(type(task)), _own_source(type(encoder.family))],
        "libraries": _libraries(),
        "max_length": encoder.max_length,
        # A chat template may hold today's date, a family's wording is code: how both word a text.
        "worded": encoder.wrap("?"),
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def _libraries() -> list[str]:
    return [importlib.metadata.version(name) for name in _LIBRARIES]


@functools.cache
def _code() -> str | None:
    """Hash of Maple's own sources; None where one was edited after this process had read it."""
    root = Path(maple.__file__).parent
    digest = hashlib.sha256()
    newest = 0.0
    for path in sorted(path for pattern in _SOURCES for path in root.glob(pattern)):
        if path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            newest = max(newest, path.stat().st_mtime)
    return digest.hexdigest() if newest < _LOADED else None


def _own_source(entry: type) -> str | None:
    """Hash of the file that defines a class outside the package."""
    try:
        path = Path(inspect.getfile(entry))
        if path.is_relative_to(Path(maple.__file__).parent):
            return content_id({"class": entry.__qualname__})
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, TypeError):
        return f"{entry.__module__}.{entry.__qualname__}"

"""Named arrays and a small header in one file that is written whole, checked, and mapped.

    MAGIC | header's length and SHA-256 | header (JSON) | arrays, each at a multiple of 64 bytes

The header says what each array is, how long the file is, and the SHA-256 of all arrays. A file that
is cut, or of which a byte has changed, is told from a whole one and never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"MAPLE-REQUESTS-1"
_ALIGNMENT = 64
_LARGEST_HEADER = 1 << 24
_FIXED = struct.Struct("<Q32s")

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class BrokenFileError(Exception):
    """The file is not whole: for the caller to make it again."""


@dataclass(frozen=True)
class Header:
    """What stands at the head of a file, enough to read the rest."""

    meta: dict[str, Any]
    """What the writer says of the arrays."""
    arrays: dict[str, tuple[str, int, int]]
    """Type, number of elements and first byte, by name."""
    sha256: str
    begin: int
    """First byte after the header."""
    size: int
    """Of the whole file, in bytes."""


def write_file(path: Path, meta: Mapping[str, Any], arrays: Arrays) -> None:
    """Writes under a temporary name, then renames.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    parts = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            for block in _blocks(meta, parts):
                stream.write(block)
        # Not flushed to the disk: what a crash leaves of it does not hold against its checksum.
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_header(path: Path) -> Header:
    """Reads and checks the header, and the file's length.

    Raises:
        BrokenFileError: it is not what was written, or of another format.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        fixed = stream.read(len(MAGIC) + _FIXED.size)
        if len(fixed) < len(MAGIC) + _FIXED.size or not fixed.startswith(MAGIC):
            raise BrokenFileError(f"{path} is no file of requests")
        length, digest = _FIXED.unpack(fixed[len(MAGIC) :])
        text = stream.read(length) if length <= _LARGEST_HEADER else b""
        size = os.fstat(stream.fileno()).st_size
    if hashlib.sha256(text).digest() != digest:
        raise BrokenFileError(f"the header of {path} is broken")
    content = json.loads(text)
    arrays = {name: (str(t), int(n), int(at)) for name, (t, n, at) in content["arrays"].items()}
    begin = _padded(len(fixed) + len(text))
    header = Header(content["meta"], arrays, content["sha256"], begin, begin + content["bytes"])
    if header.size != size:
        raise BrokenFileError(f"{path} has {size} bytes, not {header.size}")
    return header


def map_file(path: Path, *, check: bool) -> tuple[Header, Arrays]:
    """Maps a file: its arrays are pages that all processes share, read when they are used.

    Args:
        path: the file; it may be renamed over or removed while it is mapped.
        check: whether to hold every byte against the checksum first.

    Raises:
        BrokenFileError: it is not what was written.
        OSError: the file cannot be read.
    """
    header = read_header(path)
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size != header.size:
            raise BrokenFileError(f"{path} was replaced while it was read")
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if check:
        with memoryview(content) as view:
            if hashlib.sha256(view[header.begin :]).hexdigest() != header.sha256:
                raise BrokenFileError(f"{path} is not what was written")
    arrays = {
        name: np.frombuffer(content, dtype=kind, count=count, offset=header.begin + first)
        for name, (kind, count, first) in header.arrays.items()
    }
    return header, arrays


def _blocks(meta: Mapping[str, Any], parts: Arrays) -> Iterator[bytes | memoryview]:
    digest = hashlib.sha256()
    placed, place = {}, 0
    for name, array in parts.items():
        placed[name] = (array.dtype.str, int(array.size), place)
        for block in _padded_bytes(array):
            digest.update(block)
        place = _padded(place + array.nbytes)
    content = {"meta": dict(meta), "arrays": placed, "bytes": place, "sha256": digest.hexdigest()}
    text = json.dumps(content).encode()
    fixed = MAGIC + _FIXED.pack(len(text), hashlib.sha256(text).digest())
    yield fixed + text + bytes(_padded(len(fixed) + len(text)) - len(fixed) - len(text))
    for array in parts.values():
        yield from _padded_bytes(array)


def _padded_bytes(array: np.ndarray[Any, Any]) -> Iterator[bytes | memoryview]:
    if array.nbytes:
        yield array.view(np.uint8).data
    yield bytes(_padded(array.nbytes) - array.nbytes)


def _padded(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT

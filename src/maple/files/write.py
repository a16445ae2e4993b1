"""Writes text files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from maple.errors import StoreError


def write_text(path: Path, text: str, *, advice: str) -> Path:
    """Writes UTF-8 under a temporary name, flushed, then renamed; makes the folder if need be.

    A lone surrogate, which no UTF-8 can hold, becomes a question mark.

    Args:
        path: the file; what stood there is replaced.
        text: its content.
        advice: what to do where it cannot be written, a sentence or two.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(text.encode("utf-8", "replace"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{path} cannot be written: {error.strerror}. {advice}") from error
    return path

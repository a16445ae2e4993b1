"""Writes report files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from maple.errors import StoreError
from maple.files import write

_ADVICE = "The results themselves are untouched; run `maple report` again once there is room."


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, replacing what stood there; makes the folder if need be.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    write.write_text(path, text, advice=_ADVICE)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes, replacing what stood there; makes the folder if need be.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{path} cannot be written: {error.strerror}. {_ADVICE}") from error

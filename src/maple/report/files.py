"""Writes report files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from maple.errors import StoreError
from maple.store.layout import TEMPORARY


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 under a temporary name and renames it; makes the folder if need be.

    A lone surrogate, which no UTF-8 can hold, becomes a question mark.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
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
        raise StoreError(
            f"{path} cannot be written: {error.strerror}. The results themselves are untouched; "
            "run `maple report` again once there is room."
        ) from error

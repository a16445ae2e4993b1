"""Writes report files whole or not at all."""

from __future__ import annotations

from pathlib import Path

from maple.files import write


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, replacing what stood there; makes the folder if need be.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    advice = "The results themselves are untouched; run `maple report` again once there is room."
    write.write_text(path, text, advice=advice)

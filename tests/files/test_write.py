"""A file is written whole or not at all, and says what to do where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from maple.errors import StoreError
from maple.files.write import write_text


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_text(path, "first", advice="-")
    assert write_text(path, "zweite \udc80", advice="-") == path
    assert path.read_bytes() == b"zweite ?"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_text(tmp_path / "page.html", "first", advice="-")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"page.html cannot be written: No space.*Make room\."):
        write_text(path, "second", advice="Make room.")
    assert path.read_text(encoding="utf-8") == "first"
    assert list(tmp_path.iterdir()) == [path]

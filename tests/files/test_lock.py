"""The lock file: written once, merged, never half-written, never guessed at."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from maple.errors import DataError, SourceError
from maple.files import Lock

ONE, TWO = "1" * 40, "2" * 40


def test_what_is_pinned_stays_pinned(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "maple.lock")
    assert lock.record("models", "org/m", ONE) == ONE
    assert lock.record("models", "org/m", TWO) == ONE
    assert Lock(tmp_path / "maple.lock").commit("models", "org/m") == ONE
    assert lock.commit("datasets", "org/m") is None


def test_two_processes_keep_each_others_entries(tmp_path: Path) -> None:
    path = tmp_path / "maple.lock"
    first, second = Lock(path), Lock(path)
    first.record("datasets", "org/a", ONE)
    second.record("datasets", "org/b", TWO)
    assert second.record("datasets", "org/a", TWO) == ONE
    assert Lock(path).entries() == [("datasets", "org/a", ONE), ("datasets", "org/b", TWO)]


def test_the_file_is_sorted_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "sub" / "maple.lock")
    lock.record("models", "b/b", ONE)
    lock.record("models", "a/a", ONE)
    lock.record("datasets", "c/c", ONE)
    text = (tmp_path / "sub" / "maple.lock").read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["datasets", "format", "models"]
    assert list(json.loads(text)["models"]) == ["a/a", "b/b"]
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["maple.lock"]


def test_a_lock_without_a_path_stays_in_memory(tmp_path: Path) -> None:
    lock = Lock()
    lock.record("models", "org/m", ONE)
    assert lock.commit("models", "org/m") == ONE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a lock file"),
        ("[]", "not a lock file of format 1"),
        ('{"format": 2}', "not a lock file of format 1"),
        ('{"format": 1, "models": []}', "'models' must map names to commits"),
        ('{"format": 1, "models": {"a/b": "main"}}', "models: a/b: 'main' is not a commit"),
    ],
)
def test_what_is_no_lock_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "maple.lock"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        Lock(path)


def test_a_failed_write_leaves_the_old_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Lock(tmp_path / "maple.lock")
    lock.record("models", "org/m", ONE)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SourceError, match=r"cannot be written \(No space left"):
        lock.record("models", "org/n", TWO)
    assert Lock(tmp_path / "maple.lock").entries() == [("models", "org/m", ONE)]
    assert [p.name for p in tmp_path.iterdir()] == ["maple.lock"]

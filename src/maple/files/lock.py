"""``maple.lock``: the commit of every Hub repository a study uses, beside the study file.

    {"format": 1, "datasets": {"facebook/xnli": "<commit>"}, "models": {"org/name": "<commit>"}}

A commit is written once, when it is first resolved, and never changed by Maple: to move on, delete
the entry (or the file). A named branch or tag has an entry of its own, ``org/name@v1.2``.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal, get_args

from maple.errors import DataError, SourceError

Kind = Literal["datasets", "models"]
Commits = dict[Kind, dict[str, str]]

_FORMAT = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash: 40 lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(revision) is not None


class Lock:
    """The commits a study is pinned to, kept in a file or, without a path, in memory."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens a lock.

        Args:
            path: the lock file, made on the first ``record``; None keeps the lock in memory.

        Raises:
            DataError: the file is not a lock.
        """
        self.path = path
        self._commits = _read(path)

    def commit(self, kind: Kind, name: str) -> str | None:
        """The commit that a repository (``org/name`` or ``org/name@tag``) is pinned to."""
        return self._commits[kind].get(name)

    def entries(self) -> list[tuple[Kind, str, str]]:
        """Every (kind, name, commit), sorted."""
        return [
            (k, n, self._commits[k][n]) for k in get_args(Kind) for n in sorted(self._commits[k])
        ]

    def record(self, kind: Kind, name: str, commit: str) -> str:
        """Pins a repository, unless it is pinned already, and writes the file.

        Returns:
            The commit that holds: another process may have pinned the repository first.

        Raises:
            DataError: the file is no longer a lock.
            SourceError: the file cannot be written.
        """
        # Another worker may have written since; what it pinned stays.
        self._commits = {k: self._commits[k] | v for k, v in _read(self.path).items()}
        holds = self._commits[kind].setdefault(name, commit)
        if self.path is not None:
            _write(self.path, self._commits)
        return holds


def _read(path: Path | None) -> Commits:
    if path is None or not path.exists():
        return {kind: {} for kind in get_args(Kind)}
    advice = "Restore it from version control, or delete it to pin what is current."
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a lock file ({error}). {advice}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DataError(f"{path}: not a lock file of format {_FORMAT}. {advice}")
    commits: Commits = {kind: content.get(kind, {}) for kind in get_args(Kind)}
    for kind, entries in commits.items():
        if not isinstance(entries, dict):
            raise DataError(f"{path}: {kind!r} must map names to commits. {advice}")
        for name, commit in entries.items():
            if not isinstance(commit, str) or not is_commit(commit):
                raise DataError(
                    f"{path}: {kind}: {name}: {commit!r} is not a commit (40 hexadecimal digits). "
                    f"{advice}"
                )
    return commits


def _write(path: Path, commits: Commits) -> None:
    text = json.dumps({"format": _FORMAT, **commits}, indent=2, sort_keys=True, ensure_ascii=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SourceError(
            f"{path}: the lock cannot be written ({error.strerror}). Free space there, or move the "
            "study to a folder that can be written."
        ) from error

"""Verdicts kept on disk: a line of JSON each, written when it comes, never changed.

The key is a hash of what was asked, so a verdict serves every later run that asks the same. A kill
can tear the last line; a torn line is passed over, and its question is asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maple.errors import StoreError
from maple.judge.outputs import Pair
from maple.judge.protocols import Protocol


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge said of one pair."""

    key: str
    judge: str
    protocol: str
    version: str
    """Hash of the prompt and the request's parameters."""
    instruction: str
    is_switched: bool
    """Whether the model's answer was shown first."""
    preference: float | None
    """1 for the answer shown first to 2 for the one shown second; None: unparsable."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The server's choice as it came."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None


def verdict_key(protocol: Protocol, judge: str, pair: Pair) -> str:
    """Hash of judge, prompt, parameters, instruction and both answers in the order shown."""
    asked = [judge, protocol.name, protocol.version, pair.instruction, *pair.shown]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()[:32]


class VerdictCache:
    """An append-only file of verdicts; safe to add to from several threads."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or a new one when the first verdict comes.

        Raises:
            StoreError: the file is there and cannot be read.
        """
        self.path = path
        self._lock = threading.Lock()
        self._found = _read(path)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str) -> Verdict | None:
        """The verdict of that key, or None where it was never asked for."""
        return self._found.get(key)

    def add(self, verdict: Verdict) -> None:
        """Appends a verdict; it is on the disk when this returns.

        Raises:
            StoreError: the file cannot be written.
        """
        line = json.dumps(asdict(verdict), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a+b") as stream:
                    stream.write(b"\n" * _is_torn(self.path) + line)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError as error:
                raise StoreError(
                    f"{self.path} cannot be written ({error.strerror}). Verdicts so far are kept; "
                    "free some space or choose another --out, and run the same command again."
                ) from error
            self._found[verdict.key] = verdict


def _is_torn(path: Path) -> bool:
    """Whether the file ends within a line, which the next one must not continue."""
    size = path.stat().st_size
    if not size:
        return False
    with path.open("rb") as stream:
        stream.seek(size - 1)
        return stream.read(1) != b"\n"


def _read(path: Path) -> dict[str, Verdict]:
    if not path.exists():
        return {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from error
    verdicts = (_parse(line) for line in lines)
    return {verdict.key: verdict for verdict in verdicts if verdict is not None}


def _parse(line: bytes) -> Verdict | None:
    try:
        return Verdict(**json.loads(line))
    except (ValueError, TypeError):
        return None

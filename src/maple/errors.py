"""Every error Maple raises on purpose.

MapleError                 what was asked, why it cannot be, what to do next
├── UsageError             the request itself is wrong: exit code 2
│   ├── StudyError         a study file: file, key, value
│   └── CatalogError       a name no catalog entry has
├── DataError              a data file: file, line, field
├── SourceError            bytes that cannot be had: network, gate, moved repository
├── StoreError             the store cannot be written or read: disk full, held by another run
├── TrainingError          a run that cannot go on: non-finite loss, nothing trainable
│   └── DeadAdapterError   an adapter that does not change the base's logits
├── EngineError            an engine that cannot answer, or not as the reference engine does
├── TrackerError           an experiment tracker that cannot be reached, or refuses what is written
├── WorkerError            a process of a study that died: out of memory, or killed
└── MismatchError          an adapter and a base (or bits) that do not belong together
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MapleError(Exception):
    """The root of the tree: its message is complete and made for the user's eyes."""

    exit_code = 1


class UsageError(MapleError):
    """What was asked for cannot be: a wrong argument, study or name."""

    exit_code = 2


class StudyError(UsageError):
    """A study file that is not a study: names the file, the key and the value."""


class CatalogError(UsageError):
    """A name that no catalog entry has; suggests the nearest ones."""


class DataError(MapleError):
    """A data file whose content is not what its format promises: names file, line and field."""


class SourceError(MapleError):
    """Bytes that cannot be had: no network, a gated or moved repository, a missing file."""


class StoreError(MapleError):
    """The store cannot be written or read: a full disk, a lock held by another run."""


class TrainingError(MapleError):
    """A run that cannot go on: a non-finite loss, no trainable parameter, no label token."""


class DeadAdapterError(TrainingError):
    """An adapter whose logits equal the base's on every probe prompt."""


class EngineError(MapleError):
    """An engine that cannot answer what is asked, or answers other than the reference engine."""


class TrackerError(MapleError):
    """An experiment tracker that cannot be reached, or refuses what is written to it."""


class WorkerError(MapleError):
    """A worker process that ended before the run it was doing: killed, or out of memory."""


class MismatchError(MapleError):
    """An adapter asked to run on another base, or at other bits, than it was trained on."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Words the message for a name that does not exist.

    Args:
        kind: what the name should have named, for example "method".
        name: the name that was asked for.
        known: every name there is.

    Returns:
        One sentence with up to three near names, then the whole list.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"no {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}."

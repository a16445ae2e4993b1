"""What a tracker must be able to do: say what it holds of a run, and take the rest."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from maple.errors import UsageError, unknown_name
from maple.trackers.contents import TrackedRun

TRACKERS = ("mlflow", "trackio", "wandb")
"""One file of this package each, and an extra of the same name."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a tracker has of a run."""

    digest: str
    """Of the run as it was written last; empty where the last writing did not come to its end."""
    step: int
    """The last step of its curve."""


class Tracker(Protocol):
    """One project of one tracker; a run there is known by our run id."""

    @property
    def place(self) -> str:
        """Where the project is, in words, without a password."""

    def held(self, run_id: str) -> Held | None:
        """Returns what is there of a run; None if nothing is."""

    def write(self, run: TrackedRun, *, after_step: int) -> None:
        """Writes a run: the steps after one that is there, and all else that differs.

        Whatever comes in between, ``held`` must not give the run's digest before all is written.
        """

    def attach(self, report: Path, digest: str) -> bool:
        """Writes the report, unless one of this digest is there; returns whether it did."""

    def close(self) -> None:
        """Waits until all is written."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to write."""

    project: str
    """MLflow's experiment; trackio's and W&B's project."""
    uri: str | None = None
    """Of a server, or of trackio's directory; None takes the library's own setting."""
    directory: Path
    """The store: what a tracker keeps on this machine alone lies there."""


def open_tracker(name: str, target: Target) -> Tracker:
    """Opens a tracker; its library is imported here and nowhere else.

    Raises:
        UsageError: there is no such tracker, or its library is not installed.
        TrackerError: it cannot be reached, or refuses the project.
    """
    if name not in TRACKERS:
        raise UsageError(unknown_name("tracker", name, TRACKERS))
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"cannot write to {name}: {error}. Run: pip install 'maple-peft[{name}]'."
        ) from error
    tracker: Tracker = importlib.import_module(f"maple.trackers.{name}").open_project(target)
    return tracker

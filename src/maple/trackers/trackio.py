"""trackio: a project per study in its local database, a run per run, under our run id.

A row of trackio is (step, metrics), with an id of which it keeps one row. A step's id is the same
every time; results and state go into rows of their own, that hold what has changed. No process of
trackio is started: its storage is written as its own importers write it, and `trackio show` or
`trackio sync` take it from there. No public call of trackio 0.43 keeps a row's time or our id.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maple.errors import TrackerError
from maple.trackers.contents import TrackedRun
from maple.trackers.protocol import Held, Target

_DIGEST = "maple_digest"
_FLAGS = ("done", "failed")


def open_project(target: Target) -> TrackioProject:
    """Opens the project in trackio's directory; nothing is made before a run is written.

    Raises:
        TrackerError: a server's address, or another directory than the process began with.
    """
    if target.uri and "://" in target.uri:
        raise TrackerError(
            "trackio is written to its directory on this machine, not to a server. Leave --uri out "
            "or name a directory; `trackio sync` sends the project to a Space afterwards."
        )
    if target.uri:
        os.environ["TRACKIO_DIR"] = target.uri
    from trackio import utils
    from trackio.sqlite_storage import SQLiteStorage

    # Read by trackio when it is imported, which may have been earlier.
    if target.uri and Path(target.uri) != Path(utils.TRACKIO_DIR):
        raise TrackerError(
            f"trackio already writes to {utils.TRACKIO_DIR} in this process, not to {target.uri}. "
            "Set TRACKIO_DIR before it starts."
        )
    return TrackioProject(SQLiteStorage, target.project)


class TrackioProject:
    """One project; implements ``Tracker``."""

    def __init__(self, storage: Any, project: str) -> None:
        """Reads nothing yet.

        Args:
            storage: trackio's ``SQLiteStorage``.
            project: its name; in a file's name trackio keeps only letters, digits, - and _.
        """
        self._storage, self._project = storage, project

    @property
    def place(self) -> str:
        """The project and its database."""
        return f"project {self._project!r} in {self._storage.get_project_db_path(self._project)}"

    def held(self, run_id: str) -> Held | None:
        """What the run's configuration and rows say.

        Raises:
            TrackerError: the database cannot be read.
        """
        try:
            config = self._storage.get_run_config(self._project, run_id=run_id)
            if config is None:
                return None
            step = self._storage.get_max_step_for_run(self._project, run_id=run_id)
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from error
        return Held(digest=str(config.get(_DIGEST, "")), step=int(step or 0))

    def write(self, run: TrackedRun, *, after_step: int) -> None:
        """Writes rows and configuration, all in one transaction.

        Raises:
            TrackerError: the database cannot be written.
        """
        points = [p for p in run.curve if p.step > after_step]
        flags = {f"status/{flag}": float(run.status == flag) for flag in _FLAGS}
        last = max(after_step, run.last_step)
        try:
            there = self._latest(run.run_id)
            new = {k: v for k, v in {**run.results, **flags}.items() if there.get(k) != v}
            rows = [(p.step, p.seconds, p.values, f"step-{p.step}") for p in points]
            if new:
                rows.append((last, points[-1].seconds if points else 0.0, new, run.digest))
            self._storage.bulk_log(
                self._project,
                run.label,
                # Without a row trackio would not keep the configuration either.
                [dict(values) for _, _, values, _ in rows] or [flags],
                steps=[step for step, *_ in rows] or [last],
                timestamps=[_time(run.started + seconds) for _, seconds, *_ in rows]
                or [_time(run.started)],
                config=_config(run),
                log_ids=[f"maple-{run.run_id}-{name}" for *_, name in rows]
                or [f"maple-{run.run_id}-{run.digest}"],
                run_id=run.run_id,
            )
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from error

    def attach(self, report: Path, digest: str) -> bool:
        """Leaves the report where it is: trackio shows no page of another's making."""
        return False

    def close(self) -> None:
        """Does nothing: each run is written in one transaction."""

    def _latest(self, run_id: str) -> dict[str, Any]:
        """The last value of each metric."""
        found: dict[str, Any] = {}
        for row in self._storage.get_logs(self._project, run_id=run_id):
            found |= row
        return found

    def _refused(self, error: Exception) -> TrackerError:
        return TrackerError(
            f"trackio's {self.place} cannot be used: {error}. What was written stays; run the same "
            "command again once it can."
        )


def _config(run: TrackedRun) -> dict[str, Any]:
    failure = run.failure
    words = {"status": run.status, "maple_run_id": run.run_id, _DIGEST: run.digest}
    if failure is not None:
        words |= {"failed_stage": failure.stage, "error": failure.error}
    return {**run.parameters, **run.notes, **words}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()

"""Weights & Biases: a project per study, a run per run, whose id there is our run id.

Offline unless asked otherwise: each writing of a run is a folder under ``wandb/`` of the store,
which ``wandb sync`` sends. Such a folder cannot be asked what an earlier one held, so a file beside
them, ``maple-<project>.json``, says what was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maple.errors import TrackerError
from maple.files.write import write_text
from maple.trackers.contents import TrackedRun
from maple.trackers.names import metric_name
from maple.trackers.protocol import Held, Target

_REPORT = "report"
_ALONE: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
}
"""Without what W&B would add of its own: this process and machine are not those that trained."""


def open_project(target: Target) -> WandbProject:
    """Opens the project; nothing is made before a run is written.

    Online where a server is named by ``uri``, or ``WANDB_MODE`` says so; else offline.

    Raises:
        TrackerError: the file that says what was written cannot be read.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    settings = dict(_ALONE)
    mode = os.environ.get("WANDB_MODE", "offline")
    if target.uri:
        mode, settings["base_url"] = "online", target.uri
    return WandbProject(target.project, target.directory, mode=mode, settings=settings)


class WandbProject:
    """One project; implements ``Tracker``."""

    def __init__(
        self, project: str, directory: Path, *, mode: str, settings: Mapping[str, Any]
    ) -> None:
        """Reads what was written before.

        Args:
            project: its name.
            directory: where W&B makes its folder ``wandb``.
            mode: W&B's own word: ``online``, ``offline``, ...
            settings: more of W&B's settings.

        Raises:
            TrackerError: the file that says what was written cannot be read.
        """
        self._project, self._directory = project, directory
        self._mode, self._settings = mode, settings
        self._ledger = directory / "wandb" / f"maple-{metric_name(project)}.json"
        self._written = _read(self._ledger)

    @property
    def place(self) -> str:
        """The project, and the folders to send where it is offline."""
        if self._mode == "offline":
            folders = self._directory / "wandb" / "offline-run-*"
            return f"project {self._project!r}, offline (`wandb sync --append {folders}` sends it)"
        return f"project {self._project!r}, {self._mode}"

    def held(self, run_id: str) -> Held | None:
        """What the file says."""
        found = self._written.get(run_id)
        return None if found is None else Held(digest=found["digest"], step=found["step"])

    def write(self, run: TrackedRun, *, after_step: int) -> None:
        """Writes the run's new steps, and its summary and configuration as a whole.

        Raises:
            TrackerError: W&B refuses something, cannot be reached or cannot write.
        """
        failure = run.failure
        config = {**run.parameters, **run.notes, "maple_run_id": run.run_id}
        with self._run(id=run.run_id, name=run.label, config=config) as there:
            for point in run.curve:
                if point.step > after_step:
                    there.log(dict(point.values), step=point.step)
            there.summary.update({**run.results, "status": run.status})
            # Written empty too: what an earlier try left must not stay.
            there.summary.update(
                {
                    "failed_stage": failure.stage if failure else "",
                    "error": failure.error if failure else "",
                }
            )
            there.finish(exit_code=0 if failure is None else 1)
        self._keep(run.run_id, run.digest, max(after_step, run.last_step))

    def attach(self, report: Path, digest: str) -> bool:
        """Writes the report as an artifact of a run of its own.

        Raises:
            TrackerError: W&B refuses it, cannot be reached or cannot write.
        """
        held = self.held(_REPORT)
        if held is not None and held.digest == digest:
            return False
        from wandb import Artifact

        with self._run(id=_REPORT, name=_REPORT, config={}) as there:
            artifact = Artifact(_REPORT, type=_REPORT)
            artifact.add_file(str(report))
            there.log_artifact(artifact)
            there.finish()
        self._keep(_REPORT, digest, 0)
        return True

    def close(self) -> None:
        """Does nothing: a run is finished when it is written."""

    @contextmanager
    def _run(self, **what: Any) -> Iterator[Any]:
        import wandb

        try:
            with wandb.init(
                project=self._project,
                dir=self._directory,
                # W&B warns that it cannot resume offline; the id alone joins the parts there.
                resume="allow" if self._mode == "online" else None,
                reinit="create_new",
                mode=self._mode,
                settings=wandb.Settings(**self._settings),
                **what,
            ) as run:
                yield run
        except (wandb.Error, OSError, TimeoutError) as error:
            raise TrackerError(
                f"W&B's {self.place} cannot be written to: {' '.join(str(error).split())[:600]} "
                "What was written stays; run the same command again once it can."
            ) from error

    def _keep(self, run_id: str, digest: str, step: int) -> None:
        self._written[run_id] = {"digest": digest, "step": step}
        text = json.dumps(self._written, indent=2, sort_keys=True)
        write_text(self._ledger, text, advice="The run was written, and will be again.")


def _read(ledger: Path) -> dict[str, dict[str, Any]]:
    if not ledger.exists():
        return {}
    try:
        content = json.loads(ledger.read_text(encoding="utf-8"))
        return {
            str(run): {"digest": str(held["digest"]), "step": int(held["step"])}
            for run, held in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrackerError(
            f"{ledger}, which says what W&B was told, cannot be read: {error}. Remove it, and "
            "everything is written again."
        ) from error

"""MLflow: an experiment per study, a run per run, found again by the tag ``maple.run_id``.

A metric of MLflow is a list of (value, time, step) that nothing can be taken from, so what is there
is asked for first. Steps are sent in batches, each with the tag ``maple.step`` that says how far
they reach, and their times are counted from the time that the run has in MLflow: a batch that is
sent twice is the same rows, which its databases keep once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from maple.errors import TrackerError
from maple.trackers.contents import Point, TrackedRun
from maple.trackers.protocol import Held, Target

_MOST_METRICS = 900
"""In one request; MLflow takes 1,000 of metrics, parameters and tags together."""
_MOST_PARAMETERS = 90
_MOST_TEXT = 4_000
"""Characters of a parameter's or a tag's value; MLflow cuts or refuses above 5,000 to 8,000."""
_RUN_ID, _STEP, _DIGEST, _REPORT = (
    f"maple.{name}" for name in ("run_id", "step", "digest", "report")
)
_FAILURE = ("maple.failed_stage", "maple.error")
_OUR_REPORT = "report"
"""The ``maple.run_id`` of the run that the report is an artifact of."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Unsaid, MLflow's page takes an experiment for one of prompts and traces, and leads to those."""
_STATUS = {"done": "FINISHED", "failed": "FAILED", "unfinished": "RUNNING"}


def open_project(target: Target) -> MlflowExperiment:
    """Opens the experiment, which is made where there is none.

    Raises:
        TrackerError: the server cannot be reached, or the experiment was deleted.
    """
    # Nothing is sent to anyone but the server named; and a wrong address is said within seconds.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow.tracking import MlflowClient

    uri = target.uri or os.environ.get("MLFLOW_TRACKING_URI")
    with _naming(uri):
        return MlflowExperiment(MlflowClient(tracking_uri=uri), target.project)


class MlflowExperiment:
    """One experiment; implements ``Tracker``."""

    def __init__(self, client: Any, name: str) -> None:
        """Finds the experiment or makes it, and asks once what it holds.

        Args:
            client: an ``MlflowClient``.
            name: of the experiment.

        Raises:
            TrackerError: an experiment of this name was deleted.
        """
        self._client, self._name = client, name
        self._uri = str(client.tracking_uri)
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise TrackerError(
                f"the experiment {name!r} of {self.place} was deleted, and MLflow keeps its name. "
                f"Restore it (`mlflow experiments restore -x {found.experiment_id}`), or name "
                "another with --project."
            )
        self._experiment = (
            client.create_experiment(name, tags=_KIND) if found is None else found.experiment_id
        )
        self._runs = {run.data.tags[_RUN_ID]: run for run in self._ours()}

    @property
    def place(self) -> str:
        """The experiment and its server."""
        return f"experiment {self._name!r} at {_without_password(self._uri)}"

    def held(self, run_id: str) -> Held | None:
        """What the run's tags say."""
        run = self._runs.get(run_id)
        if run is None:
            return None
        tags = run.data.tags
        return Held(digest=tags.get(_DIGEST, ""), step=int(tags.get(_STEP, 0)))

    def write(self, run: TrackedRun, *, after_step: int) -> None:
        """Writes the run: its digest is taken away first, and put there last.

        Raises:
            TrackerError: MLflow refuses something, or cannot be reached.
        """
        with _naming(self._uri):
            there = self._runs.get(run.run_id) or self._create(run)
            of = there.info.run_id
            if there.data.tags.get(_DIGEST):
                self._client.set_tag(of, _DIGEST, "")
            self._write_parameters(of, run.parameters, there.data.params)
            for batch in _batches([p for p in run.curve if p.step > after_step]):
                self._write_points(of, batch, there.info.start_time)
            self._write_results(of, run.results, there.data.metrics)
            self._write_state(of, run, there.data.tags)
            self._client.set_tag(of, _DIGEST, run.digest)
            self._runs[run.run_id] = self._client.get_run(of)

    def attach(self, report: Path, digest: str) -> bool:
        """Writes the report as an artifact of a run of its own.

        Raises:
            TrackerError: MLflow refuses it, or cannot be reached.
        """
        with _naming(self._uri):
            there = self._runs.get(_OUR_REPORT)
            if there is not None and there.data.tags.get(_REPORT) == digest:
                return False
            if there is None:
                tags = {_RUN_ID: _OUR_REPORT}
                there = self._client.create_run(self._experiment, tags=tags, run_name=_OUR_REPORT)
            of = there.info.run_id
            self._client.log_artifact(of, str(report))
            self._client.set_tag(of, _REPORT, digest)
            self._client.set_terminated(of, "FINISHED")
            self._runs[_OUR_REPORT] = self._client.get_run(of)
            return True

    def close(self) -> None:
        """Does nothing: each request is answered when it is done."""

    def _ours(self) -> Iterator[Any]:
        """Runs of the experiment that have our tag; those that a user deleted are not there."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{_RUN_ID}` != ''", max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, run: TrackedRun) -> Any:
        return self._client.create_run(
            self._experiment,
            start_time=round(run.started * 1000),
            tags={_RUN_ID: run.run_id},
            run_name=run.label,
        )

    def _write_parameters(
        self, of: str, wanted: Mapping[str, Any], there: Mapping[str, str]
    ) -> None:
        """Writes those that are not there: MLflow never lets one be changed."""
        from mlflow.entities import Param

        new = [Param(k, str(v)[:_MOST_TEXT]) for k, v in wanted.items() if k not in there]
        for first in range(0, len(new), _MOST_PARAMETERS):
            self._client.log_batch(of, params=new[first : first + _MOST_PARAMETERS])

    def _write_points(self, of: str, points: Sequence[Point], start: int) -> None:
        from mlflow.entities import Metric, RunTag

        metrics = [
            Metric(name, value, start + round(point.seconds * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        reached = RunTag(_STEP, str(points[-1].step))
        self._client.log_batch(of, metrics=metrics, tags=[reached])

    def _write_results(
        self, of: str, wanted: Mapping[str, float], there: Mapping[str, float]
    ) -> None:
        """Writes the numbers that differ; of one that was written before, the new one is shown."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        new = [Metric(name, v, now, 0) for name, v in wanted.items() if there.get(name) != v]
        for first in range(0, len(new), _MOST_METRICS):
            self._client.log_batch(of, metrics=new[first : first + _MOST_METRICS])

    def _write_state(self, of: str, run: TrackedRun, there: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        failure = run.failure
        words = {f"maple.{name}": text for name, text in run.notes.items()}
        if failure is not None:
            words |= dict(zip(_FAILURE, (failure.stage, failure.error), strict=True))
            if failure.traceback:
                self._client.log_text(of, failure.traceback, "traceback.txt")
        tags = [RunTag(k, v[:_MOST_TEXT]) for k, v in words.items() if there.get(k) != v]
        if tags:
            self._client.log_batch(of, tags=tags)
        for name in () if failure is not None else _FAILURE:
            if name in there:
                self._client.delete_tag(of, name)
        self._client.update_run(of, status=_STATUS[run.status], name=run.label)
        if run.ended is not None:
            self._client.set_terminated(of, _STATUS[run.status], round(run.ended * 1000))


def _batches(points: Iterable[Point]) -> Iterator[list[Point]]:
    """Whole steps, as many as one request takes."""
    batch: list[Point] = []
    size = 0
    for point in points:
        if batch and size + len(point.values) > _MOST_METRICS:
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += len(point.values)
    if batch:
        yield batch


@contextmanager
def _naming(uri: str | None) -> Iterator[None]:
    """Turns MLflow's errors into ours, with the server's address and what it said."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ImportError) as error:
        where = _without_password(uri) if uri else "its default place"
        said = " ".join(str(error).split())
        if uri:
            said = said.replace(uri, where)
        raise TrackerError(
            f"MLflow at {where} cannot be written to: {said[:600]} What was written stays; "
            "run the same command again once it can. A database's address (sqlite:///...) needs "
            "the whole of it: pip install mlflow."
        ) from error


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

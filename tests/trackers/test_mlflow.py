"""MLflow for real: its own server, on SQLite, read back by its own client."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder
from tests.trackers.growing import BASE, FAILED, HITS, RUNNING, TUNED, train_to

from maple.errors import TrackerError
from maple.trackers import Target, open_tracker, write_study

for needed in ("mlflow", "sqlalchemy", "alembic", "flask", "flask_cors"):
    pytest.importorskip(
        needed,
        reason=f"needs {needed} (extra: mlflow, and its server's parts)",
        exc_type=ImportError,
    )

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SECONDS_TO_START = 240


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is this module's own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        # In a group of its own: the server has children, and all of them have to go.
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(url, process, folder / "log")
        yield url
    finally:
        # At once: the server's own way out waits for its children, and nothing here is kept.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"MLflow's server did not start: {log.read_text()}")


def runs(url: str, project: str) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(project)
    assert experiment is not None
    there = list(client.search_runs([experiment.experiment_id]))
    found = {run.data.tags["maple.run_id"]: run for run in there}
    assert len(found) == len(there), "a run is there twice"
    return found


def history(url: str, run: Any, metric: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    rows = MlflowClient(url).get_metric_history(run.info.run_id, metric)
    return sorted((m.step, m.value) for m in rows)


def write(builder: StoreBuilder, url: str, project: str) -> tuple[int, int]:
    tracker = open_tracker("mlflow", Target(project=project, uri=url, directory=builder.directory))
    done = write_study(builder.directory, tracker)
    return done.written, done.unchanged


def test_a_study_is_there_once_grows_and_ends(server: str, builder: StoreBuilder) -> None:
    from mlflow.tracking import MlflowClient

    builder.evaluation(TUNED, TASKS[0], "swh_Latn", HITS)
    (builder.directory / "report.html").write_text("<p>report")
    train_to(builder, RUNNING, 3)
    assert write(builder, server, "grows") == (4, 0)
    assert write(builder, server, "grows") == (0, 4)
    there = runs(server, "grows")
    assert set(there) == {BASE.id, TUNED.id, FAILED.id, RUNNING.id, "report"}
    states = {run: there[run].info.status for run in there}
    assert states == {
        BASE.id: "FINISHED", TUNED.id: "FINISHED", FAILED.id: "FAILED", RUNNING.id: "RUNNING",
        "report": "FINISHED",
    }  # fmt: skip
    tuned, failed = there[TUNED.id], there[FAILED.id]
    assert tuned.info.run_name == TUNED.label
    assert (tuned.data.params["parameter.rank"], tuned.data.params["bits"]) == ("8", "16.0")
    assert tuned.data.metrics["score/xnli/swh_Latn"] == pytest.approx(0.7)
    assert tuned.data.metrics["cost/train_seconds"] == 60.0
    expected = [(n, pytest.approx(2.0 + 3.0 / n)) for n in range(1, 31)]
    assert history(server, tuned, "train/loss") == expected
    assert history(server, there[RUNNING.id], "validation_loss/swh_Latn") == [(2, 2.5)]
    assert failed.data.tags["maple.error"] == "TrainingError: the loss is not finite at step 3"
    client = MlflowClient(server)
    kind = client.get_experiment_by_name("grows").tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    assert [a.path for a in client.list_artifacts(there["report"].info.run_id)] == ["report.html"]

    train_to(builder, RUNNING, 5)
    builder.evaluation(TUNED, TASKS[0], "tha_Thai", HITS)
    (builder.directory / "runs" / FAILED.id / "failed.json").unlink()
    builder.run(Run(rank=4))
    assert write(builder, server, "grows") == (3, 1)
    there = runs(server, "grows")
    assert [n for n, _ in history(server, there[RUNNING.id], "train/loss")] == [1, 2, 3, 4, 5]
    assert history(server, there[TUNED.id], "train/loss") == expected
    assert len(history(server, there[TUNED.id], "score/xnli/swh_Latn")) == 1
    assert "score/xnli/tha_Thai" in there[TUNED.id].data.metrics
    assert there[FAILED.id].info.status == "FINISHED"
    assert "maple.error" not in there[FAILED.id].data.tags


def test_a_writing_that_was_killed_is_finished_and_nothing_is_there_twice(
    server: str, builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maple.trackers import mlflow as writer

    monkeypatch.setattr(writer, "_MOST_METRICS", 20)
    write_points = writer.MlflowExperiment._write_points
    batches: list[int] = []

    def killed(self: Any, of: str, points: Any, start: int) -> None:
        batches.append(len(points))
        if len(batches) == 3:
            # The rows arrive; what says so does not.
            monkeypatch.setattr(writer, "_STEP", "maple.lost")
            write_points(self, of, points, start)
            raise KeyboardInterrupt
        write_points(self, of, points, start)

    monkeypatch.setattr(writer.MlflowExperiment, "_write_points", killed)
    with pytest.raises(KeyboardInterrupt):
        write(builder, server, "killed")
    monkeypatch.undo()
    write(builder, server, "killed")
    assert batches == [5, 5, 5]
    steps = [n for n, _ in history(server, runs(server, "killed")[TUNED.id], "train/loss")]
    assert steps == list(range(1, 31))


def test_an_experiment_that_was_deleted_is_named(server: str, builder: StoreBuilder) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(TrackerError, match=r"'gone'.*was deleted.*--project"):
        write(builder, server, "gone")


def test_a_server_that_is_not_there_is_an_error_without_its_password(
    builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackerError) as raised:
        write(builder, f"http://me:secret@127.0.0.1:{free_port()}", "x")
    assert "http://127.0.0.1" in str(raised.value)
    assert "secret" not in str(raised.value)

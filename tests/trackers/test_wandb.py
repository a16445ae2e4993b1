"""W&B for real, offline: read back from the files that it would send."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.analysis.synthetic import TASKS, StoreBuilder
from tests.trackers.growing import FAILED, HITS, RUNNING, TUNED, train_to

from maple.errors import TrackerError
from maple.trackers import Target, open_tracker, write_study

pytest.importorskip("wandb", reason="needs wandb (extra: wandb)", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def records(path: Path) -> Iterator[Any]:
    """The records of a transaction log: LevelDB's log format after seven bytes of W&B's own."""
    from wandb.proto import wandb_internal_pb2 as internal

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            record = internal.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def told(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Per run id, what each of its folders says: steps, summary, parameters, exit code."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        said: dict[str, Any] = {"steps": [], "summary": {}, "config": {}, "exit": None}
        for record in records(path):
            if record.HasField("history"):
                items = {_key(i): json.loads(i.value_json) for i in record.history.item}
                said["steps"].append((items.pop("_step"), items))
            elif record.HasField("summary"):
                said["summary"] |= {
                    _key(i): json.loads(i.value_json) for i in record.summary.update
                }
            elif record.HasField("run"):
                said["config"] |= {
                    _key(i): json.loads(i.value_json) for i in record.run.config.update
                }
            elif record.HasField("exit"):
                said["exit"] = record.exit.exit_code
        found.setdefault(path.stem.removeprefix("run-"), []).append(said)
    return found


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def write(builder: StoreBuilder) -> tuple[int, int]:
    done = write_study(
        builder.directory,
        open_tracker("wandb", Target(project="a study", directory=builder.directory)),
    )
    return done.written, done.unchanged


def test_a_study_is_told_once_and_grows(
    builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", HITS)
    (builder.directory / "report.html").write_text("<p>report")
    train_to(builder, RUNNING, 3)
    assert write(builder) == (4, 0)
    assert write(builder) == (0, 4)
    there = told(builder.directory)
    assert {len(parts) for parts in there.values()} == {1}
    (tuned,), (failed,) = there[TUNED.id], there[FAILED.id]
    losses = [(step, row["train/loss"]) for step, row in tuned["steps"]]
    assert losses == [(n, pytest.approx(2.0 + 3.0 / n)) for n in range(1, 31)]
    assert tuned["summary"]["score/xnli/swh_Latn"] == pytest.approx(0.7)
    assert tuned["config"]["parameter.rank"] == 8
    assert (tuned["exit"], failed["exit"]) == (0, 1)
    assert failed["summary"]["error"] == "TrainingError: the loss is not finite at step 3"
    assert "report" in there

    train_to(builder, RUNNING, 5)
    assert write(builder) == (1, 3)
    first, second = told(builder.directory)[RUNNING.id]
    assert [step for step, _ in first["steps"]] == [1, 2, 3]
    assert [step for step, _ in second["steps"]] == [4, 5]


def test_a_ledger_that_cannot_be_read_is_named(builder: StoreBuilder) -> None:
    ledger = next(iter(_ledgers(builder)))
    ledger.parent.mkdir()
    ledger.write_text("[]")
    with pytest.raises(TrackerError, match=r"maple-.*\.json.*Remove it"):
        write(builder)


def _ledgers(builder: StoreBuilder) -> Iterator[Path]:
    from maple.trackers.names import metric_name

    yield builder.directory / "wandb" / f"maple-{metric_name('a study')}.json"

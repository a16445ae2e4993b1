"""What trackers are told of a store, held against scipy and the store itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder
from tests.trackers.fake import FakeTracker
from tests.trackers.growing import FAILED, HITS, RUNNING, TUNED, train_to
from typer.testing import CliRunner

from maple.cli import app
from maple.errors import StoreError, TrackerError, UsageError
from maple.store.read import open_store
from maple.trackers import Target, TrackedRun, open_tracker, tracked_runs, write_study
from maple.trackers.names import metric_name


def found(builder: StoreBuilder, run: Run) -> TrackedRun:
    return next(r for r in tracked_runs(open_store(builder.directory)) if r.run_id == run.id)


# ------------------------------------------------------------------ what is told


def test_a_run_has_its_cell_as_parameters(builder: StoreBuilder) -> None:
    told = found(builder, TUNED).parameters
    assert told == {
        "base": "tiny", "base_revision": "abc", "method": "lora", "parameter.rank": 8,
        "quantization": "bf16", "bits": 16.0, "data": "multialpaca", "mixture": "native",
        "part.1.dataset": "multialpaca", "part.1.weight": 1.0, "training.learning_rate": 3e-4,
        "training.epochs": 1.0, "seed": 0, "loop_version": 1,
    }  # fmt: skip


def test_scores_have_wilsons_limits_and_unfinished_evaluations_none(builder: StoreBuilder) -> None:
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", HITS)
    builder.evaluation(TUNED, TASKS[0], "tha_Thai", HITS, is_done=False)
    results = found(builder, TUNED).results
    limits = binomtest(14, 20).proportion_ci(method="wilson")
    assert results["score/xnli/swh_Latn"] == pytest.approx(0.7)
    assert results["score_low/xnli/swh_Latn"] == pytest.approx(limits.low)
    assert results["score_high/xnli/swh_Latn"] == pytest.approx(limits.high)
    assert results["samples/xnli/swh_Latn"] == 20
    assert not [name for name in results if "tha_Thai" in name or "mean" in name]


def test_the_mean_over_languages_is_told_once_all_are_there(builder: StoreBuilder) -> None:
    for n, language in enumerate(TASKS[0].languages):
        builder.evaluation(TUNED, TASKS[0], language, np.roll(HITS, n))
    assert found(builder, TUNED).results["score/xnli/mean"] == pytest.approx(0.7)


def test_costs_and_judged_win_rates_are_results(builder: StoreBuilder) -> None:
    folder = builder.directory / "alpaca_eval" / TUNED.id / "judge"
    folder.mkdir(parents=True)
    rates = {"annotator": "j/1", "reference": "ref", "win_rate": 41.5, "standard_error": None}
    (folder / "win_rate.json").write_text(json.dumps(rates))
    results = found(builder, TUNED).results
    assert (results["cost/train_seconds"], results["cost/trainable_parameters"]) == (60.0, 8000.0)
    assert [v for k, v in results.items() if k.startswith("judged/")] == [41.5]
    (folder / "win_rate.json").write_text("[]")
    with pytest.raises(StoreError, match=r"win_rate\.json"):
        found(builder, TUNED)


def test_held_out_losses_are_in_the_curve_at_their_step(builder: StoreBuilder) -> None:
    train_to(builder, RUNNING, 3)
    curve = found(builder, RUNNING).curve
    assert [p.step for p in curve] == [1, 2, 3]
    assert [p.seconds for p in curve] == [0.5, 1.0, 1.5]
    assert curve[0].values == {
        "train/loss": 3.0,
        "train/learning_rate": 0.1,
        "train/grad_norm": 1.0,
        "train/tokens_per_second": 20.0,
    }
    held_out = {k: v for k, v in curve[1].values.items() if k.startswith("validation")}
    assert held_out == {"validation_loss/mean": 2.0, "validation_loss/swh_Latn": 2.5}


def test_a_broken_checkpoint_is_named(builder: StoreBuilder) -> None:
    train_to(builder, RUNNING, 1)
    path = builder.directory / "runs" / RUNNING.id / "checkpoint" / "state.safetensors"
    path.write_bytes(b"half")
    with pytest.raises(StoreError, match=r"state\.safetensors"):
        found(builder, RUNNING)


@given(st.lists(st.text(min_size=1, max_size=200), min_size=3, max_size=3))
def test_a_name_has_only_what_mlflow_takes(parts: list[str]) -> None:
    name = metric_name(*parts)
    assert len(name) <= 250
    assert re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){2}", name)
    assert not {".", ".."} & set(name.split("/"))


@given(st.text(min_size=1, max_size=90), st.text(min_size=1, max_size=90))
def test_two_names_stay_two(one: str, other: str) -> None:
    assert (metric_name(one) == metric_name(other)) == (one == other)


def test_a_name_that_is_good_stays_and_one_that_is_not_stays_readable() -> None:
    assert metric_name("score", "xnli", "swh_Latn") == "score/xnli/swh_Latn"
    assert re.fullmatch(r"score/xnli_shots_5-[0-9a-f]{8}", metric_name("score", "xnli (shots=5)"))


# ------------------------------------------------------------------ writing it again


def test_what_is_there_is_not_written_again(builder: StoreBuilder) -> None:
    tracker = FakeTracker()
    first = write_study(builder.directory, tracker)
    assert (first.written, first.unchanged, first.waiting, first.is_complete) == (4, 0, 1, False)
    assert tracker.runs[TUNED.id].steps == list(range(1, 31))
    again = write_study(builder.directory, tracker)
    assert (again.written, again.unchanged) == (0, 4)
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", HITS)
    assert write_study(builder.directory, tracker).written == 1


def test_a_curve_grows_with_the_checkpoints_and_no_step_is_written_twice(
    builder: StoreBuilder,
) -> None:
    tracker = FakeTracker()
    for steps in (2, 2, 7):
        train_to(builder, RUNNING, steps)
        write_study(builder.directory, tracker)
        assert tracker.runs[RUNNING.id].steps == list(range(1, steps + 1))
    builder.run(Run(rank=16))
    write_study(builder.directory, tracker)
    there = tracker.runs[RUNNING.id]
    assert there.steps == list(range(1, 31))
    assert there.run is not None
    assert there.run.status == "done"


def test_a_failure_is_told_until_the_run_is_done(builder: StoreBuilder) -> None:
    tracker = FakeTracker()
    write_study(builder.directory, tracker)
    told = tracker.runs[FAILED.id].run
    assert told is not None
    assert told.status == "failed"
    assert told.failure is not None
    assert (told.failure.stage, told.failure.error) == (
        "train", "TrainingError: the loss is not finite at step 3",
    )  # fmt: skip
    (builder.directory / "runs" / FAILED.id / "failed.json").unlink()
    builder.run(Run(rank=4))
    write_study(builder.directory, tracker)
    told = tracker.runs[FAILED.id].run
    assert told is not None
    assert (told.status, told.failure) == ("done", None)


def test_a_writing_that_broke_off_is_finished_by_the_next(builder: StoreBuilder) -> None:
    tracker = FakeTracker(breaks_after=12)
    with pytest.raises(TrackerError):
        write_study(builder.directory, tracker)
    assert tracker.runs[TUNED.id].steps == list(range(1, 13))
    tracker.breaks_after = None
    write_study(builder.directory, tracker)
    assert tracker.runs[TUNED.id].steps == list(range(1, 31))


def test_copying_a_store_changes_nothing_to_tell(builder: StoreBuilder) -> None:
    import shutil

    tracker = FakeTracker()
    write_study(builder.directory, tracker)
    # Without the files' times.
    copied = shutil.copytree(builder.directory, builder.directory.parent / "copy",
                             copy_function=shutil.copyfile)  # fmt: skip
    assert write_study(Path(copied), tracker).written == 0


def test_the_report_is_written_when_it_is_new(builder: StoreBuilder) -> None:
    tracker = FakeTracker()
    assert not write_study(builder.directory, tracker).is_report_written
    report = builder.directory / "report.html"
    report.write_text("one")
    assert write_study(builder.directory, tracker).is_report_written
    assert not write_study(builder.directory, tracker).is_report_written
    report.write_text("two")
    assert write_study(builder.directory, tracker).is_report_written


def test_telling_changes_nothing_in_the_store(builder: StoreBuilder) -> None:
    def content() -> dict[str, tuple[int, int]]:
        files = [p for p in builder.directory.rglob("*") if p.is_file()]
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}

    before = content()
    write_study(builder.directory, FakeTracker())
    assert content() == before


# ------------------------------------------------------------------ opening, and the command


@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb"])
def test_a_library_that_is_missing_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=re.escape(f"pip install 'maple-peft[{name}]'")):
        open_tracker(name, Target(project="x", directory=tmp_path))


def test_a_tracker_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'mlflow'"):
        open_tracker("mlfow", Target(project="x", directory=tmp_path))


def told_by(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[list[Target], str]:
    import maple.trackers

    targets: list[Target] = []
    tracker = FakeTracker()

    def open_it(name: str, target: Target) -> Any:
        targets.append(target)
        return tracker

    monkeypatch.setattr(maple.trackers, "open_tracker", open_it)
    done = CliRunner().invoke(app, ["track", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return targets, done.output


def test_the_command_names_the_project_after_the_study(
    builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets, output = told_by(monkeypatch, builder.directory, "--to", "mlflow", "--uri", "u")
    assert targets == [Target(project="a study", uri="u", directory=builder.directory)]
    assert output == "mlflow: memory: 4 runs written, 0 unchanged, 1 not begun\n"


def test_the_command_looks_again_until_the_study_is_done(
    builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        for run in (Run(rank=16), Run(rank=64)):
            builder.run(run)

    monkeypatch.setattr("time.sleep", sleep)
    _, output = told_by(monkeypatch, builder.directory, "--to", "wandb", "--every", 5)
    assert waited == [5.0]
    assert "2 runs written, 3 unchanged, 0 not begun" in output.splitlines()[-1]

"""What is written is what is read, and no moment of dying leaves anything half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maple.errors import StoreError
from maple.records import CurveRow, PromptRecord, SampleRecord, TrainRecord
from maple.store.read import open_store
from maple.store.write import StoreWriter, open_for_writing, sha256_of_directory
from maple.study import (
    EvalSpec,
    MethodRef,
    Mixture,
    MixturePart,
    ModelRef,
    RunSpec,
    TrainingSettings,
)

RUN = RunSpec(
    model=ModelRef(name="base", revision="sha256:0"),
    method=MethodRef(name="lora", parameters={"rank": 2}),
    quantization="bf16",
    mixture=Mixture(name="own", parts=(MixturePart(dataset="jsonl"),)),
    training=TrainingSettings(),
)
EVALUATION = EvalSpec(
    run_id=RUN.id, adapter="a", task="xnli", task_version=1, language="swh_Latn", data="d",
    split="test",
)  # fmt: skip


def record(sample_id: str, **changes: Any) -> SampleRecord:
    fields: dict[str, Any] = {
        "eval_id": EVALUATION.id,
        "run_id": RUN.id,
        "task": "xnli",
        "language": "swh_Latn",
        "sample_id": sample_id,
        "prompt_hash": "h",
        "gold": ("0",),
        "prediction": "0",
        "score": 1.0,
    }
    return SampleRecord(**(fields | changes))


numbers = st.floats(allow_nan=False)
rows = st.builds(
    record,
    sample_id=st.text(min_size=1),
    gold=st.lists(st.text(), max_size=3).map(tuple),
    prediction=st.text(),
    score=numbers,
    metrics=st.dictionaries(st.text(), numbers, max_size=3),
    loglikelihoods=st.lists(numbers, max_size=3).map(tuple),
    is_greedy=st.lists(st.booleans(), max_size=3).map(tuple),
    n_tokens=st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple),
    text=st.none() | st.text(),
    finish=st.none() | st.sampled_from(["stop", "length"]),
    unconditional=st.lists(numbers, max_size=3).map(tuple),
    checks=st.dictionaries(st.text(), st.booleans(), max_size=3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=st.lists(st.lists(rows, max_size=4), max_size=3))
def test_rows_written_are_the_rows_read(
    parts: list[list[SampleRecord]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("store")
    written: dict[str, SampleRecord] = {}
    with open_for_writing(root) as store:
        store.begin_evaluation(EVALUATION, {})
        for part in parts:
            store.add_samples(EVALUATION.id, part)
            for row in part:
                written.setdefault(row.sample_id, row)
        stored = store.begin_evaluation(EVALUATION, {})
    assert stored == set(written)
    read = open_store(root).query("SELECT * FROM samples").to_pylist()
    assert {row["sample_id"]: _as_record(row) for row in read} == written


def _as_record(row: dict[str, Any]) -> SampleRecord:
    lists = ("gold", "loglikelihoods", "is_greedy", "n_tokens", "unconditional")
    changed = {name: tuple(row[name]) for name in lists}
    changed |= {name: dict(row[name]) for name in ("metrics", "checks")}
    return SampleRecord(**(row | changed))


def save(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"r": 2}')
    (folder / "adapter_model.safetensors").write_bytes(b"\1" * 64)


def work(root: Path) -> None:
    """What a run does to a store, going on where an earlier call stopped."""
    with open_for_writing(root) as store:
        store.write_study({"name": "s", "cells": []})
        store.begin_run(RUN, {"device": "cpu"})
        if not store.is_run_done(RUN.id):
            _train(store)
        store.write_prompts("p", [PromptRecord(sample_id="1", prompt_hash="h", context="c")])
        if not store.has_all(EVALUATION.id, 4):
            stored = store.begin_evaluation(EVALUATION, {"prompts": "p"})
            for batch in (["1", "2"], ["3", "4"]):
                store.add_samples(EVALUATION.id, [record(i) for i in batch if i not in stored])
            store.finish_evaluation(EVALUATION.id, samples=4, limit=None, seconds=1.0)


def _train(store: StoreWriter) -> None:
    done = len(store.load_checkpoint(RUN.id) or b"")
    for step in range(done + 1, 4):
        store.save_checkpoint(RUN.id, b"x" * step)
    store.save_adapter(RUN.id, save, {"run_id": RUN.id})
    curve = CurveRow(
        step=1, loss=1.0, learning_rate=0.1, grad_norm=1.0, tokens=1, label_tokens=1,
        step_seconds=1.0, tokens_per_second=1.0, peak_memory_bytes=1,
    )  # fmt: skip
    trained = TrainRecord(
        run_id=RUN.id, steps=1, examples=1, tokens=1, label_tokens=1, train_seconds=1.0,
        final_loss=1.0, trainable_parameters=1, total_parameters=1, adapter_bytes=64,
        adapter_sha256="x", peak_memory_bytes=1,
    )  # fmt: skip
    store.finish_run(RUN.id, trained, [curve])


def snapshot(root: Path) -> dict[str, Any]:
    """Everything in a store but the times of day; sample rows by what they say."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if "part-" in name or name == ".lock":
            continue
        content: Any = path.read_bytes()
        if path.suffix == ".json" or path.name == "done":
            content = json.loads(content)
            content = {k: v for k, v in content.items() if k not in ("time", "created")}
        found[name] = content
    parts = [pq.read_table(part).to_pylist() for part in sorted(root.glob("evals/*/part-*"))]
    found["rows"] = [row for part in parts for row in part]
    return found


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program catches it."""


class Faults:
    """Lets a number of file operations pass and then makes one fail, before or after its deed."""

    every = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "open")
    writing = ("fsync", "replace", "rename")

    def __init__(
        self,
        passes: float,
        error: Callable[[], BaseException],
        *,
        after: bool = False,
        names: tuple[str, ...] = every,
    ) -> None:
        self.n_calls = 0
        self.names = names
        self._passes = passes
        self._error = error
        self._after = after

    @contextmanager
    def armed(self) -> Iterator[Faults]:
        with mock.patch.multiple(os, **{name: self._wrap(name) for name in self.names}):
            yield self

    def _wrap(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.n_calls += 1
            is_due = self.n_calls == self._passes + 1
            if is_due and not self._after:
                raise self._error()
            try:
                return real(*args, **kwargs)
            finally:
                if is_due:
                    raise self._error()

        return call


def n_operations(root: Path, names: tuple[str, ...] = Faults.every) -> int:
    with Faults(float("inf"), Killed, names=names).armed() as faults:
        work(root)
    return faults.n_calls


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_file_operation_the_rerun_completes(tmp_path: Path, after: bool) -> None:
    total = n_operations(tmp_path / "whole")
    whole = snapshot(tmp_path / "whole")
    assert total > 40
    for n in range(total):
        root = tmp_path / str(n)
        with Faults(n, Killed, after=after).armed(), pytest.raises(Killed):
            work(root)
        _can_be_read(root)
        work(root)
        assert snapshot(root) == whole, n
        assert list(root.rglob(".tmp-*")) == []
        shutil.rmtree(root)


def test_a_full_disk_at_any_file_operation_is_one_error_and_the_rerun_completes(
    tmp_path: Path,
) -> None:
    def full() -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    total = n_operations(tmp_path / "whole", Faults.writing)
    whole = snapshot(tmp_path / "whole")
    assert total > 25
    for n in range(total):
        root = tmp_path / str(n)
        faults = Faults(n, full, names=Faults.writing)
        with faults.armed(), pytest.raises(StoreError, match="the disk is full while writing"):
            work(root)
        assert list(root.rglob(".tmp-*")) == []
        _can_be_read(root)
        work(root)
        assert snapshot(root) == whole, n


def _can_be_read(root: Path) -> None:
    if any((root / name).exists() for name in ("study.json", "runs", "evals")):
        store = open_store(root)
        store.runs()
        store.evaluations()


def test_a_full_disk_that_safetensors_words_itself_is_told_as_such(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    def save_on_full_disk(_: Path) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with (
        open_for_writing(tmp_path) as store,
        pytest.raises(StoreError, match=r"the disk is full while writing .*adapter"),
    ):
        store.save_adapter(RUN.id, save_on_full_disk, {})
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_an_error_of_the_method_itself_is_not_called_a_disk_error(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise ValueError("no such tensor")

    with open_for_writing(tmp_path) as store, pytest.raises(ValueError, match="no such tensor"):
        store.save_adapter(RUN.id, fail, {})


def test_one_process_at_a_time_writes_a_store(tmp_path: Path) -> None:
    with (
        open_for_writing(tmp_path),
        pytest.raises(StoreError, match="another maple run"),
        open_for_writing(tmp_path),
    ):
        pass
    with open_for_writing(tmp_path):
        pass


def test_a_store_keeps_to_one_study_and_to_the_time_it_was_made(tmp_path: Path) -> None:
    with open_for_writing(tmp_path) as store:
        store.write_study({"name": "s", "cells": []})
        made = (tmp_path / "study.json").stat().st_mtime_ns
        store.write_study({"name": "s", "cells": []})
        assert (tmp_path / "study.json").stat().st_mtime_ns == made
        created = open_store(tmp_path).study["created"]
        store.write_study({"name": "s", "cells": [{}]})
        assert open_store(tmp_path).study["created"] == created
        with pytest.raises(StoreError, match="holds the study 's', not 't'"):
            store.write_study({"name": "t"})
        (tmp_path / "study.json").write_text("{")
        with pytest.raises(StoreError, match=r"study\.json is broken"):
            store.write_study({"name": "s"})


def test_a_trained_run_keeps_the_environment_it_was_trained_in(tmp_path: Path) -> None:
    with open_for_writing(tmp_path) as store:
        store.begin_run(RUN, {"device": "the first"})
        store.begin_run(RUN, {"device": "the second"})
        store.finish_run(RUN.id, None, [])
        store.begin_run(RUN, {"device": "the third"})
    (run,) = open_store(tmp_path).runs()
    assert run.environment["device"] == "the second"


def test_a_finished_run_loses_the_checkpoint_that_a_kill_left_behind(tmp_path: Path) -> None:
    with open_for_writing(tmp_path) as store:
        store.begin_run(RUN, {})
        store.finish_run(RUN.id, None, [])
        store.save_checkpoint(RUN.id, b"x")
    with open_for_writing(tmp_path) as store:
        assert store.load_checkpoint(RUN.id) is None


def test_a_failure_is_kept_until_the_run_is_done(tmp_path: Path) -> None:
    with open_for_writing(tmp_path) as store:
        store.begin_run(RUN, {})
        store.fail_run(RUN.id, "run", ValueError("no"), "Traceback ...")
        assert store.has_failed(RUN.id)
        assert open_store(tmp_path).runs()[0].status == "failed"
        store.finish_run(RUN.id, None, [])
        assert not store.has_failed(RUN.id)
        assert open_store(tmp_path).runs()[0].status == "done"


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        (None, None, True),
        (None, 5, True),
        (5, 5, True),
        (5, 4, True),
        (5, 6, False),
        (5, None, False),
    ],
)
def test_a_limit_covers_whatever_is_not_above_it(
    tmp_path: Path, stored: int | None, wanted: int | None, expected: bool
) -> None:
    with open_for_writing(tmp_path) as store:
        assert not store.covers("e", wanted)
        store.finish_evaluation("e", samples=5, limit=stored, seconds=1.0)
        assert store.covers("e", wanted) is expected
        assert store.has_all("e", 5)
        assert not store.has_all("e", 6)


def test_an_adapters_hash_is_of_its_weights_and_settings_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, base in ((first, "here"), (second, "there")):
        folder.mkdir()
        save(folder)
        (folder / "maple.json").write_text(base)
        (folder / "README.md").write_text(base)
        config = {"r": 2, "base_model_name_or_path": base}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    assert sha256_of_directory(first) == sha256_of_directory(second)
    (second / "adapter_model.safetensors").write_bytes(b"\2" * 64)
    assert sha256_of_directory(first) != sha256_of_directory(second)
    shutil.copy(first / "adapter_model.safetensors", second)
    assert sha256_of_directory(first) == sha256_of_directory(second)
    (second / "adapter_config.json").write_text('{"r": 4}')
    assert sha256_of_directory(first) != sha256_of_directory(second)

"""Writes the store: every file under a temporary name, flushed, renamed; ``done`` last.

Only ``maple.run`` imports this module. One ``maple run`` at a time holds a store's lock, so that
two never write the same file; its workers inherit it, and killed processes release it by dying.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maple.errors import StoreError
from maple.records import (
    CURVE_SCHEMA,
    PROMPT_SCHEMA,
    SAMPLE_SCHEMA,
    CurveRow,
    PromptRecord,
    SampleRecord,
    TrainRecord,
)
from maple.store.layout import FORMAT, TEMPORARY, Layout
from maple.study import EvalSpec, RunSpec

KEPT_WITH_ADAPTER = ("spec.json", "environment.json", "curve.parquet", "train.json")
"""What of a run ``maple train`` keeps in the adapter's own directory."""
_NOT_HASHED = frozenset({"maple.json", "README.md", "maple.lock", *KEPT_WITH_ADAPTER})
_PATIENCE_SECONDS = 3.0
"""How long a lock may be held still: the workers of a killed run need a moment to end."""


class StoreWriter:
    """The writing half of a store; create it with ``open_for_writing``."""

    def __init__(self, root: Path, lock: int | None = None) -> None:
        """Writes below ``root``.

        Args:
            root: the store.
            lock: descriptor of the file that is locked. A process that inherits it holds the
                lock too, until the last of them has ended.
        """
        self.layout = Layout(root)
        self.lock = lock

    def sweep(self) -> None:
        """Removes what killed workers left half-written; nobody may be writing."""
        _sweep(self.layout.root)

    # ------------------------------------------------------------------------ study

    def write_study(self, content: Mapping[str, Any]) -> None:
        """Writes ``study.json``; a store that already answers another study is refused.

        Raises:
            StoreError: the directory holds a study of another name.
        """
        path = self.layout.study
        previous = _read_json(path) if path.exists() else {"name": content["name"]}
        if previous.get("name") != content["name"]:
            raise StoreError(
                f"{path.parent} already holds the study {previous.get('name')!r}, not "
                f"{content['name']!r}. Choose another --out."
            )
        written = {"format": FORMAT, "created": previous.get("created") or _now(), **content}
        if json.loads(json.dumps(written)) != previous:
            self._json(path, written)

    # ------------------------------------------------------------------------- runs

    def is_run_done(self, run_id: str) -> bool:
        """Whether the run was trained and its adapter stored."""
        return (self.layout.run(run_id) / "done").exists()

    def begin_run(self, run: RunSpec, environment: Mapping[str, Any]) -> None:
        """Writes what the run is before it starts; a trained one keeps where it was trained."""
        if self.is_run_done(run.id):
            return
        folder = self.layout.run(run.id)
        self._json(folder / "spec.json", {"id": run.id, **run.model_dump(mode="json")})
        self._json(folder / "environment.json", dict(environment))

    def save_checkpoint(self, run_id: str, state: bytes) -> None:
        """Replaces the run's checkpoint in one step."""
        self._bytes(self.layout.checkpoint(run_id), state)

    def load_checkpoint(self, run_id: str) -> bytes | None:
        """The run's checkpoint, or None where there is none."""
        path = self.layout.checkpoint(run_id)
        return path.read_bytes() if path.exists() else None

    def save_adapter(
        self, run_id: str, save: Callable[[Path], None], extra: Mapping[str, Any]
    ) -> Path:
        """Lets ``save`` fill a directory, adds ``maple.json``, and puts it in its place.

        Returns:
            The adapter's directory.
        """
        target = self.layout.adapter(run_id)
        temporary = target.with_name(f"{TEMPORARY}adapter")
        with _disk_errors(target):
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
                save(temporary)
                text = json.dumps(dict(extra), indent=2, ensure_ascii=False, sort_keys=True)
                (temporary / "maple.json").write_text(text + "\n", encoding="utf-8")
                for file in temporary.rglob("*"):
                    if file.is_file():
                        _flush(file)
                shutil.rmtree(target, ignore_errors=True)
                temporary.rename(target)
                _flush(target.parent)
            except Exception:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return target

    def finish_run(
        self, run_id: str, record: TrainRecord | None, curve: Sequence[CurveRow]
    ) -> None:
        """Writes curve and record, then ``done``; the checkpoint is no longer needed."""
        folder = self.layout.run(run_id)
        if record is not None:
            self._table(folder / "curve.parquet", [asdict(r) for r in curve], CURVE_SCHEMA)
            self._json(folder / "train.json", asdict(record))
        (folder / "failed.json").unlink(missing_ok=True)
        self._json(folder / "done", {"time": _now()})
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)

    def fail_run(self, run_id: str, stage: str, error: BaseException, traceback: str) -> None:
        """Stores that a run failed, so that it stays in every denominator."""
        content = {
            "stage": stage,
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback,
            "time": _now(),
        }
        self._json(self.layout.run(run_id) / "failed.json", content)

    def has_failed(self, run_id: str) -> bool:
        """Whether the last try of the run failed."""
        return (self.layout.run(run_id) / "failed.json").exists()

    def clear_failure(self, run_id: str) -> None:
        """Forgets an earlier failure: the run is tried again."""
        (self.layout.run(run_id) / "failed.json").unlink(missing_ok=True)

    # ------------------------------------------------------------------ evaluations

    def begin_evaluation(self, spec: EvalSpec, extra: Mapping[str, Any]) -> set[str]:
        """Writes what the evaluation is; returns the sample ids it already answers."""
        folder = self.layout.evaluation(spec.id)
        content = {"id": spec.id, **spec.model_dump(mode="json"), **extra}
        # Batches go by length: until the last one is in, what is there is no sample of the split.
        (folder / "done").unlink(missing_ok=True)
        self._json(folder / "spec.json", content)
        stored: set[str] = set()
        for part in sorted(folder.glob("part-*.parquet")):
            stored.update(_sample_ids(part))
        return stored

    def has_all(self, eval_id: str, samples: int) -> bool:
        """Whether the first ``samples`` items are all answered and marked so."""
        path = self.layout.evaluation(eval_id) / "done"
        if not path.exists():
            return False
        return int(_read_json(path).get("samples", 0)) >= samples

    def covers(self, eval_id: str, limit: int | None) -> bool:
        """Whether everything up to ``limit`` is answered, as far as its mark alone can tell."""
        path = self.layout.evaluation(eval_id) / "done"
        if not path.exists():
            return False
        reached = _read_json(path).get("limit", 0)
        return reached is None or (limit is not None and reached >= limit)

    def add_samples(self, eval_id: str, rows: Sequence[SampleRecord]) -> None:
        """Appends finished rows as one part file."""
        if not rows:
            return
        folder = self.layout.evaluation(eval_id)
        first = 1 + max((_part_number(p) for p in folder.glob("part-*.parquet")), default=-1)
        content = [asdict(r) | {"metrics": list(r.metrics.items())} for r in rows]
        self._table(folder / f"part-{first:06d}-{len(rows)}.parquet", content, SAMPLE_SCHEMA)

    def finish_evaluation(
        self, eval_id: str, *, samples: int, limit: int | None, seconds: float
    ) -> None:
        """Marks every sample up to ``limit`` as answered."""
        content = {"samples": samples, "limit": limit, "seconds": round(seconds, 3)}
        self._json(self.layout.evaluation(eval_id) / "done", content)

    def write_prompts(self, prompts_id: str, rows: Sequence[PromptRecord]) -> None:
        """Stores prompts once; the same id is the same content."""
        path = self.layout.prompts(prompts_id)
        if not path.exists():
            self._table(path, [asdict(r) for r in rows], PROMPT_SCHEMA)

    # ---------------------------------------------------------------------- private

    def _json(self, path: Path, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
        self._bytes(path, (text + "\n").encode())

    def _table(self, path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
        self._bytes(path, sink.getvalue().to_pybytes())

    def _bytes(self, path: Path, content: bytes) -> None:
        # Two workers may write the same prompts at once: the same bytes, each under its own name.
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise


@contextlib.contextmanager
def open_for_writing(root: Path) -> Iterator[StoreWriter]:
    """Opens (or creates) a store and holds its lock.

    Raises:
        StoreError: the directory cannot be written, or another process is writing to it.
    """
    layout = Layout(root)
    with _disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = layout.lock.open("a")
    with lock:
        _hold(lock.fileno(), root)
        _sweep(root)
        yield StoreWriter(root, lock.fileno())


def sha256_of_directory(directory: Path) -> str:
    """SHA-256 over the weight and config files of an adapter directory, names included.

    ``maple.json``, the README and what is kept of the run are left out: they carry our ids, not
    the adapter. So is the base's path in ``adapter_config.json``, which differs between machines
    for the same adapter.
    """
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if not file.is_file() or file.name in _NOT_HASHED:
            continue
        digest.update(f"{file.relative_to(directory).as_posix()}\0".encode())
        if file.name == "adapter_config.json":
            config = json.loads(file.read_text(encoding="utf-8"))
            config.pop("base_model_name_or_path", None)
            digest.update(json.dumps(config, sort_keys=True).encode())
            continue
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _hold(descriptor: int, root: Path) -> None:
    if os.name == "nt":  # no advisory lock; the rename is still atomic
        return
    end = time.monotonic() + _PATIENCE_SECONDS
    try:
        while not _locks(descriptor, is_last=time.monotonic() > end):
            time.sleep(0.05)
    except BlockingIOError:
        raise StoreError(
            f"{root} is being written by another maple run. Wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise StoreError(
            f"{root} cannot be locked ({error.strerror}). Choose an --out on a local disk."
        ) from error


def _locks(descriptor: int, *, is_last: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if is_last:
            raise
        return False
    return True


def _sweep(root: Path) -> None:
    """Removes what a killed process left half-written."""
    for pattern in ("", "runs/*/", "runs/*/checkpoint/", "evals/*/", "prompts/"):
        for leftover in root.glob(f"{pattern}{TEMPORARY}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
    for done in root.glob("runs/*/done"):
        shutil.rmtree(done.parent / "checkpoint", ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{path} is broken ({error}). Delete that file and run the same command again; what "
            "else is stored is kept."
        ) from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} is broken: no JSON object. Delete it and run again.")
    return content


def _sample_ids(part: Path) -> list[str]:
    try:
        # ParquetFile, not read_table: the latter would infer partitions from folder names.
        with pq.ParquetFile(part) as file:
            ids: list[str] = file.read(["sample_id"])["sample_id"].to_pylist()
            return ids
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StoreError(
            f"{part} is broken ({error}). Delete that file and run the same command again; what "
            "else is stored is kept."
        ) from error


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        code = _error_number(error)
        if code in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk is full while writing {path}. What was stored before is whole; free "
                "some space and run the same command again, it continues."
            ) from error
        if code in (errno.ENOTDIR, errno.EEXIST):
            raise StoreError(
                f"{path} cannot be made: a file stands where a directory is needed. Choose "
                "another --out, or move the file."
            ) from error
        if code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOENT):
            raise StoreError(
                f"{path} cannot be written ({os.strerror(code)}). Choose another --out."
            ) from error
        raise


def _error_number(error: Exception) -> int | None:
    """The system's error number, also where safetensors states it in its own error's text."""
    if isinstance(error, OSError):
        return error.errno
    stated = re.search(r"\(os error (\d+)\)", str(error))
    return int(stated[1]) if stated else None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part_number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

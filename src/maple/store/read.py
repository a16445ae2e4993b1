"""Reads a store: what was planned, what is there, and the sample rows as one DuckDB relation.

Nothing here writes. Temporary files (``.tmp-*``) are never looked at, and a file that is not what
``docs/results_format.md`` promises is an error that names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from maple.errors import StoreError
from maple.records import CURVE_SCHEMA, PROMPT_SCHEMA, TrainRecord
from maple.store.folders import directories, in_order, part_files
from maple.store.layout import FORMAT, Layout
from maple.store.objects import read_object, train_record
from maple.store.rows import answer, broken_part, relation, stored

Status = Literal["done", "unfinished", "failed", "missing"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What identifies a run to a reader: one cell of the study's plan."""

    label: str
    model: str
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    quantization: str
    bits: float | None = None
    """Bits per weight of the frozen base; None where the study does not say."""
    mixture: str | None = None
    seed: int = 0
    stands_for: int = 1
    """Cells of the cross product that this one answers: above 1 where a factor cannot matter."""

    @property
    def rank(self) -> int | None:
        """The method's rank, or None for a method that has none."""
        rank = self.parameters.get("rank")
        return rank if isinstance(rank, int) else None

    @property
    def is_base(self) -> bool:
        """Whether this is the untouched base model."""
        return self.method == "none"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why the last try of a run failed."""

    stage: str
    error: str
    traceback: str = ""
    time: str = ""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """One run: what was asked, how far it got, and what it left behind."""

    run_id: str
    cell: Cell
    status: Status
    """``missing`` means planned, but nothing is stored."""
    spec: Mapping[str, Any] | None = None
    train: TrainRecord | None = None
    failure: Failure | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredEvaluation:
    """One adapter or base on one task in one language: how many of its samples are stored."""

    eval_id: str
    run_id: str
    task: str
    language: str
    spec: Mapping[str, Any]
    """The whole ``spec.json``: the EvalSpec and what is known of its task."""
    is_done: bool
    n_samples: int
    """Samples stored; for a finished evaluation as many as its ``done`` states."""
    seconds: float | None = None
    """Wall-clock time it took; only of a finished evaluation."""

    @property
    def chance_level(self) -> float | None:
        """The score of guessing, in 0..1, or None where the task has none."""
        level = self.spec.get("chance_level")
        return None if level is None else float(level)

    @property
    def headline(self) -> str:
        """The name of the metric in the rows' ``score``."""
        return str(self.spec.get("headline") or "score")

    @property
    def available(self) -> int | None:
        """Samples in the split, or None where the store does not say."""
        available = self.spec.get("available")
        return None if available is None else int(available)


@dataclass(frozen=True)
class Store:
    """A results directory, read on demand; every method looks at the disk again."""

    directory: Path
    study: Mapping[str, Any]
    """The content of ``study.json``; empty where a store has none."""

    @property
    def layout(self) -> Layout:
        """The paths inside the directory."""
        return Layout(self.directory)

    def runs(self) -> list[StoredRun]:
        """Returns every planned run in the plan's order, then runs that are stored unplanned.

        Raises:
            StoreError: a JSON file of a run cannot be read or lacks a key.
        """
        cells = {str(c["run_id"]): c for c in self.study.get("cells", ()) if "run_id" in c}
        folders = directories(self.directory / "runs")
        stored = [folder.name for folder in folders if (folder / "spec.json").exists()]
        order = dict.fromkeys([*cells, *stored])
        return [_read_run(self.layout.run(run), cells.get(run)) for run in order]

    def curve(self, run_id: str) -> pa.Table:
        """Returns a run's training curve, a row per optimiser step; no rows if there is none.

        Raises:
            StoreError: the file is there but is no Parquet table.
        """
        path = self.layout.run(run_id) / "curve.parquet"
        return _read_table(path) if path.exists() else _no_rows(CURVE_SCHEMA)

    def prompts(self, prompts_id: str) -> pa.Table:
        """Returns what the model was shown, a row per sample; no rows if it is not stored.

        Raises:
            StoreError: the file is there but is no Parquet table.
        """
        path = self.layout.prompts(prompts_id)
        # A name of somebody else's store may lead out of it.
        if Path(prompts_id).name != prompts_id or not path.exists():
            return _no_rows(PROMPT_SCHEMA)
        return _read_table(path)

    def count_evaluations(self) -> int:
        """Returns how many evaluations are begun, without a look into them."""
        return len(directories(self.directory / "evals"))

    def evaluations(self) -> list[StoredEvaluation]:
        """Returns every stored evaluation, finished or not, ordered by evaluation id.

        Raises:
            StoreError: a JSON or Parquet file of an evaluation cannot be read.
        """
        folders = directories(self.directory / "evals")
        read = in_order(_read_evaluation, folders)
        found = [evaluation for evaluation in read if evaluation is not None]
        return [
            e if e.is_done else dataclasses.replace(e, n_samples=self._count(e.eval_id))
            for e in found
        ]

    def samples(self, eval_ids: Collection[str] | None = None) -> duckdb.DuckDBPyRelation:
        """Returns the sample rows, one per (eval_id, sample_id), as a DuckDB relation.

        A sample stored twice in one evaluation keeps its first row by file name.

        Args:
            eval_ids: read only these evaluations; None reads all.

        Returns:
            A lazy relation with the columns of ``docs/results_format.md``; it holds its own
            connection. Only the first part is looked at before the relation is executed (every
            part, where that one was written before there were all of the columns), which raises
            ``duckdb.Error`` for a broken or an older one: ``query`` names the first, reads the
            second.

        Raises:
            StoreError: the first part is no Parquet table or lacks a column.
        """
        return relation(self._parts(eval_ids))

    def query(self, sql: str, *, eval_ids: Collection[str] | None = None) -> pa.Table:
        """Returns the answer to SQL over the table ``samples``, which is ``samples(eval_ids)``.

        Args:
            sql: one SELECT statement; never build it from text of the store.
            eval_ids: read only these evaluations; None reads all.

        Raises:
            StoreError: a part is no Parquet table or lacks a column; the message names it.
        """
        return answer(self._parts(eval_ids), sql)

    def stored_rows(self, columns: Sequence[str], eval_id: str) -> pa.Table:
        """Returns columns of one evaluation, fast: a sample stored twice is there twice.

        Args:
            columns: names of ``docs/results_format.md``.
            eval_id: the evaluation's; one that is not stored has no rows.

        Raises:
            StoreError: a part is no Parquet table or lacks a column; the message names it.
        """
        return stored(part_files(self.layout.evaluation(eval_id)), columns)

    def _parts(self, eval_ids: Collection[str] | None) -> list[Path]:
        ids = [f.name for f in directories(self.directory / "evals")] if eval_ids is None else []
        chosen = ids if eval_ids is None else sorted(eval_ids)
        return list(chain(*in_order(part_files, [self.layout.evaluation(i) for i in chosen])))

    def _count(self, eval_id: str) -> int:
        tables = [_read_table(part, ["sample_id"]) for part in self._parts([eval_id])]
        return len({sample for table in tables for sample in table[0].to_pylist()})


def undescribed_run(run_id: str) -> StoredRun:
    """Returns a stand-in for a run that evaluations name but the store does not describe."""
    return StoredRun(run_id=run_id, cell=_cell(Path(run_id), None, None), status="missing")


def open_store(directory: Path) -> Store:
    """Opens a results directory, as ``maple run`` writes it, for reading.

    Raises:
        StoreError: there is no such directory, it is no store, or its format is newer.
    """
    directory = Path(directory)
    advice = "Name the --out directory of a `maple run`."
    if not directory.is_dir():
        raise StoreError(f"no directory {str(directory)!r}. {advice}")
    if not any((directory / name).exists() for name in ("study.json", "runs", "evals")):
        raise StoreError(f"{directory} is no store: no study.json, runs/ or evals/. {advice}")
    path = Layout(directory).study
    study = read_object(path) or {}
    for key in ("cells", "skipped", "evaluations", "missing"):
        if not all(isinstance(entry, dict) for entry in study.get(key) or ()):
            raise StoreError(f"{path}: {key} is no list of JSON objects (docs/results_format.md).")
    if study.get("format", FORMAT) != FORMAT:
        raise StoreError(
            f"{path}: results format {study['format']!r}, but this Maple reads format {FORMAT}. "
            "Install the version of Maple that wrote it."
        )
    return Store(directory, study)


def _no_rows(schema: pa.Schema) -> pa.Table:
    # Not schema.empty_table(): it imports pandas, where that is installed, which takes a second.
    return pa.Table.from_batches([], schema)


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        # ParquetFile, not read_table: the latter would infer partitions from folder names.
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(broken_part(path, error)) from error


def _read_run(folder: Path, planned: Mapping[str, Any] | None) -> StoredRun:
    spec, failed = (read_object(folder / f"{name}.json") for name in ("spec", "failed"))
    keys = [f.name for f in dataclasses.fields(Failure)]
    return StoredRun(
        run_id=folder.name,
        cell=_cell(folder, planned, spec),
        status=_status(folder),
        spec=spec,
        train=train_record(folder / "train.json"),
        failure=None if failed is None else Failure(**{k: str(failed.get(k) or "") for k in keys}),
        environment=read_object(folder / "environment.json") or {},
    )


def _status(folder: Path) -> Status:
    # Looked at before `done`: a trained run whose evaluation failed has both files.
    if (folder / "failed.json").exists():
        return "failed"
    if (folder / "done").exists():
        return "done"
    is_begun = folder.is_dir() and any(not f.name.startswith(".") for f in folder.iterdir())
    return "unfinished" if is_begun else "missing"


def _cell(folder: Path, planned: Mapping[str, Any] | None, spec: Mapping[str, Any] | None) -> Cell:
    if planned is None and spec is None:
        unknown = "not described in the store"
        method = f"run {folder.name}"
        return Cell(label=folder.name, model=unknown, method=method, quantization=unknown)
    try:
        source = planned if planned is not None else _flat(spec or {})
        bits, mixture = source.get("bits"), source.get("mixture")
        return Cell(
            label=str(source.get("label") or folder.name),
            model=_name(source["model"]),
            method=_name(source["method"]),
            parameters=dict(source.get("parameters") or {}),
            quantization=str(source["quantization"]),
            bits=None if bits is None else float(bits),
            mixture=None if mixture is None else _name(mixture),
            seed=int(source.get("seed") or 0),
            stands_for=int(source.get("stands_for") or 1),
        )
    except (KeyError, TypeError, ValueError) as error:
        where = "study.json, cells" if planned is not None else folder / "spec.json"
        raise StoreError(f"{where}: run {folder.name}: {_key_problem(error)}") from error


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    method = spec["method"]
    return {**spec, "parameters": method.get("parameters") if isinstance(method, dict) else {}}


def _name(value: Any) -> str:
    return str(value["name"]) if isinstance(value, dict) else str(value)


def _key_problem(error: Exception) -> str:
    return f"the key {error} is missing" if isinstance(error, KeyError) else str(error)


def _read_evaluation(folder: Path) -> StoredEvaluation | None:
    """Reads what describes an evaluation; None where a kill came before its ``spec.json``."""
    spec, done = read_object(folder / "spec.json"), read_object(folder / "done")
    if spec is None:
        return None
    seconds = (done or {}).get("seconds")
    try:
        return StoredEvaluation(
            eval_id=folder.name,
            run_id=str(spec["run_id"]),
            task=str(spec["task"]),
            language=str(spec["language"]),
            spec=spec,
            is_done=done is not None,
            n_samples=0 if done is None else int(done["samples"]),
            seconds=None if seconds is None else float(seconds),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder}: {_key_problem(error)}") from error

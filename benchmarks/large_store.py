"""A large store of known truth in the documented format, written straight as Parquet files.

    python benchmarks/large_store.py DIR [--runs 100 --tasks 6 --languages 40 --samples 1000]

Half of the tasks are rankings (0 or 1, three options), half generated answers (0, part or 1).
Every tenth run stores its rows in another order and in two parts, as another batch size would.
A store that was cut short is completed: what has its ``done`` is left as it is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import ndtr

from maple.languages import all_languages
from maple.records import SAMPLE_SCHEMA
from maple.study.spec import content_id

RANKS = (4, 8, 16, 32, 64)
QUANTIZATIONS = {"bf16": 16, "nf4": 4}
CHANCE = 1 / 3
SHARED = 0.8
"""Correlation of two runs' answers to one item."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much to write."""

    runs: int = 100
    tasks: int = 6
    languages: int = 40
    samples: int = 1000


@dataclass(frozen=True, kw_only=True)
class LargeRun:
    """One run: an untouched base for each quantization first, then ranks and seeds."""

    number: int
    spec: Mapping[str, Any]
    run_id: str
    bits: int

    @property
    def rank(self) -> int | None:
        """The adapter's rank; None for the untouched base."""
        rank = self.spec["method"]["parameters"].get("rank")
        return int(rank) if rank else None

    @property
    def adapter(self) -> str:
        """What the evaluations say of the adapter."""
        return f"sha-{self.run_id}" if self.rank else "none"


def write_store(directory: Path, size: Size) -> None:
    """Writes the store, or what is missing of it."""
    runs = [_run(number) for number in range(size.runs)]
    tasks = [f"{'generated' if i % 2 else 'ranked'}-{i}" for i in range(size.tasks)]
    codes = _languages(size.languages)
    _json(directory / "study.json", _study(runs, tasks, codes))
    for run in runs:
        folder = directory / "runs" / run.run_id
        _json(folder / "spec.json", {**run.spec, "id": run.run_id})
        if run.rank:
            _json(folder / "train.json", _train_record(run))
        _json(folder / "done", {"time": "2025-01-01T00:00:00+00:00"})
    for number, (task, code) in enumerate((t, c) for t in tasks for c in codes):
        _write_cell(directory, runs, task, code, size.samples, number)


def true_score(run: LargeRun, resource: float) -> float:
    """The probability of a right answer: rank and bits help, least where there is most to read."""
    level = 0.4 + 0.35 * resource - (0.03 if run.bits < 16 else 0.0)
    return level + (0.02 + 0.01 * np.log2(run.rank) * (1 - resource) if run.rank else 0.0)


def _run(number: int) -> LargeRun:
    names = list(QUANTIZATIONS)
    quantization = names[number % len(names)]
    cycle = number // len(names) - 1
    rank, seed = RANKS[cycle % len(RANKS)], cycle // len(RANKS)
    is_base = cycle < 0
    spec = {
        "model": {"name": "large", "revision": "abc", "family": None},
        "method": {
            "name": "none" if is_base else "lora",
            "parameters": {} if is_base else {"rank": rank},
        },
        "quantization": quantization,
        "mixture": None
        if is_base
        else {"name": "native", "parts": [{"dataset": "d", "weight": 1.0}]},
        "training": None if is_base else {"learning_rate": 3e-4},
        "seed": 0 if is_base else seed,
        "loop_version": 1,
    }
    return LargeRun(
        number=number, spec=spec, run_id=content_id(spec), bits=QUANTIZATIONS[quantization]
    )


def _languages(count: int) -> list[str]:
    known = [language for language in all_languages() if language.resource_class is not None]
    picked = sorted(known, key=lambda k: (k.code != "eng_Latn", k.code))
    step = max(1, (len(picked) - 1) // max(1, count - 1))
    return sorted({"eng_Latn", *(k.code for k in picked[1::step][: count - 1])})


def _study(runs: Sequence[LargeRun], tasks: Sequence[str], codes: Sequence[str]) -> dict[str, Any]:
    cells = [
        {
            "run_id": run.run_id,
            "label": f"run {run.number}",
            "model": "large",
            "method": run.spec["method"]["name"],
            "parameters": run.spec["method"]["parameters"],
            "quantization": run.spec["quantization"],
            "bits": run.bits,
            "mixture": "native" if run.rank else None,
            "seed": run.spec["seed"],
            "stands_for": 1,
        }
        for run in runs
    ]
    asked = [{"task": t, "language": c, "english_only": False} for t in tasks for c in codes]
    return {
        "format": 1,
        "name": "large",
        "study": {"name": "large"},
        "cells": cells,
        "skipped": [],
        "evaluations": asked,
        "missing": [],
        "limit": None,
        "created": "2025-01-01T00:00:00+00:00",
    }


def _train_record(run: LargeRun) -> dict[str, Any]:
    size = 1000 * (run.rank or 0)
    return {
        "run_id": run.run_id,
        "steps": 100,
        "examples": 800,
        "tokens": 10_000,
        "label_tokens": 5_000,
        "train_seconds": 60.0,
        "final_loss": 1.0,
        "trainable_parameters": size,
        "total_parameters": 1_000_000,
        "adapter_bytes": 4 * size,
        "adapter_sha256": run.adapter,
        "peak_memory_bytes": 10**9,
    }


def _write_cell(
    directory: Path, runs: Sequence[LargeRun], task: str, code: str, n: int, number: int
) -> None:
    """Writes the evaluations of every run on one task in one language."""
    rng = np.random.default_rng(number)
    common = rng.standard_normal(n)
    resource = (next(k for k in all_languages() if k.code == code).resource_class or 0) / 5
    orders = [rng.permutation(n), rng.permutation(n)]
    is_ranked = task.startswith("ranked")
    shared = [_shared_columns(task, code, order, is_ranked) for order in orders]
    for run in runs:
        own = np.random.default_rng([number, run.number])
        spec = _evaluation_spec(run, task, code)
        eval_id = content_id(spec)
        folder = directory / "evals" / eval_id
        if (folder / "done").exists():
            continue
        latent = ndtr(SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own.standard_normal(n))
        scores = (latent < true_score(run, resource)).astype(float)
        if not is_ranked:
            scores *= np.where(own.random(n) < 0.4, own.random(n).round(3), 1.0)
        facts = {
            "id": eval_id,
            "prompts": f"{task}-{code}",
            "chance_level": CHANCE if is_ranked else None,
            "headline": "accuracy" if is_ranked else "f1",
            "available": n,
        }
        _json(folder / "spec.json", {**spec, **facts})
        is_other = run.number % 10 == 9
        order, columns = orders[is_other], shared[is_other]
        rows = _rows(columns, eval_id, run, scores[order], is_ranked)
        pieces = [rows.slice(0, n // 2), rows.slice(n // 2)] if is_other else [rows]
        for first, piece in zip((0, n // 2), pieces, strict=False):
            name = f"part-{first:06d}-{piece.num_rows}.parquet"
            pq.write_table(piece, folder / name, compression="zstd")
        _json(folder / "done", {"samples": n, "limit": None, "seconds": 2.5})


def _evaluation_spec(run: LargeRun, task: str, code: str) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "adapter": run.adapter,
        "task": task,
        "task_version": 1,
        "language": code,
        "data": "synthetic",
        "split": "test",
        "prompt": {
            "form": "mega",
            "instruction_language": "english",
            "template": "plain",
            "shots": 0,
        },
        "decoding": {"max_new_tokens": None if task.startswith("ranked") else 32},
    }


def _shared_columns(
    task: str, code: str, order: NDArray[np.int64], is_ranked: bool
) -> dict[str, Any]:
    """The columns that all runs of a task and language have alike, in the order of their rows."""
    n = order.size
    ids = [f"{i:05d}" for i in order]
    likelihoods = np.random.default_rng(0).normal(-20, 5, 3 * n)
    per_row = np.arange(0, 3 * n + 1, 3, dtype=np.int32)
    three = per_row if is_ranked else np.zeros(n + 1, np.int32)
    ones = np.arange(n + 1, dtype=np.int32)
    numbers = pa.array(likelihoods if is_ranked else [], pa.float64())
    counts = pa.array([7] * (3 * n if is_ranked else n), pa.int32())
    texts = pa.array([None] * n if is_ranked else [f"an answer to {i}" for i in ids], pa.string())
    named = pa.array([] if is_ranked else ["empty", "wrong_language"] * n, pa.string())
    two = np.zeros(n + 1, np.int32) if is_ranked else np.arange(0, 2 * n + 1, 2, dtype=np.int32)
    found = np.random.default_rng(1).random(len(named)) < 0.05
    return {
        "task": pa.array([task] * n, pa.string()),
        "language": pa.array([code] * n, pa.string()),
        "sample_id": pa.array(ids, pa.string()),
        "prompt_hash": pa.array([f"{i:016x}" for i in order], pa.string()),
        "gold": pa.ListArray.from_arrays(ones, pa.array(["1"] * n, pa.string())),
        "prediction": pa.array(["1"] * n if is_ranked else texts, pa.string()),
        "loglikelihoods": pa.ListArray.from_arrays(three, numbers),
        "is_greedy": pa.ListArray.from_arrays(three, pa.array([False] * len(numbers), pa.bool_())),
        "n_tokens": pa.ListArray.from_arrays(per_row if is_ranked else ones, counts),
        "text": texts,
        "finish": pa.array([None if is_ranked else "stop"] * n, pa.string()),
        "unconditional": pa.ListArray.from_arrays(three, numbers),
        "checks": pa.MapArray.from_arrays(two, named, pa.array(found, pa.bool_())),
    }


def _rows(
    shared: Mapping[str, Any],
    eval_id: str,
    run: LargeRun,
    scores: NDArray[np.float64],
    is_ranked: bool,
) -> pa.Table:
    n = scores.size
    columns = dict(shared)
    columns["eval_id"] = pa.array([eval_id] * n, pa.string())
    columns["run_id"] = pa.array([run.run_id] * n, pa.string())
    columns["score"] = pa.array(scores)
    names = ["accuracy"] if is_ranked else ["f1", "exact_match"]
    kinds = [scores] if is_ranked else [scores, (scores == 1).astype(float)]
    columns["metrics"] = pa.MapArray.from_arrays(
        np.arange(0, len(names) * n + 1, len(names), dtype=np.int32),
        pa.array(names * n, pa.string()),
        pa.array(np.stack(kinds, axis=1).ravel()),
    )
    return pa.table({name: columns[name] for name in SAMPLE_SCHEMA.names}, schema=SAMPLE_SCHEMA)


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _arguments() -> Iterator[tuple[str, int]]:
    for name in Size.__dataclass_fields__:
        yield name, getattr(Size(), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    for name, default in _arguments():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = vars(parser.parse_args())
    directory = asked.pop("directory")
    began = time.monotonic()
    write_store(directory, Size(**asked))
    print(f"{directory}: written in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

"""Builds stores of known truth in the documented format, without the program's own writer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import norm

from maple.records.rows import CURVE_SCHEMA, PROMPT_SCHEMA, SAMPLE_SCHEMA, TrainRecord
from maple.study.spec import content_id

LANGUAGES = ("arb_Arab", "eng_Latn", "swh_Latn", "tha_Thai", "yor_Latn", "zho_Hans")
RANKING = "xnli"
GENERATION = "xquad"
Scores = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a synthetic study."""

    method: str = "lora"
    rank: int | None = 8
    quantization: str = "bf16"
    seed: int = 0
    status: str = "done"
    model: str = "tiny"
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_base(self) -> bool:
        return self.method == "none"

    @property
    def bits(self) -> int:
        return {"fp32": 32, "bf16": 16, "int8": 8, "nf4": 4}[self.quantization]

    @property
    def all_parameters(self) -> dict[str, Any]:
        rank = {} if self.rank is None or self.is_base else {"rank": self.rank}
        return {**rank, **self.parameters}

    @property
    def spec(self) -> dict[str, Any]:
        trained = not self.is_base
        return {
            "model": {"name": self.model, "revision": "abc", "family": None},
            "method": {"name": self.method, "parameters": self.all_parameters},
            "quantization": self.quantization,
            "mixture": _MIXTURE if trained else None,
            "training": {"learning_rate": 3e-4, "epochs": 1.0} if trained else None,
            "seed": self.seed if trained else 0,
            "loop_version": 1,
        }

    @property
    def id(self) -> str:
        return content_id(self.spec)

    @property
    def label(self) -> str:
        rank = f" rank={self.rank}" if "rank" in self.all_parameters else ""
        tail = [] if self.is_base else ["native", f"seed {self.seed}"]
        return " · ".join([self.model, self.method + rank, self.quantization, *tail])


_MIXTURE = {"name": "native", "parts": [{"dataset": "multialpaca", "weight": 1.0}]}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a synthetic study."""

    name: str
    chance_level: float | None
    headline: str
    languages: Sequence[str] = LANGUAGES
    english_only: bool = False


TASKS = (
    Task(name=RANKING, chance_level=1 / 3, headline="accuracy"),
    Task(name=GENERATION, chance_level=None, headline="f1"),
)


class StoreBuilder:
    """Writes one store file by file; every method may be called with one's own truth."""

    def __init__(self, directory: Path, name: str = "synthetic") -> None:
        self.directory = directory
        self.name = name

    def study(self, runs: Sequence[Run], tasks: Sequence[Task] = TASKS, **extra: Any) -> None:
        """Writes study.json for the full cross of runs and tasks."""
        content = {
            "format": 1,
            "name": self.name,
            "study": {"name": self.name, "methods": ["none", {"lora": {"rank": [4, 16]}}]},
            "cells": [self._cell(run) for run in runs],
            "skipped": [],
            "evaluations": [
                {"task": t.name, "language": code, "english_only": t.english_only}
                for t in tasks
                for code in t.languages
            ],
            "missing": [],
            "limit": None,
            "created": "2025-01-01T00:00:00+00:00",
            **extra,
        }
        self._json(self.directory / "study.json", content)

    def run(self, run: Run, *, steps: int = 30) -> None:
        """Writes the folder of one run in the state that its status names."""
        if run.status == "missing":
            return
        folder = self.directory / "runs" / run.id
        self._json(folder / "spec.json", {**run.spec, "id": run.id})
        self._json(folder / "environment.json", {"maple": "0.1.0", "torch": "2.13.0+cpu"})
        if run.status == "failed":
            self._json(folder / "failed.json", FAILURE)
        if run.status == "done":
            if not run.is_base:
                self._trained(folder, run, steps)
            self._json(folder / "done", {"time": "2025-01-01T00:10:00+00:00"})

    def evaluation(
        self,
        run: Run,
        task: Task,
        language: str,
        scores: Scores,
        *,
        sample_ids: Sequence[str] | None = None,
        is_done: bool = True,
        texts: Sequence[str] | None = None,
        checks: Sequence[Mapping[str, bool]] | None = None,
        **spec_changes: Any,
    ) -> str:
        """Writes one evaluation with these scores, in two parts; returns its id."""
        spec = self._eval_spec(run, task, language) | spec_changes
        eval_id = content_id(spec)
        folder = self.directory / "evals" / eval_id
        ids = list(sample_ids or (f"{i:05d}" for i in range(len(scores))))
        prompts = f"prompts-{task.name}-{language}"
        self._json(
            folder / "spec.json",
            {
                **spec,
                "id": eval_id,
                "prompts": prompts,
                "chance_level": task.chance_level,
                "headline": task.headline,
                "available": len(scores) + 7,
            },
        )
        columns = _columns(eval_id, run, task, language, ids)
        columns |= _answers(task, scores, texts or ["x"] * len(ids))
        columns["unconditional"] = [[]] * len(ids)
        columns["checks"] = [list(found.items()) for found in checks or [{}] * len(ids)]
        self._parts(folder, pa.table(columns, schema=SAMPLE_SCHEMA))
        if is_done:
            done = {"samples": len(ids), "limit": None, "seconds": 2.5}
            self._json(folder / "done", done)
        self.prompts(prompts, ids)
        return eval_id

    def prompts(self, prompts_id: str, sample_ids: Sequence[str], context: str = "") -> None:
        """Writes the prompts of one task and language, unless they are there."""
        path = self.directory / "prompts" / f"{prompts_id}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "sample_id": sample,
                "prompt_hash": "0" * 8,
                "context": context or f"Question {sample} of {prompts_id}?",
                "continuations": ["yes", "also", "no"] if RANKING in prompts_id else [],
                "gold": ["1"] if RANKING in prompts_id else ["x"],
            }
            for sample in sample_ids
        ]
        if not path.exists() or context:
            pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), path)

    def _cell(self, run: Run) -> dict[str, Any]:
        return {
            "run_id": run.id,
            "label": run.label,
            "model": run.model,
            "method": run.method,
            "parameters": run.all_parameters,
            "quantization": run.quantization,
            "bits": run.bits,
            "mixture": None if run.is_base else "native",
            "seed": run.seed,
            "stands_for": 1,
        }

    def _trained(self, folder: Path, run: Run, steps: int) -> None:
        loss = [2.0 + 3.0 / (i + 1) for i in range(steps)]
        numbers = [name for name in CURVE_SCHEMA.names if not name.startswith("validation")]
        columns = dict.fromkeys(CURVE_SCHEMA.names, [None] * steps)
        columns |= {name: [0.0] * steps for name in numbers} | {
            "step": list(range(1, steps + 1)),
            "loss": loss,
            "tokens": [100] * steps,
            "label_tokens": [50] * steps,
            "peak_memory_bytes": [10**9] * steps,
        }
        pq.write_table(pa.table(columns, schema=CURVE_SCHEMA), folder / "curve.parquet")
        record = TrainRecord(
            run_id=run.id,
            steps=steps,
            examples=steps * 8,
            tokens=steps * 100,
            label_tokens=steps * 50,
            train_seconds=60.0,
            final_loss=loss[-1],
            trainable_parameters=1000 * (run.rank or 100),
            total_parameters=1_000_000,
            adapter_bytes=4000 * (run.rank or 100),
            adapter_sha256=f"sha-{run.id}",
            peak_memory_bytes=10**9,
        )
        self._json(folder / "train.json", asdict(record))

    def _eval_spec(self, run: Run, task: Task, language: str) -> dict[str, Any]:
        return {
            "run_id": run.id,
            "adapter": "none" if run.is_base else f"sha-{run.id}",
            "task": task.name,
            "task_version": 1,
            "language": language,
            "data": "synthetic",
            "split": "test",
            "prompt": {
                "form": "mega",
                "instruction_language": "english",
                "template": "plain",
                "shots": 0,
            },
            "decoding": {"max_new_tokens": None},
        }

    def _parts(self, folder: Path, rows: pa.Table) -> None:
        middle = rows.num_rows // 2
        for first, part in ((0, rows.slice(0, middle)), (middle, rows.slice(middle))):
            if part.num_rows:
                pq.write_table(part, folder / f"part-{first:06d}-{part.num_rows}.parquet")
        (folder / ".tmp-part-999999-1.parquet").write_bytes(b"half written")

    def _json(self, path: Path, content: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


FAILURE = {
    "stage": "train",
    "error": "TrainingError: the loss is not finite at step 3",
    "traceback": "Traceback (most recent call last):\n  File <x>\nTrainingError: not finite",
    "time": "2025-01-01T00:05:00+00:00",
}


def _columns(
    eval_id: str, run: Run, task: Task, language: str, sample_ids: Sequence[str]
) -> dict[str, Any]:
    n = len(sample_ids)
    return {
        "eval_id": [eval_id] * n,
        "run_id": [run.id] * n,
        "task": [task.name] * n,
        "language": [language] * n,
        "sample_id": sample_ids,
        "prompt_hash": ["0" * 8] * n,
    }


def _answers(task: Task, scores: Scores, texts: Sequence[str]) -> dict[str, Any]:
    is_ranking, n = task.chance_level is not None, len(scores)
    return {
        "gold": [["1"] if is_ranking else ["x"]] * n,
        "prediction": ["1" if s == 1 else "0" for s in scores] if is_ranking else texts,
        "score": np.asarray(scores, float),
        "metrics": [[(task.headline, s), ("exact_match", float(s == 1))] for s in scores],
        "loglikelihoods": [[-1.0, -2.0, -3.0] if is_ranking else []] * n,
        "is_greedy": [[True, False, False] if is_ranking else []] * n,
        "n_tokens": [[1, 1, 1] if is_ranking else [2]] * n,
        "text": [None] * n if is_ranking else texts,
        "finish": [None if is_ranking else "stop"] * n,
    }


Truth = Callable[[Run, Task, str], float]


def rising_truth(run: Run, task: Task, language: str) -> float:
    """A probability of success: tuning and rank help, English pays, few bits cost a little."""
    base = {"eng_Latn": 0.75, "zho_Hans": 0.6, "arb_Arab": 0.55}.get(language, 0.45)
    bits = -0.05 if run.bits < 8 else 0.0
    if run.is_base:
        return base + bits
    gain = 0.02 * np.log2(run.rank or 16) + 0.02
    return float(base + bits + (-0.04 if language == "eng_Latn" else gain))


def draw(run: Run, task: Task, language: str, n: int, truth: Truth = rising_truth) -> Scores:
    """Draws n scores; an item's difficulty is shared by all runs, so that pairing matters."""
    shared = np.random.default_rng(zlib.crc32(f"{task.name} {language}".encode()))
    own = np.random.default_rng(zlib.crc32(f"{run.id} {task.name} {language}".encode()))
    # The sum of two normals is uniform again under their distribution function.
    latent = norm.cdf(0.9 * shared.standard_normal(n) + 0.19**0.5 * own.standard_normal(n))
    hits = (latent < truth(run, task, language)).astype(float)
    if task.chance_level is None:
        hits *= np.where(own.random(n) < 0.4, 0.5, 1.0)
    return hits


STUDY_RUNS = (
    Run(method="none", rank=None, quantization="bf16"),
    Run(method="none", rank=None, quantization="nf4"),
    *(
        Run(rank=rank, quantization=quantization, seed=seed)
        for quantization in ("bf16", "nf4")
        for rank in (4, 16)
        for seed in (0, 1)
    ),
    Run(method="full", rank=None, quantization="bf16", status="failed"),
    Run(rank=64, quantization="bf16", status="done"),
    Run(rank=64, quantization="nf4", status="missing"),
    Run(rank=128, quantization="nf4", status="unfinished"),
)
"""A failed run, a done run without samples, a missing and an unfinished one among twelve."""

WITHOUT_SAMPLES = STUDY_RUNS[-3]
PARTIAL = STUDY_RUNS[2]
"""The run that lacks Yoruba in the first task and is unfinished there in Thai."""


def build_study(directory: Path, n: int = 60) -> StoreBuilder:
    """Writes a study of twelve runs, two tasks and six languages, with every kind of gap."""
    builder = StoreBuilder(directory)
    skipped = [{"cell": "tiny · full · nf4", "reason": "full fine-tuning needs float weights"}]
    missing = [{"task": RANKING, "language": "amh_Ethi", "reason": "the benchmark has none"}]
    builder.study(STUDY_RUNS, skipped=skipped, missing=missing)
    for run in STUDY_RUNS:
        builder.run(run)
        if run.status != "done" or run is WITHOUT_SAMPLES:
            continue
        for task in TASKS:
            for language in task.languages:
                is_first = run is PARTIAL and task.name == RANKING
                if is_first and language == "yor_Latn":
                    continue
                is_done = not (is_first and language == "tha_Thai")
                builder.evaluation(
                    run, task, language, draw(run, task, language, n), is_done=is_done
                )
    return builder

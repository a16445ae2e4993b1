"""Whether scores depend on what must not matter: batches, order, workers, a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from benchmarks.evaluation.answers import Stored, read_store
from benchmarks.evaluation.contestants import Place, eval_command, maple_command, run_maple
from benchmarks.training.rows import MIXTURE

RELATIVE = 1e-6
"""Allowed between log-likelihoods in float32, where batches have other shapes."""
FLOATS = ("loglikelihoods", "unconditional")
TASKS = ("xnli", "belebele", "xquad")
_KILL_SECONDS = 600
Rows = dict[tuple[int, str, str], dict[str, Any]]


def rows_of(stored: Sequence[Stored]) -> Rows:
    """Sample rows by rank, item and sample."""
    return {(s.rank, s.item.name, r["sample_id"]): r for s in stored for r in s.rows}


def compare_rows(left: Rows, right: Rows) -> dict[str, Any]:
    """Every column of every row; sums of floating-point numbers to a relative 1e-6."""
    found: list[str] = []
    if {*left} != {*right}:
        found.append(f"{len({*left} ^ {*right})} rows are in one only")
    identical, largest = 0, 0.0
    for key in sorted({*left} & {*right}):
        unequal = {n for n, value in left[key].items() if not _same(value, right[key].get(n))}
        identical += not unequal
        for name in sorted(unequal):
            apart = relative(left[key][name], right[key][name]) if name in FLOATS else 1.0
            largest = max(largest, apart) if name in FLOATS else largest
            if apart > RELATIVE:
                found.append(f"{key}: {name}")
    return {
        "rows": len(left),
        "rows_identical": identical,
        "largest_relative": float(f"{largest:.3g}"),
        "differences": found[:10],
        "n_differences": len(found),
    }


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) or repr(left) == repr(right)  # a NaN is itself


def relative(left: Sequence[float], right: Sequence[float]) -> float:
    """Largest relative difference; 1 where there are not as many."""
    if len(left) != len(right):
        return 1.0
    pairs = zip(left, right, strict=True)
    return max((abs(a - b) / max(abs(a), abs(b), 1e-9) for a, b in pairs), default=0.0)


class Invariance:
    """One set of scores, made again in other ways."""

    def __init__(self, place: Place, *, bits: str, samples: int, release: Path) -> None:
        self.place = place
        self.bits = bits
        self.samples = samples
        self.release = release

    def ways(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Each way beside the default one: rows, how many are identical, differences."""
        reversed_ = replace(self.place, adapters=self.place.adapters[::-1])
        return {
            "batch size 1": lambda: self._again("one", ("--batch-size", "1")),
            "batch size 4": lambda: self._again("four", ("--batch-size", "4")),
            "adapters reversed": lambda: self._again("reversed", (), reversed_),
            "passes not shared": lambda: self._again("alone", ("--no-share-passes",)),
            "passes shared": lambda: self._again("shared", ("--share-passes",)),
            "killed and resumed": self._killed,
            "study: 1 and 2 workers": self._two_workers,
            "study: killed and resumed": self._killed_study,
        }

    @cached_property
    def first(self) -> Rows:
        """At the default batch size, adapters in order."""
        return self._rows("first", ())

    def _again(
        self, tag: str, options: Sequence[str], place: Place | None = None
    ) -> dict[str, Any]:
        return compare_rows(self.first, self._rows(tag, options, place))

    def _command(self, tag: str, options: Sequence[str], place: Place | None = None) -> list[str]:
        out = self._folder / tag
        shutil.rmtree(out, ignore_errors=True)
        return eval_command(
            place or self.place,
            out,
            tasks=TASKS,
            bits=self.bits,
            options=["--prompt", "lm-eval", "--limit", str(self.samples), *options],
        )

    def _rows(self, tag: str, options: Sequence[str], place: Place | None = None) -> Rows:
        command = self._command(tag, options, place)
        out = self._folder / tag
        run_maple(command, self.place, out)
        return rows_of(read_store(out))

    def _killed(self) -> dict[str, Any]:
        return self._resumed(self._command("killed", ()), self._folder / "killed", self.first)

    def _resumed(self, command: Sequence[str], out: Path, expected: Rows) -> dict[str, Any]:
        half = len({key[:2] for key in expected}) // 2
        left = kill_midway(command, self.place.env(), out, half)
        run_maple(command, self.place, out)
        found = compare_rows(expected, rows_of(read_store(out)))
        if left is None:
            found["differences"].append("it had ended before it could be killed")
        return found | {"evaluations_finished_when_killed": left}

    @property
    def _folder(self) -> Path:
        return self.place.work / "scratch" / "invariance"

    def _study_command(self, tag: str, workers: int) -> list[str]:
        study, out = self._folder / "study.yaml", self._folder / tag
        shutil.rmtree(out, ignore_errors=True)
        study.parent.mkdir(parents=True, exist_ok=True)
        study.write_text(yaml.safe_dump(self.study()), encoding="utf-8")
        command = maple_command("run", str(study), "--data-dir", str(self.release.resolve()))
        return [*command, "--out", str(out), "--workers", str(workers)]

    @cached_property
    def _one_worker(self) -> Rows:
        run_maple(self._study_command("workers-1", 1), self.place, self._folder / "workers-1")
        return rows_of(read_store(self._folder / "workers-1"))

    def _two_workers(self) -> dict[str, Any]:
        run_maple(self._study_command("workers-2", 2), self.place, self._folder / "workers-2")
        return compare_rows(self._one_worker, rows_of(read_store(self._folder / "workers-2")))

    def _killed_study(self) -> dict[str, Any]:
        command = self._study_command("study-killed", 1)
        return self._resumed(command, self._folder / "study-killed", self._one_worker)

    def study(self) -> Mapping[str, Any]:
        """Four adapters trained for two steps, then scored: two of them for a worker."""
        return {
            "name": "bench-evaluate",
            "models": [str(self.place.base)],
            "methods": [{"lora": {"rank": [8, 16, 32, 64], "targets": "all-linear"}}],
            "quantization": [self.bits],
            "mixtures": {"alpaca-5": MIXTURE},
            "training": {
                "max_steps": 2, "examples": 8, "batch_size": 4, "max_length": 128,
                "warmup_steps": 0,
            },
            "seeds": [0],
            "evaluate": {
                "tasks": list(TASKS), "languages": ["deu_Latn", "eng_Latn"],
                "limit": self.samples, "prompt": {"form": "lm-eval"},
            },
        }  # fmt: skip


def kill_midway(
    command: Sequence[str], env: Mapping[str, str], out: Path, evaluations: int
) -> int | None:
    """Starts a command and kills it once so many evaluations are finished.

    Returns:
        Evaluations that were finished then; None where the command had ended by itself.
    """
    log = out.with_suffix(".killed.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said:
        process = subprocess.Popen(
            list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + _KILL_SECONDS
        while process.poll() is None:
            finished = len(list(out.glob("evals/*/done")))
            if finished >= evaluations or time.monotonic() > end:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return finished
            time.sleep(0.05)
    return None

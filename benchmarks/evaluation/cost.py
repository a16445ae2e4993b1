"""How our time grows with adapters, options, shots and the prompt, and what predicts it."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from benchmarks.evaluation.answers import Stored, read_store
from benchmarks.evaluation.bandwidth import read_bandwidth
from benchmarks.evaluation.contestants import Outcome, Place, eval_command, run_maple
from benchmarks.evaluation.explained import Machine, Point, explained, weight_bytes
from benchmarks.evaluation.floor import Counter, flops_parts
from benchmarks.evaluation.harness_tasks import write_made_task
from benchmarks.evaluation.items import HARNESS_PREFIX, release_files, upstream
from benchmarks.evaluation.passes import Passes
from benchmarks.training.bases import Architecture

ADAPTERS = (1, 2, 5, 10)
OPTIONS = (2, 3, 4)
SHOTS = (0, 4, 8)
WORDS = (16, 64, 256, 768)
"""Of a prompt; English words are some 1.3 tokens each, and the bases have 2,048 positions."""
OPTION_WORDS = 12
_ENGLISH = "eng_Latn"
_SLACK = 0.02
"""Seconds between the end of an evaluation's own clock and its file's time."""


class CostGrowth:
    """The four curves, on one base."""

    def __init__(
        self,
        place: Place,
        architecture: Architecture,
        counter: Counter,
        *,
        peak: float,
        bits: str,
        samples: int,
    ) -> None:
        """Measures how fast memory is read.

        Args:
            place: with as many adapters as the largest of ``ADAPTERS``.
            architecture: of the base.
            counter: with the base's tokenizer.
            peak: FLOP/s of the best product.
            bits: Maple's quantization.
            samples: half of those of a task and language; a quarter of those of a made task.
        """
        self.place = place
        self.architecture = architecture
        self.counter = counter
        self.bits = bits
        self.samples = samples
        self.machine = Machine(flops=peak, bytes=read_bandwidth(place.env()))

    def curves(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Each curve, measured when called; ``explained`` says what it holds."""
        measured: dict[str, Callable[[], dict[int, Point]]] = {
            "options": lambda: self._made("options", OPTIONS),
            "prompt_words": lambda: self._made("words", WORDS),
            "shots": lambda: {n: self._shots(n) for n in SHOTS},
            "adapters": lambda: {n: self._adapters(n) for n in ADAPTERS},
        }
        return {name: partial(self._explained, measure) for name, measure in measured.items()}

    def _explained(self, measure: Callable[[], dict[int, Point]]) -> dict[str, Any]:
        return explained(measure(), self.machine)

    def _made(self, kind: str, numbers: Sequence[int]) -> dict[int, Point]:
        outcome, stored = self._made_tasks
        kinds = {s.item.kind: s for s in stored}
        return {n: self.point([kinds[f"{kind}{n}"]], outcome) for n in numbers}

    @cached_property
    def _made_tasks(self) -> tuple[Outcome, list[Stored]]:
        samples = 4 * self.samples
        tasks = [f"lm-eval:{name}" for name in make_tasks(self.place, samples)]
        return self._evaluate(1, tasks, ["--prompt", "lm-eval", "--limit", str(samples)])

    def _shots(self, count: int) -> Point:
        options = ["--prompt", "mega", "--shots", str(count), "--limit", str(2 * self.samples)]
        outcome, stored = self._evaluate(1, ["xcopa"], [*options, "--no-unconditional"])
        return self.point(stored, outcome)

    def _adapters(self, count: int) -> Point:
        options = ["--prompt", "lm-eval", "--limit", str(2 * self.samples)]
        outcome, stored = self._evaluate(count, ["xnli"], options)
        return self.point(stored, outcome, is_whole=True)

    def _evaluate(
        self, n_adapters: int, tasks: Sequence[str], options: Sequence[str]
    ) -> tuple[Outcome, list[Stored]]:
        place = replace(self.place, adapters=self.place.adapters[:n_adapters])
        out = place.work / "scratch" / "cost"
        shutil.rmtree(out, ignore_errors=True)
        command = eval_command(place, out, tasks=tasks, bits=self.bits, options=options)
        return run_maple(command, place, out), read_store(out)

    def point(self, stored: Sequence[Stored], outcome: Outcome, *, is_whole: bool = False) -> Point:
        """One point of a curve.

        Args:
            stored: its evaluations.
            outcome: of the process that did them, and others perhaps.
            is_whole: the seconds are the process's, and not the evaluations' alone.
        """
        # Examples in the prompt are fed once for all samples of a pass, so the floor has them once.
        works = [(self.counter.work(s, across_samples=True), s.rank) for s in stored]
        parts = [flops_parts(self.architecture, work, rank) for work, rank in works]
        passes = _passes_of(stored, outcome.passes, is_whole=is_whole)
        seconds = outcome.seconds if is_whole else sum(s.seconds for s in stored)
        weights = weight_bytes(self.architecture, self.bits)
        return Point(
            seconds=round(seconds, 3),
            gigaflops={name: round(sum(p[name] for p in parts) / 1e9, 2) for name in parts[0]},
            passes=passes.count,
            gigabytes=round(passes.count * weights / 1e9, 2),
            tokens={
                "asked": sum(work.naive_tokens for work, _ in works),
                "fed": passes.tokens,
                "fewest": sum(work.tokens for work, _ in works),
            },
        )


def _passes_of(stored: Sequence[Stored], passes: Passes, *, is_whole: bool) -> Passes:
    """The passes of a process, or those made while an evaluation of these was."""
    if is_whole:
        return passes
    windows = [passes.between(s.ended - s.seconds - _SLACK, s.ended) for s in stored]
    return Passes(tuple(each for window in windows for each in window.each))


def make_tasks(place: Place, samples: int) -> list[str]:
    """Rankings made of XQuAD's English paragraphs, for the harness's YAML; their names."""
    words = list(itertools.islice(_words(place.data), samples * (max(WORDS) + 4 * OPTION_WORDS)))
    wanted = [(f"options{n}", 128, n) for n in OPTIONS] + [(f"words{n}", n, 4) for n in WORDS]
    names = []
    for kind, length, n_options in wanted:
        name = f"{HARNESS_PREFIX}{kind}_{_ENGLISH}"
        rows = place.tasks.parent / "made" / f"{name}.jsonl"
        rows.parent.mkdir(parents=True, exist_ok=True)
        made = made_rows(words, samples, length=length, n_options=n_options)
        rows.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        write_made_task(name, rows, place.tasks)
        names.append(name)
    return names


def made_rows(
    words: Sequence[str], samples: int, *, length: int, n_options: int
) -> Iterable[dict[str, Any]]:
    """Contexts of ``length`` words, with options of twelve words that follow them in the text."""
    for number in range(samples):
        # Each sample begins elsewhere, so that no two share a prefix; the text may come round.
        start = number * (max(WORDS) + len(OPTIONS)) % max(1, len(words) - length - 200)
        options = [
            " ".join(words[begin : begin + OPTION_WORDS])
            for k in range(n_options)
            for begin in [start + length + k * OPTION_WORDS]
        ]
        yield {"context": " ".join(words[start : start + length]), "options": options}


def _words(data: Path) -> Iterable[str]:
    (english,) = release_files("xquad", upstream(_ENGLISH, "xquad"))
    # Where fewer languages are asked for, English may not be among them.
    path = data / english if (data / english).exists() else sorted(data.glob("xquad/*.json"))[0]
    release = json.loads(path.read_text(encoding="utf-8"))
    for article in release["data"]:
        for paragraph in article["paragraphs"]:
            yield from paragraph["context"].split()

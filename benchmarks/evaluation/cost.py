"""How our time grows with adapters, options, shots and the prompt's length; FLOPs beside it."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.evaluation.answers import Stored, read_store
from benchmarks.evaluation.contestants import Place, eval_command, run_maple
from benchmarks.evaluation.floor import Counter, Work, forward_flops
from benchmarks.evaluation.harness_tasks import write_made_task
from benchmarks.evaluation.items import HARNESS_PREFIX, release_files, upstream
from benchmarks.training.bases import Architecture

ADAPTERS = (1, 2, 5, 10)
OPTIONS = (2, 3, 4)
SHOTS = (0, 4, 8)
WORDS = (16, 64, 256, 768)
"""Of a prompt; English words are some 1.3 tokens each, and the bases have 2,048 positions."""
OPTION_WORDS = 12
_ENGLISH = "eng_Latn"


class CostGrowth:
    """The four curves, on one base."""

    def __init__(
        self, place: Place, architecture: Architecture, counter: Counter, *, peak: float
    ) -> None:
        self.place = place
        self.architecture = architecture
        self.counter = counter
        self.peak = peak

    def run(self, *, bits: str, samples: int) -> dict[str, Any]:
        """Every curve: points of x, seconds, tokens, operations.

        Args:
            bits: Maple's quantization.
            samples: of each task and language; of the made tasks four times as many.
        """
        one = replace(self.place, adapters=self.place.adapters[:1])
        made = make_tasks(self.place, 4 * samples)
        options = ["--prompt", "lm-eval", "--limit", str(4 * samples)]
        wall, stored = self._evaluate(
            one, [f"lm-eval:{name}" for name in made], options=options, bits=bits
        )
        kinds = {s.item.kind: s for s in stored}
        return {
            "options": {n: self.point([kinds[f"options{n}"]]) for n in OPTIONS},
            "prompt_words": {n: self.point([kinds[f"words{n}"]]) for n in WORDS},
            "shots": {n: self._shots(one, n, bits, samples) for n in SHOTS},
            "adapters": {n: self._adapters(n, bits, samples) for n in ADAPTERS},
            "made_tasks_process_seconds": round(wall, 2),
        }

    def _shots(self, place: Place, n_shots: int, bits: str, samples: int) -> dict[str, Any]:
        options = ["--prompt", "mega", "--shots", str(n_shots), "--limit", str(2 * samples)]
        wall, stored = self._evaluate(place, ["xcopa"], options=options, bits=bits)
        return self.point(stored, wall)

    def _adapters(self, n_adapters: int, bits: str, samples: int) -> dict[str, Any]:
        chosen = replace(self.place, adapters=self.place.adapters[:n_adapters])
        options = ["--prompt", "lm-eval", "--limit", str(2 * samples)]
        wall, stored = self._evaluate(chosen, ["xnli"], options=options, bits=bits)
        return self.point(stored, wall)

    def _evaluate(
        self, place: Place, tasks: Sequence[str], *, options: Sequence[str], bits: str
    ) -> tuple[float, list[Stored]]:
        out = place.work / "scratch" / "cost"
        shutil.rmtree(out, ignore_errors=True)
        command = eval_command(place, out, tasks=tasks, bits=bits, options=options)
        return run_maple(command, place, out).seconds, read_store(out)

    def point(self, stored: Sequence[Stored], wall: float | None = None) -> dict[str, Any]:
        """One point of a curve.

        Args:
            stored: its evaluations.
            wall: seconds of the whole process, where it did nothing else.
        """
        works = [(self.counter.work(s), s.rank) for s in stored]
        total = sum((work for work, _ in works), Work())
        shared = sum(self.counter.work(s, across_samples=True).tokens for s in stored)
        flops = sum(forward_flops(self.architecture, work, rank) for work, rank in works)
        found = {
            "scoring_seconds": round(sum(s.seconds for s in stored), 3),
            "tokens_one_option_at_a_time": total.naive_tokens,
            "tokens_fewest": total.tokens,
            "tokens_fewest_shared_by_samples": shared,
            "gigaflops_fewest": round(flops / 1e9, 1),
            "floor_seconds": round(flops / self.peak, 3),
        }
        return found | ({"process_seconds": round(wall, 2)} if wall is not None else {})


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
    (file,) = release_files("xquad", upstream(_ENGLISH, "xquad"))
    release = json.loads((data / file).read_text(encoding="utf-8"))
    for article in release["data"]:
        for paragraph in article["paragraphs"]:
            yield from paragraph["context"].split()

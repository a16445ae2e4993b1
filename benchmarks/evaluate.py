"""Scoring side by side with lm-evaluation-harness: ``make bench-evaluate``.

    base, adapters, rows made once --> batch sizes of the harness tried --> interleaved pairs
                                   --> cost growth  --> share of the product peak  --> invariance

Prints a table and, as its last line, one line of JSON with every ratio, the tokens that each side
fed, the share of the peak and every setting tried. A part that fails is told and the others go on.
``docs/benchmarks.md`` says what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run by its path this folder would come first, and its statistics.py would hide Python's own.
sys.path[:] = [str(ROOT), *(p for p in sys.path if Path(p).resolve() != ROOT / "benchmarks")]

from benchmarks.evaluation.contestants import Place, Question  # noqa: E402
from benchmarks.evaluation.cost import ADAPTERS, CostGrowth  # noqa: E402
from benchmarks.evaluation.floor import Counter  # noqa: E402
from benchmarks.evaluation.harness_tasks import write_tasks  # noqa: E402
from benchmarks.evaluation.invariance import Invariance  # noqa: E402
from benchmarks.evaluation.items import (  # noqa: E402
    SENTENCES,
    Item,
    documents,
    link_release,
    write_documents,
)
from benchmarks.evaluation.models import ending_base, make_adapters  # noqa: E402
from benchmarks.evaluation.pairs import Cell, run_pairs, try_batch_sizes  # noqa: E402
from benchmarks.evaluation.share import FORMS, ranking_share, with_peak  # noqa: E402
from benchmarks.evaluation.show import (  # noqa: E402
    TARGETS,
    curve_lines,
    floor_seconds,
    headline,
    table,
    verdicts,
)
from benchmarks.evaluation.sizes import (  # noqa: E402
    BATCH_SIZES,
    COST_SAMPLES,
    INVARIANCE_SAMPLES,
    QUESTIONS,
    SAMPLES,
    SHARE_SAMPLES,
    SHORTLIST,
    Line,
    expected_seconds,
)
from benchmarks.output import compact, save, say  # noqa: E402
from benchmarks.training.bases import ARCHITECTURES, make_base  # noqa: E402
from benchmarks.training.processes import contestant_environment  # noqa: E402
from benchmarks.training.share import product_peak  # noqa: E402
from benchmarks.training.show import machine  # noqa: E402

PARTS = ("mix", "apart", "cost", "share", "invariance")
PAIRS = ("mix", "apart")
"""What ``--parts pairs`` stands for."""
BASE, WIDE, WIDE_RANK = "42M", "wide", 16


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    bench = Bench(asked)
    say(bench.expectation())
    result = bench.run()
    result["targets_met"] = verdicts(result)
    for line in table(bench.cells, bench.peak) if bench.cells else []:
        print(line)
    for name, curve in result["cost"].items():
        print("\n".join(curve_lines(name, curve)))
    for name, is_met in result["targets_met"].items():
        print(f"{'met    ' if is_met else 'NOT met'}  {name}")
    if asked.save:
        save(result, asked.save)
    unequal = {cell.title: cell.differences for cell in bench.cells if cell.differences}
    for name, found in result["invariance"].items():
        if found["differences"]:
            unequal[name] = found["differences"]
    for title, differences in unequal.items():
        say(f"{title}: the scores are not the same: {'; '.join(differences)}")
    print(json.dumps(compact(result)))
    return 1 if unequal or bench.failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-evaluate")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--ranks", default="8,16,32,64,128")
    parser.add_argument("--bits", default="fp32,bf16", help="of the mix")
    parser.add_argument("--apart-bits", default="fp32", help="of its parts apart")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"of: {', '.join(PARTS)}; pairs: the first two"
    )
    parser.add_argument("--questions", default=",".join(q for q in TARGETS if q != "mix"))
    parser.add_argument(
        "--pairs", type=int, default=3, help="interleaved rounds of the mix, at its first bits"
    )
    parser.add_argument(
        "--apart-pairs", type=int, default=2, help="of the mix at its other bits, and of its parts"
    )
    parser.add_argument(
        "--samples", type=int,
        help=f"of a task and language; default: {_listed(SAMPLES)}; cost {COST_SAMPLES} (times 2 "
        f"or 4), share {SHARE_SAMPLES}, invariance {INVARIANCE_SAMPLES}",
    )  # fmt: skip
    parser.add_argument(
        "--questions-per-language", type=int, default=QUESTIONS, help="of XQuAD and of MLQA"
    )
    parser.add_argument("--languages", type=int, default=4, help="of a task, at most")
    parser.add_argument("--mix-calls", type=int, default=1, help="lm_eval calls of a pair")
    parser.add_argument("--apart-calls", type=int, default=1, help="the same, of the parts apart")
    sizes = {name: "/".join(tried) for name, tried in BATCH_SIZES.items()}
    parser.add_argument(
        "--batch-sizes", help=f"of lm-eval, to try, auto among them; default: {_listed(sizes)}"
    )
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of all; default: unset")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one pair, two ranks")
    parser.add_argument("--save", metavar="NAME", help="keep it as benchmarks/results/NAME.json")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.ranks, asked.bits, asked.parts = "8,64", "fp32", "mix"
        asked.mix_calls = 2
        asked.pairs, asked.languages, asked.batch_sizes = 1, 2, "8"
        asked.samples, asked.questions_per_language = asked.samples or 2, 2
    return asked


class Bench:
    """The whole comparison, as asked for."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        names = asked.parts.split(",")
        self.parts = [*PAIRS, *names] if "pairs" in names else names
        self.ranks = [int(rank) for rank in asked.ranks.split(",")]
        self.questions = asked.questions.split(",")
        self.cells: list[Cell] = []
        self.peak = 0.0
        self.fastest: dict[str, tuple[str, ...]] = {}
        """Batch sizes of lm-eval that a question ran fastest at, at the bits before."""
        self.failed: dict[str, str] = {}
        """What did not run to its end, and why."""
        self._began = time.monotonic()
        unknown = sorted({*names} - {*PARTS, "pairs"} | {*self.questions} - {*TARGETS})
        if unknown:
            raise SystemExit(f"unknown: {unknown}. Parts: {PARTS}; questions: {tuple(TARGETS)}")
        if not asked.data.is_dir():
            raise SystemExit("no release files there: name their directory with --data")
        self.asked.work = asked.work.resolve()

    def expectation(self) -> str:
        """How long it will take, roughly."""
        if self.asked.quick:
            return "quick: about 3 minutes on two idle cores"
        minutes = expected_seconds(self.lines(), self.parts) / 60
        note = "; other sizes than the defaults are not reckoned with" if self.is_other_size else ""
        return f"expected: about {minutes:.0f} minutes on two idle cores{note}"

    @property
    def is_other_size(self) -> bool:
        """Whether more or less is scored than by default."""
        asked = self.asked
        usual = (None, QUESTIONS, 4, 5)
        return (asked.samples, asked.questions_per_language, asked.languages,
                len(self.ranks)) != usual  # fmt: skip

    def lines(self) -> list[Line]:
        """The table's lines, in the order they are measured."""
        asked, found = self.asked, []
        if "mix" in self.parts:
            for number, bits in enumerate(asked.bits.split(",")):
                pairs = asked.apart_pairs if number else asked.pairs
                found.append(("mix", bits, asked.mix_calls, pairs, number > 0))
        if "apart" in self.parts:
            for number, bits in enumerate(asked.apart_bits.split(",")):
                found += [
                    (name, bits, asked.apart_calls, asked.apart_pairs, number > 0)
                    for name in self.questions
                ]
        return [
            Line(
                question=name,
                bits=bits,
                calls=min(calls, len(self.ranks)),
                pairs=pairs,
                sizes=min(len(self.batch_sizes(name)), SHORTLIST if is_again else 99),
            )
            for name, bits, calls, pairs, is_again in found
        ]

    def batch_sizes(self, question: str) -> tuple[str, ...]:
        """Those of lm-eval that are tried at a question's first bits."""
        asked = self.asked.batch_sizes
        return tuple(asked.split(",")) if asked else BATCH_SIZES[question]

    def run(self) -> dict[str, Any]:
        """Every part, as JSON values."""
        env = contestant_environment(self.asked.work, device="cpu", threads=self.asked.threads)
        self.peak = product_peak(env, "cpu")
        say(f"bfloat16 product peak: {self.peak / 1e12:.3f} TFLOP/s")
        say(f"items: {', '.join(f'{item.kind} {item.language}' for item in self.items)}")
        for line in self.lines():
            cell = self.attempt(f"{line.question} {line.bits}", partial(self.pairs, line))
            self.cells += [cell] if cell else []
        pieces = {"cost": self.cost, "share": self.share, "invariance": self.invariance}
        found = {n: self.attempt(n, part) for n, part in pieces.items() if n in self.parts}
        last = product_peak(env, "cpu")
        return {
            **headline(self.cells),
            "share_of_peak": found.get("share") or {},
            "machine": machine(),
            "product_peak_tflops": [round(p / 1e12, 4) for p in (self.peak, last)],
            "ranks": self.ranks,
            "cells": [
                cell.as_json() | {"floor_seconds": round(floor_seconds(cell.work, self.peak), 2)}
                for cell in self.cells
            ],
            "cost": found.get("cost") or {},
            "invariance": found.get("invariance") or {},
            "failed": self.failed,
            "seconds": round(time.monotonic() - self._began),
        }

    def attempt(self, title: str, part: Callable[[], Any]) -> Any:
        """What a part returns; None where it fails, which is told at once and again at the end."""
        began = time.monotonic()
        found = None
        try:
            found = part()
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            self.failed[title] = f"{type(error).__name__}: {error}"
        now = time.monotonic()
        how = "FAILED" if title in self.failed else "done"
        say(f"{title}: {how} in {now - began:.0f} s; {(now - self._began) / 60:.1f} min so far")
        return found

    @cached_property
    def place(self) -> Place:
        """The base with its adapters, the release files and the harness's tasks."""
        asked = self.asked
        base = ending_base(BASE, asked.work, asked.data)
        folder = asked.work / f"languages-{asked.languages}"
        return Place(
            base=base,
            adapters=tuple(make_adapters(base, self.ranks, asked.work / "adapters")),
            data=folder / "data",
            tasks=folder / "tasks",
            work=asked.work,
            threads=asked.threads,
        )

    @cached_property
    def items(self) -> list[Item]:
        """What is scored; the files it takes are linked and written here."""
        folder = self.place.data.parent
        shutil.rmtree(folder, ignore_errors=True)
        items = link_release(
            self.asked.data,
            self.place.data,
            languages=self.asked.languages,
            questions=self.asked.questions_per_language,
        )
        write_documents(items, self.place.data, folder / "rows")
        write_tasks(items, folder / "rows", self.place.tasks)
        return items

    @cached_property
    def numbers(self) -> dict[Item, dict[str, str]]:
        """Row number -> sample's name, of what the harness words for both."""
        return {
            item: {str(n): row["sample_id"] for n, row in enumerate(rows)}
            for item in self.items
            if item.kind == SENTENCES
            for rows in [documents(item, self.place.data)]
        }

    @cached_property
    def counter(self) -> Counter:
        """Counts tokens; both bases' tokenizers are made at first use."""
        return token_counter(self.place.base)

    def question(self, name: str) -> Question:
        """The items of a line of the table."""
        chosen = tuple(
            item
            for item in self.items
            if name in ("mix", item.kind) or (name == "generation" and item.is_generated)
        )
        return Question(name=name, items=chosen, samples=self.asked.samples or SAMPLES[name])

    def pairs(self, line: Line) -> Cell:
        """One line of the table: batch sizes tried, then the pairs."""
        cell = Cell(self.question(line.question), line.bits, self.place, line.calls)
        sizes = self.fastest.get(line.question) or self.batch_sizes(line.question)
        if len(sizes) == 1:
            cell.batch_size = sizes[0]
        else:
            try_batch_sizes(cell, sizes, say)
            ran = sorted((t["seconds"], t["batch_size"]) for t in cell.tried if "seconds" in t)
            self.fastest[line.question] = tuple(size for _, size in ran[:SHORTLIST])
        run_pairs(
            cell,
            line.pairs,
            self.numbers,
            counter=self.counter,
            architecture=ARCHITECTURES[BASE],
            say=say,
        )
        return cell

    def cost(self) -> dict[str, Any]:
        """The curves, on adapters of one rank and several seeds."""
        folder = self.asked.work / "adapters"
        adapters = [
            make_adapters(self.place.base, [16], folder, seed=seed)[0]
            for seed in range(max(ADAPTERS))
        ]
        place = replace(self.place, adapters=tuple(adapters))
        growth = CostGrowth(
            place,
            ARCHITECTURES[BASE],
            self.counter,
            peak=self.peak,
            bits="bf16",
            samples=self.asked.samples or COST_SAMPLES,
        )
        return self.each("cost", growth.curves())

    def each(self, part: str, pieces: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """What the pieces of a part return, of those that run to their end."""
        found = {}
        for name, piece in pieces.items():
            one = self.attempt(f"{part}: {name}", piece)
            if one is not None:
                found[name] = one
                say(f"  {json.dumps(one)}")
        return found

    def share(self) -> dict[str, Any]:
        """The wide base with one adapter; the peak is measured around it once more."""
        asked = self.asked
        base = make_base(WIDE, ARCHITECTURES[WIDE], asked.work, asked.data, "cpu")
        adapters = make_adapters(base, [WIDE_RANK], asked.work / "adapters")
        place = replace(self.place, base=base, adapters=tuple(adapters))
        samples = asked.samples or SHARE_SAMPLES
        counter = token_counter(base)

        def measure(name: str) -> dict[str, Any]:
            return ranking_share(name, place, ARCHITECTURES[WIDE], counter, samples=samples)

        peaks = [product_peak(place.env(), "cpu")]
        found = self.each("share", {name: partial(measure, name) for name in FORMS})
        peaks.append(product_peak(place.env(), "cpu"))
        title = f"{WIDE} bf16 rank {WIDE_RANK}"
        return {f"{title} {name}": with_peak(one, peaks) for name, one in found.items()}

    def invariance(self) -> dict[str, Any]:
        """The scores again, in other ways."""
        few = replace(self.place, adapters=self.place.adapters[:2])
        samples = self.asked.samples or INVARIANCE_SAMPLES
        check = Invariance(few, bits="fp32", samples=samples, release=self.asked.data)
        return self.each("invariance", check.ways())


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def token_counter(base: Path) -> Counter:
    """A counter with a base's own tokenizer."""
    from transformers import AutoTokenizer

    return Counter(AutoTokenizer.from_pretrained(base))


if __name__ == "__main__":
    sys.exit(main())

"""Training side by side with TRL and a plain PEFT loop: ``make bench-train``.

    bases and rows made once --> settings of the peers tried --> interleaved pairs of whole grids
                             --> share of the product peak   --> memory at equal tokens

Prints a table and, as its last line, one line of JSON with every ratio and every setting tried.
``docs/benchmarks.md`` says what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run by its path this folder would come first, and its statistics.py would hide Python's own.
sys.path[:] = [str(ROOT), *(p for p in sys.path if Path(p).resolve() != ROOT / "benchmarks")]

from benchmarks.output import compact, save, say  # noqa: E402
from benchmarks.training.bases import ARCHITECTURES, make_base  # noqa: E402
from benchmarks.training.cells import Cell, Peer, choose_settings, peers, run_pairs  # noqa: E402
from benchmarks.training.contestants import PeerSetting, Place, Recipe  # noqa: E402
from benchmarks.training.processes import contestant_environment  # noqa: E402
from benchmarks.training.rows import Rows, draw_rows  # noqa: E402
from benchmarks.training.settings import (  # noqa: E402
    CUDA_PLAIN,
    CUDA_TRL,
    PLAIN,
    QUICK_PLAIN,
    QUICK_TRL,
    TRL,
)
from benchmarks.training.share import (  # noqa: E402
    grid_share,
    memory_at_equal_tokens,
    product_peak,
    share_of_peak,
)
from benchmarks.training.show import machine, table, verdicts  # noqa: E402
from maple.study import TrainingSettings  # noqa: E402

PARTS = ("pairs", "share", "memory")
EXAMPLES = {"42M": 48, "wide": 32}
"""Of one rank's run: TRL takes some 30 and 60 seconds for them on two cores; others take 512."""
MINUTES = {"42M": 23, "wide": 50}
"""Of a cell of the defaults on two cores: settings tried, then five pairs; a rough figure."""
SHORTLIST = 3
"""Settings of a peer that are tried again at other bits: the fastest at the first."""


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    bench = Bench(asked)
    say(bench.expectation())
    began = time.monotonic()
    result = bench.run()
    result["seconds"] = round(time.monotonic() - began)
    result["targets_met"] = verdicts(result)
    for line in table(bench.cells) if bench.cells else []:
        print(line)
    for name, is_met in result["targets_met"].items():
        print(f"{'met    ' if is_met else 'NOT met'}  {name}")
    if asked.save:
        save(result, asked.save)
    print(json.dumps(compact(result)))
    unequal = {c.title: c.differences() for c in bench.cells if c.differences()}
    for title, found in unequal.items():
        say(f"{title}: the work was not the same: {'; '.join(found)}")
    return 1 if unequal else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-train")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", default="42M,wide", help=", ".join(ARCHITECTURES))
    parser.add_argument("--shapes", dest="models", help="the same as --models")
    parser.add_argument(
        "--bits", help="of each model; default: bf16,nf4,int8 of the first, bf16 of the others"
    )
    parser.add_argument("--ranks", default="8,16,32,64,128")
    parser.add_argument("--parts", default=",".join(PARTS), help="of: " + ", ".join(PARTS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--examples", type=int, help=f"of one rank's run; default {EXAMPLES}")
    parser.add_argument("--share-examples", type=int, default=160)
    parser.add_argument("--share-ranks", default="16", help="each alone, for the share of the peak")
    parser.add_argument("--batch", type=int, default=16, help="examples of an optimiser step")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of all; default: unset")
    parser.add_argument("--workers", type=int, help="of maple run; default: it chooses")
    parser.add_argument("--trl", help="this setting of TRL alone, untried")
    parser.add_argument("--plain", help="this setting of the plain loop alone, untried")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one pair, two ranks")
    parser.add_argument("--save", metavar="NAME", help="keep it as benchmarks/results/NAME.json")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.models, asked.bits, asked.ranks = "42M", "bf16", "8,64"
        asked.pairs, asked.examples, asked.share_examples, asked.parts = 1, 32, 32, "pairs,share"
    return asked


class Bench:
    """The whole comparison, as asked for."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.models = asked.models.split(",")
        self.bits = chosen_bits(self.models, asked.bits)
        self.parts = asked.parts.split(",")
        ranks = asked.share_ranks.split(",") if "share" in self.parts else []
        self.share_ranks = [int(rank) for rank in ranks]
        self.cells: list[Cell] = []
        self.shortlists: dict[str, tuple[Peer, Peer]] = {}
        unknown = sorted({*self.models} - {*ARCHITECTURES} | {*self.parts} - {*PARTS})
        if unknown:
            raise SystemExit(f"unknown: {unknown}. Models: {sorted(ARCHITECTURES)}; parts: {PARTS}")
        if not asked.data.is_dir():
            raise SystemExit("no release files there: name their directory with --data")
        self.recipe = Recipe(
            ranks=tuple(int(r) for r in asked.ranks.split(",")),
            examples=asked.examples or 512,
            batch_size=asked.batch,
            max_length=asked.max_length,
        )

    def expectation(self) -> str:
        """How long it will take, roughly."""
        if self.asked.quick:
            return "quick: about 3 minutes on two idle cores"
        if self.asked.device == "cuda" or "pairs" not in self.parts:
            return "no estimate for this choice"
        minutes = sum(MINUTES.get(name, 60) * len(self.bits[name]) for name in self.models)
        # Two fifths of a cell are trials, whatever the pairs.
        scaled = minutes * (0.4 + 0.6 * self.asked.pairs / 5)
        return f"expected: about {scaled:.0f} minutes on two idle cores"

    def run(self) -> dict[str, Any]:
        """Every cell, then everything that was measured, as JSON values."""
        env = contestant_environment(
            self.asked.work, device=self.asked.device, threads=self.asked.threads
        )
        peak = product_peak(env, self.asked.device)
        say(f"bfloat16 product peak: {peak / 1e12:.3f} TFLOP/s")
        share: dict[str, Any] = {}
        memory: dict[str, Any] = {}
        for model in self.models:
            for bits in self.bits[model]:
                name = f"{model} {bits}"
                if "pairs" in self.parts:
                    self.cells.append(self.pairs(model, bits))
                for rank in self.share_ranks:
                    share[f"{name} rank {rank}"] = self.share(model, bits, peak, rank=rank)
                if "memory" in self.parts and bits == self.bits[model][0]:
                    memory[name] = self.memory(model, bits)
        last = product_peak(env, self.asked.device)
        return {
            "machine": machine(),
            "device": self.asked.device,
            "product_peak_tflops": [round(peak / 1e12, 4), round(last / 1e12, 4)],
            "recipe": {k: v for k, v in asdict(self.recipe).items() if k != "examples"},
            "cells": [
                cell.as_json() | {"grid_share_of_peak": self.grid_share(cell, max(peak, last))}
                for cell in self.cells
            ],
            "share_of_peak": share,
            "memory": memory,
        }

    def place(self, model: str, bits: str, examples: int) -> Place:
        """A made base, and rows drawn for it."""
        asked = self.asked
        base = make_base(model, ARCHITECTURES[model], asked.work, asked.data, asked.device)
        return Place(
            base=base,
            bits=bits,
            rows=self.rows(base, model, examples),
            data=asked.data.resolve(),
            work=asked.work,
            device=asked.device,
            threads=asked.threads,
            workers=asked.workers,
        )

    def rows(self, base: Path, model: str, examples: int) -> Rows:
        """The drawn examples, written for the peers."""
        recipe = replace(self.recipe, examples=examples)
        settings = TrainingSettings.model_validate(recipe.training())
        folder = self.asked.work / "rows" / f"{model}-{examples}"
        return draw_rows(self.asked.data, base, settings, folder, seed=recipe.seed)

    def pairs(self, model: str, bits: str) -> Cell:
        """Settings tried, then the pairs."""
        examples = self.asked.examples or EXAMPLES.get(model, 512)
        recipe = replace(self.recipe, examples=examples)
        cell = Cell(model, recipe, self.place(model, bits, examples))
        rows = cell.place.rows
        say(
            f"{cell.title}: {rows.n_examples} examples, {sum(rows.lengths)} tokens, "
            f"{rows.label_tokens} of them labels, {rows.truncated} cut, {rows.languages}"
        )
        contestants = self.shortlists.get(model) or self.contestants()
        for peer in contestants:
            if len(peer.settings) == 1:
                cell.chosen[peer.name] = peer.settings[0]
                cell.tried[peer.name] = []
            else:
                choose_settings(cell, peer, say, try_float32=not self.asked.quick)
        self.shortlists.setdefault(model, shortlisted(cell, contestants))
        run_pairs(cell, contestants, self.asked.pairs, say)
        return cell

    def contestants(self) -> tuple[Peer, Peer]:
        """The peers with what is to be tried of them."""
        is_cuda = self.asked.device == "cuda"
        trl: Sequence[PeerSetting] = CUDA_TRL if is_cuda else TRL
        plain: Sequence[PeerSetting] = CUDA_PLAIN if is_cuda else PLAIN
        if self.asked.quick:
            trl, plain = QUICK_TRL, QUICK_PLAIN
        return peers(named(trl, self.asked.trl), named(plain, self.asked.plain))

    def share(self, model: str, bits: str, before: float, *, rank: int) -> dict[str, Any]:
        """One adapter alone against the product peak."""
        place = self.place(model, bits, self.asked.share_examples)
        recipe = replace(self.recipe, examples=self.asked.share_examples)
        found = share_of_peak(recipe, place, ARCHITECTURES[model], before, rank=rank)
        say(f"{model} {bits}: {found['share']:.1%} of the product peak, {found['tflops']} TFLOP/s")
        return found

    def memory(self, model: str, bits: str) -> dict[str, Any]:
        """Our grid against one TRL run, on steps long enough to fill a forward pass."""
        recipe = replace(self.recipe, batch_size=3 * self.recipe.batch_size)
        recipe = replace(recipe, examples=recipe.batch_size)
        found = memory_at_equal_tokens(recipe, self.place(model, bits, recipe.examples))
        say(f"{model} {bits}: memory {json.dumps(found)}")
        return found

    def grid_share(self, cell: Cell, peak: float) -> float:
        """Median over the pairs: operations of a grid over what the peak allows in its time."""
        architecture = ARCHITECTURES[cell.model]
        shares = [grid_share(o, cell.place.rows, architecture, peak) for o in cell.ours]
        return sorted(shares)[len(shares) // 2]


def chosen_bits(models: Sequence[str], asked: str | None) -> dict[str, list[str]]:
    """The bits of each model: what was asked for, else all of the first and bf16 of the others."""
    if asked:
        return {name: asked.split(",") for name in models}
    return {name: ["bf16"] if n else ["bf16", "nf4", "int8"] for n, name in enumerate(models)}


def named(settings: Sequence[PeerSetting], name: str | None) -> tuple[PeerSetting, ...]:
    """All settings, or the one of that name.

    Raises:
        SystemExit: there is none.
    """
    found = tuple(s for s in settings if name in (None, s.name))
    if not found:
        raise SystemExit(f"no setting {name!r}. Known: {[s.name for s in settings]}")
    return found


def shortlisted(cell: Cell, contestants: tuple[Peer, Peer]) -> tuple[Peer, Peer]:
    """The peers with their fastest settings only."""
    trl, plain = (
        replace(peer, settings=cell.fastest(peer, SHORTLIST) or (cell.chosen[peer.name],))
        for peer in contestants
    )
    return trl, plain


if __name__ == "__main__":
    sys.exit(main())

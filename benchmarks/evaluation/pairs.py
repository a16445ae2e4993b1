"""One line of the table: a question at some bits; batch sizes tried, then interleaved pairs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evaluation.answers import (
    Answers,
    Comparison,
    compare,
    our_answers,
    read_store,
    their_answers,
)
from benchmarks.evaluation.contestants import Outcome, Place, Question, run_ours, run_theirs
from benchmarks.evaluation.floor import Counter, total_work
from benchmarks.evaluation.items import Item
from benchmarks.training.bases import Architecture
from benchmarks.training.processes import CommandFailedError
from benchmarks.training.statistics import summary

Say = Callable[[str], None]
TRIAL_SECONDS = 240
"""Of the first batch size that is tried."""
TRIAL_RATIO = 1.2
"""Of the fastest one's time so far, after which another batch size is ended."""


@dataclass
class Cell:
    """What was measured of one question at some bits."""

    question: Question
    bits: str
    place: Place
    calls: int
    """``lm_eval`` calls of a round; fewer than adapters where the rest is extrapolated."""
    tried: list[dict[str, Any]] = field(default_factory=list)
    batch_size: str = ""
    trial: tuple[Outcome, Answers] | None = None
    """The chosen batch size's call, which is the first pair's where a pair has one call."""
    ours: list[Outcome] = field(default_factory=list)
    theirs: list[Outcome] = field(default_factory=list)
    their_answers: Answers = field(default_factory=dict)
    """Of every adapter that a call has been made for."""
    comparison: Comparison | None = None
    work: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.question.name} {self.bits}"

    def seconds_theirs(self, outcome: Outcome) -> float:
        """Of a call for each adapter: those run, times adapters over calls."""
        return outcome.seconds * len(self.place.adapters) / outcome.calls

    def ratios(self) -> list[float]:
        """The harness's time over ours, pair by pair."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [self.seconds_theirs(other) / mine.seconds for mine, other in pairs]

    def cpu_ratios(self) -> list[float]:
        """The same in processor seconds; a check on a machine that is shared."""
        scale = len(self.place.adapters)
        pairs = zip(self.ours, self.theirs, strict=True)
        return [o.cpu_seconds * scale / o.calls / m.cpu_seconds for m, o in pairs]

    def tokens(self) -> dict[str, int]:
        """Asked for, really fed by each side, and the fewest; of all adapters.

        The harness's are those of the calls made, times adapters over calls.
        """
        calls = sum(o.calls for o in self.theirs)
        fed = sum(o.passes.tokens for o in self.theirs)
        return {
            "asked": self.work["tokens_one_option_at_a_time"],
            "fed_lm_eval": round(fed * len(self.place.adapters) / calls),
            "fed_ours": self.ours[-1].passes.tokens,
            "fewest": self.work["tokens_fewest"],
        }

    @property
    def differences(self) -> list[str]:
        """How the work was not the same; in float32 alone, for the harness sums in its own type."""
        if self.comparison is None or self.bits != "fp32":
            return []
        return self.comparison.found

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "question": self.question.name,
            "bits": self.bits,
            "samples_per_item": self.question.samples,
            "items": [f"{item.kind} {item.language}" for item in self.question.items],
            "adapters": len(self.place.adapters),
            "lm_eval_calls_per_pair": self.calls,
            "batch_sizes_tried": self.tried,
            "batch_size": self.batch_size,
            "ratio": summary(self.ratios()),
            "cpu_seconds_ratio": summary(self.cpu_ratios())["median"],
            "seconds": {
                "ours": summary([o.seconds for o in self.ours]),
                "lm_eval": summary([self.seconds_theirs(o) for o in self.theirs]),
            },
            "lm_eval_seconds_before_requests": self.theirs[-1].before_requests,
            "tokens": self.tokens(),
            "work": self.work,
            "answers": self.comparison.as_json() if self.comparison else None,
            "outcomes": {
                "ours": [o.as_json() for o in self.ours],
                "lm_eval": [o.as_json() for o in self.theirs],
            },
        }


def try_batch_sizes(cell: Cell, sizes: Sequence[str], say: Say) -> None:
    """One ``lm_eval`` call at each size, and the fastest is kept; failures are kept as such.

    A size that takes longer than ``TRIAL_RATIO`` times the fastest so far is ended.

    Raises:
        SystemExit: none of them ran.
    """
    adapter = spread(cell.place.adapters)[0]
    best: tuple[float, str] | None = None
    for size in sizes:
        limit = TRIAL_SECONDS if best is None else TRIAL_RATIO * best[0]
        entry: dict[str, Any] = {"batch_size": size, "limit_seconds": round(limit)}
        cell.tried.append(entry)
        try:
            outcome = run_theirs(
                cell.question,
                cell.place,
                cell.bits,
                batch_size=size,
                adapters=[adapter],
                trial_seconds=limit,
            )
        except CommandFailedError as error:
            entry["failed"] = str(error).splitlines()[0]
            say(f"  {cell.title}: batch size {size} does not run: {entry['failed']}")
            continue
        entry |= {"seconds": round(outcome.seconds, 2), "cpu_seconds": outcome.cpu_seconds}
        say(f"  {cell.title}: lm-eval at batch size {size}: {outcome.seconds:.1f} s")
        if best is None or outcome.seconds < best[0]:
            best = (outcome.seconds, size)
            # The next call takes its folder, so its answers are read now.
            cell.trial = (outcome, their_answers(outcome.folder))
    if best is None:
        raise SystemExit(f"{cell.title}: lm-eval runs at no batch size: {cell.tried}")
    cell.batch_size = best[1]


def run_pairs(
    cell: Cell,
    n_pairs: int,
    numbers: Mapping[Item, Mapping[str, str]],
    *,
    counter: Counter,
    architecture: Architecture,
    say: Say,
) -> None:
    """Interleaved rounds; who begins changes each round.

    Where a pair has one call, the trial of the chosen batch size is the first pair's: the fastest
    of several, which favours the harness.

    Args:
        cell: with a batch size chosen.
        n_pairs: rounds.
        numbers: row number -> sample's name, of items the harness words for both.
        counter: of tokens.
        architecture: of the base.
        say: told each pair.
    """
    turns = itertools.cycle(spread(cell.place.adapters))
    for number in range(n_pairs):
        began = time.monotonic()
        adapters = [next(turns) for _ in range(cell.calls)]
        known = cell.trial if number == 0 and cell.calls == 1 else None
        for is_ours in (False, True) if number % 2 == 0 else (True, False):
            if is_ours:
                cell.ours.append(run_ours(cell.question, cell.place, cell.bits))
            else:
                outcome, answers = known or _theirs(cell, adapters)
                cell.theirs.append(outcome)
                cell.their_answers |= answers
        say(
            f"  {cell.title} pair {number + 1}/{n_pairs}: ours {cell.ours[-1].seconds:.1f} s, "
            f"lm-eval {cell.seconds_theirs(cell.theirs[-1]):.1f} s, {cell.ratios()[-1]:.2f}x "
            f"({time.monotonic() - began:.0f} s)"
        )
    _examine(cell, numbers, counter, architecture)


def spread(adapters: Sequence[Path]) -> list[Path]:
    """The middle one, the first and the last, then the others: of few calls the mean is fair."""
    first = [adapters[len(adapters) // 2], adapters[0], adapters[-1]]
    return list(dict.fromkeys([*first, *adapters]))


def _theirs(cell: Cell, adapters: Sequence[Path]) -> tuple[Outcome, Answers]:
    outcome = run_theirs(
        cell.question, cell.place, cell.bits, batch_size=cell.batch_size, adapters=adapters
    )
    return outcome, their_answers(outcome.folder)


def _examine(
    cell: Cell,
    numbers: Mapping[Item, Mapping[str, str]],
    counter: Counter,
    architecture: Architecture,
) -> None:
    """Compares answers, ours of the last pair, and counts what had to be fed."""
    stored = read_store(cell.ours[-1].folder)
    asked = {rank for rank, _ in cell.their_answers}
    ours = our_answers(stored, numbers)
    ours = {k: v for k, v in ours.items() if k[0] in asked}
    cell.comparison = compare(ours, cell.their_answers)
    cell.work = total_work(stored, counter, architecture)

"""One cell of the table: a base at some bits; settings tried, then interleaved pairs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.training.contestants import (
    Outcome,
    PeerSetting,
    Place,
    Recipe,
    run_ours,
    run_plain,
    run_trl,
)
from benchmarks.training.processes import CommandFailedError
from benchmarks.training.settings import in_float32
from benchmarks.training.statistics import differences, summary

TRIAL_RANK = 16
Say = Callable[[str], None]
Runner = Callable[[Recipe, Place, PeerSetting], Outcome]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer: how it is run, and the layouts to try."""

    name: str
    run: Runner
    settings: tuple[PeerSetting, ...]


@dataclass
class Cell:
    """What was measured for one base at some bits."""

    model: str
    recipe: Recipe
    place: Place
    tried: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    chosen: dict[str, PeerSetting] = field(default_factory=dict)
    ours: list[Outcome] = field(default_factory=list)
    peers: dict[str, list[Outcome]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.model} {self.place.bits}"

    def ratios(self, peer: str) -> list[float]:
        """Ours over the peer's rate, pair by pair."""
        n = self.place.rows.n_examples
        pairs = zip(self.ours, self.peers[peer], strict=True)
        return [mine.rate(n) / other.rate(n) for mine, other in pairs]

    def fastest(self, peer: Peer, count: int) -> tuple[PeerSetting, ...]:
        """The settings of a peer that ran fastest when they were tried, the fastest first."""
        key = "examples_per_second_training"
        rates = {e["setting"]: e[key] for e in self.tried[peer.name] if key in e}
        known = [s for s in peer.settings if s.name in rates]
        return tuple(sorted(known, key=lambda s: -rates[s.name])[:count])

    def differences(self) -> list[str]:
        """How the work was not the same, over all pairs."""
        found = []
        for peer, outcomes in self.peers.items():
            for mine, other in zip(self.ours, outcomes, strict=True):
                said = differences(mine, other, self.chosen[peer], self.place.rows)
                found += [f"{peer}: {text}" for text in said]
        return sorted(set(found))

    def as_json(self) -> dict[str, Any]:
        """Everything but the curves."""
        n = self.place.rows.n_examples
        return {
            "model": self.model,
            "bits": self.place.bits,
            "ranks": list(self.recipe.ranks),
            "examples": n,
            "label_tokens": self.place.rows.label_tokens,
            "tokens": sum(self.place.rows.lengths),
            "truncated_examples": self.place.rows.truncated,
            "languages": self.place.rows.languages,
            "settings_tried": self.tried,
            "settings_chosen": {name: s.name for name, s in self.chosen.items()},
            **{f"ratio_to_{name}": summary(self.ratios(name)) for name in self.peers},
            **{f"cpu_seconds_{name}_over_ours": self.cpu_ratio(name) for name in self.peers},
            "peak_tree_bytes_ratio_to_trl": self.memory_ratio("trl"),
            "differences": self.differences(),
            "tokens_per_example": round(sum(self.place.rows.lengths) / n, 1),
            "examples_per_second": {
                "ours": summary([o.rate(n) for o in self.ours]),
                **{k: summary([o.rate(n) for o in found]) for k, found in self.peers.items()},
            },
            "outcomes": {
                "ours": [o.as_json() for o in self.ours],
                **{name: [o.as_json() for o in found] for name, found in self.peers.items()},
            },
        }

    def cpu_ratio(self, peer: str) -> float:
        """Median of the peer's processor seconds over ours; a check on a machine that is shared."""
        pairs = zip(self.ours, self.peers[peer], strict=True)
        return float(summary([o.cpu_seconds / m.cpu_seconds for m, o in pairs])["median"])

    def memory_ratio(self, peer: str) -> float | None:
        """Largest tree of ours over the peer's largest, of the pairs."""
        if peer not in self.peers:
            return None
        mine = max(o.tree_bytes for o in self.ours)
        return round(mine / max(o.tree_bytes for o in self.peers[peer]), 3)


def peers(trl: Sequence[PeerSetting], plain: Sequence[PeerSetting]) -> tuple[Peer, Peer]:
    """Both peers with the layouts to try."""
    return (
        Peer(name="trl", run=run_trl, settings=tuple(trl)),
        Peer(name="plain", run=run_plain, settings=tuple(plain)),
    )


def choose_settings(cell: Cell, peer: Peer, say: Say, *, try_float32: bool) -> None:
    """Runs each layout once at one rank and keeps the fastest; failures are kept as such.

    Raises:
        SystemExit: none of them ran.
    """
    cell.tried[peer.name] = []
    best: tuple[float, PeerSetting] | None = None
    for setting in peer.settings:
        best = _try(cell, peer, setting, best, say)
    if best and try_float32:
        best = _try(cell, peer, in_float32(best[1]), best, say)
    if best is None:
        raise SystemExit(f"{cell.title}: no setting of {peer.name} runs: {cell.tried[peer.name]}")
    cell.chosen[peer.name] = best[1]


def _try(
    cell: Cell,
    peer: Peer,
    setting: PeerSetting,
    best: tuple[float, PeerSetting] | None,
    say: Say,
) -> tuple[float, PeerSetting] | None:
    rank = TRIAL_RANK if TRIAL_RANK in cell.recipe.ranks else cell.recipe.ranks[0]
    entry: dict[str, Any] = {
        "setting": setting.name,
        "accumulation": setting.accumulation(cell.recipe, cell.place.rows),
    }
    cell.tried[peer.name].append(entry)
    try:
        outcome = peer.run(replace(cell.recipe, ranks=(rank,)), cell.place, setting)
    except CommandFailedError as error:
        # A result that is kept names no folder of this machine.
        said = str(error).splitlines()[-1].replace(str(cell.place.work), "WORK")
        entry["failed"] = said.replace(sys.prefix, "VENV")
        say(f"  {peer.name}, {setting.name}: does not run: {entry['failed']}")
        return best
    # Start-up is the same for all of them, and the noisiest part of a short run.
    rate = cell.place.rows.n_examples / outcome.trained[rank].training_seconds
    entry |= {
        "examples_per_second_training": round(rate, 3),
        "seconds": round(outcome.saved_seconds, 2),
        "label_tokens": outcome.trained[rank].label_tokens,
        "tree_bytes": outcome.tree_bytes,
    }
    say(f"  {peer.name}, {setting.name}: {rate:.2f} examples/s, {outcome.saved_seconds:.1f} s")
    return (rate, setting) if best is None or rate > best[0] else best


def run_pairs(cell: Cell, contestants: Sequence[Peer], n_pairs: int, say: Say) -> None:
    """Interleaved rounds; who begins moves on by one each round."""
    n = cell.place.rows.n_examples
    cell.peers = {peer.name: [] for peer in contestants}
    for number in range(n_pairs):
        order: list[Peer | None] = [None, *contestants]
        order = order[number % len(order) :] + order[: number % len(order)]
        began = time.monotonic()
        for peer in order:
            if peer is None:
                cell.ours.append(run_ours(cell.recipe, cell.place))
            else:
                outcome = peer.run(cell.recipe, cell.place, cell.chosen[peer.name])
                cell.peers[peer.name].append(outcome)
        shown = [f"{p.name} {cell.peers[p.name][-1].rate(n):.2f}" for p in contestants]
        shown += [f"{cell.ratios(p.name)[-1]:.2f}x {p.name}" for p in contestants]
        say(
            f"  pair {number + 1}/{n_pairs}: ours {cell.ours[-1].rate(n):.2f} examples/s, "
            f"{', '.join(shown)} ({time.monotonic() - began:.0f} s)"
        )

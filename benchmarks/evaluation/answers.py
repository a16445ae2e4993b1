"""What each side answered, sample by sample, and whether it is the same."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.evaluation.contestants import item_of
from benchmarks.evaluation.items import HARNESS_PREFIX, Item

NATS = 1e-3
"""Allowed between two log-likelihoods in float32: sums over batches of other shapes."""
F1 = 1e-9


@dataclass(frozen=True)
class Answer:
    """One sample of one adapter."""

    prompt: tuple[str, ...]
    """Context and each continuation, joined; or the context of a generated answer."""
    values: tuple[float, ...] = ()
    text: str = ""
    score: float = 0.0
    """Accuracy or F1 of the sample."""

    @property
    def choice(self) -> int | None:
        return self.values.index(max(self.values)) if self.values else None


Key = tuple[int, Item]
Answers = dict[Key, dict[str, Answer]]
"""(rank, item) -> sample -> answer."""


@dataclass(frozen=True)
class Stored:
    """One finished evaluation of a store."""

    rank: int
    item: Item
    spec: Mapping[str, Any]
    seconds: float
    ended: float
    """When its last row was written, in seconds since the epoch."""
    rows: list[dict[str, Any]]
    prompts: dict[str, dict[str, Any]]


def read_store(out: Path) -> list[Stored]:
    """Every evaluation of a store, by ``docs/results_format.md``.

    Raises:
        SystemExit: one is not finished.
    """
    ranks = {}
    for path in out.glob("runs/*/spec.json"):
        method = json.loads(path.read_text(encoding="utf-8"))["method"]
        ranks[path.parent.name] = int(method["parameters"].get("rank") or 0)
    found = []
    for path in sorted(out.glob("evals/*/spec.json")):
        spec = json.loads(path.read_text(encoding="utf-8"))
        done = path.with_name("done")
        if not done.is_file():
            raise SystemExit(f"{path.parent}: not finished")
        choices = spec["prompt"].get("choices", "letter")
        found.append(
            Stored(
                rank=ranks[spec["run_id"]],
                item=item_of(spec["task"], spec["language"], choices),
                spec=spec,
                seconds=float(json.loads(done.read_text(encoding="utf-8"))["seconds"]),
                ended=done.stat().st_mtime,
                rows=first_rows(path.parent.glob("part-*.parquet")),
                prompts=_prompts(out / "prompts" / f"{spec['prompts']}.parquet"),
            )
        )
    return found


def first_rows(parts: Iterable[Path]) -> list[dict[str, Any]]:
    """Sample rows of an evaluation; of a sample found twice the first by file name."""
    import pyarrow.parquet as pq

    found: dict[str, dict[str, Any]] = {}
    for part in sorted(parts):
        for row in pq.read_table(part).to_pylist():
            found.setdefault(row["sample_id"], row)
    return list(found.values())


@cache
def _prompts(path: Path) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet as pq

    return {row["sample_id"]: row for row in pq.read_table(path).to_pylist()}


def our_answers(stored: Iterable[Stored], numbers: Mapping[Item, Mapping[str, str]]) -> Answers:
    """Maple's answers by the samples' names.

    Args:
        stored: evaluations.
        numbers: for items that the harness's YAML words: row number -> sample's name.
    """
    found: Answers = {}
    for evaluation in stored:
        names = numbers.get(evaluation.item, {})
        is_numbered = evaluation.spec["task"].startswith("lm-eval:")
        answers = found[evaluation.rank, evaluation.item] = {}
        for row in evaluation.rows:
            shown = evaluation.prompts[row["sample_id"]]
            name = names[row["sample_id"]] if is_numbered else row["sample_id"]
            answers[name] = Answer(
                prompt=tuple(shown["context"] + c for c in shown["continuations"] or ("",)),
                values=tuple(row["loglikelihoods"]),
                text=row["text"] or "",
                score=row["score"],
            )
    return found


_SAMPLES = re.compile(rf"samples_{HARNESS_PREFIX}([a-z]+)_([a-z]{{3}}_[A-Za-z]{{4}})_.*\.jsonl")
_RANK = re.compile(r"rank-(\d+)-")


def their_answers(folder: Path) -> Answers:
    """The harness's answers, from the samples it logged for each adapter."""
    found: Answers = {}
    for path in sorted(folder.rglob("samples_*.jsonl")):
        named, rank = _SAMPLES.fullmatch(path.name), _RANK.search(str(path.relative_to(folder)))
        if not named or not rank:
            raise SystemExit(f"{path}: not a file of samples of this benchmark")
        answers = found[int(rank[1]), Item(named[1], named[2])] = {}
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            row = json.loads(line)
            answers[row["doc"]["sample_id"]] = _their_answer(row)
    return found


def _their_answer(row: Mapping[str, Any]) -> Answer:
    arguments = [row["arguments"][key] for key in sorted(row["arguments"])]
    if "acc" not in row:
        return Answer(
            prompt=(arguments[0]["arg_0"],), text=row["resps"][0][0], score=float(row["f1"])
        )
    return Answer(
        prompt=tuple(a["arg_0"] + a["arg_1"] for a in arguments),
        values=tuple(float(response[0][0]) for response in row["resps"]),
        score=float(row["acc"]),
    )


@dataclass
class Comparison:
    """How two sides' answers compare."""

    samples: int = 0
    worded_otherwise: int = 0
    decisions_differ: int = 0
    scores_differ: int = 0
    texts_differ: int = 0
    largest_nats: float = 0.0
    largest_relative: float = 0.0
    found: list[str] = field(default_factory=list)
    """What makes the work unequal; empty where it was the same."""

    def as_json(self) -> dict[str, Any]:
        return {
            **{k: v for k, v in vars(self).items() if k != "found"},
            "largest_nats": float(f"{self.largest_nats:.3g}"),
            "largest_relative": float(f"{self.largest_relative:.3g}"),
            "differences": self.found,
        }


def compare(ours: Answers, theirs: Answers) -> Comparison:
    """Whether both sides answered the same samples of the same adapters in the same way."""
    result = Comparison()
    for key in sorted({*ours} | {*theirs}):
        rank, item = key
        mine, other = ours.get(key, {}), theirs.get(key, {})
        if {*mine} != {*other}:
            result.found.append(f"rank {rank} {item.name}: {len(mine)} and {len(other)} samples")
            continue
        unequal: dict[str, list[str]] = defaultdict(list)
        for name, answer in mine.items():
            result.samples += 1
            for what in _differences(answer, other[name], result):
                unequal[what].append(name)
        for what, names in unequal.items():
            result.found.append(
                f"rank {rank} {item.name}: {what} in {len(names)} of {len(mine)}: {names[:3]}"
            )
    return result


def _differences(mine: Answer, other: Answer, result: Comparison) -> list[str]:
    if mine.prompt != other.prompt:
        result.worded_otherwise += 1
        return ["other words"]
    found = []
    apart = [abs(a - b) for a, b in zip(mine.values, other.values, strict=True)]
    for nats, value in zip(apart, mine.values, strict=True):
        result.largest_nats = max(result.largest_nats, nats)
        result.largest_relative = max(result.largest_relative, nats / max(abs(value), 1e-9))
    if mine.choice != other.choice:
        result.decisions_differ += 1
        found.append("another option")
    elif apart and max(apart) > NATS:
        found.append(f"log-likelihoods more than {NATS} apart")
    is_other_text = mine.text.strip() != other.text.strip()
    result.texts_differ += is_other_text
    if abs(mine.score - other.score) > F1:
        result.scores_differ += 1
        found.append("another score")
    elif is_other_text:
        found.append("another text")
    return found

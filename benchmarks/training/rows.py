"""The rows of the benchmark: drawn and rendered once, so that all three see the same examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from maple.catalog import load_family
from maple.data import StepSchedule, load_pools
from maple.data.mixture import draw_epoch
from maple.data.pack import pack_rows
from maple.data.render import render_conversation
from maple.files import Files
from maple.plan import Resolver
from maple.study import TrainingSettings
from maple.study.file import PartSettings

MIXTURE = {
    "alpaca": {"languages": ["en", "zh"]},
    "multialpaca": {"languages": ["es", "ja", "pt"]},
}
"""Real Alpaca rows in five languages, as the study's mixture."""


@dataclass(frozen=True)
class Step:
    """What one optimiser step of ours holds, for counting its work."""

    tokens: int
    label_tokens: int
    pairs: int
    """Pairs of a token and one it attends to (itself counted), over the step's examples."""


@dataclass(frozen=True)
class Rows:
    """The drawn examples, and files of them."""

    text_file: Path
    """JSON Lines of prompt and completion."""
    token_file: Path
    """The same as token ids, cut to the maximum, for a trainer that does not cut."""
    lengths: tuple[int, ...]
    steps: tuple[Step, ...]
    languages: dict[str, int]
    truncated: int

    @property
    def n_examples(self) -> int:
        return len(self.lengths)

    @property
    def label_tokens(self) -> int:
        return sum(step.label_tokens for step in self.steps)

    def packed_rows(self, max_length: int) -> int:
        """Rows of that length that the examples fill when packed whole."""
        return len(pack_rows(list(self.lengths), max_length))


def draw_rows(
    data: Path, base: Path, settings: TrainingSettings, folder: Path, *, seed: int
) -> Rows:
    """Draws the run's examples as ``maple run`` does, and writes them for the peers.

    Examples whose prompt leaves no room for a response carry no loss; ours drops them, and the
    peers are spared them.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    family = load_family("llama")
    parts = {name: PartSettings.model_validate(part) for name, part in MIXTURE.items()}
    files = Files(directory=data)
    pools = load_pools(Resolver(files).mixture("alpaca-5", parts), files)
    schedule = StepSchedule(pools, settings, seed=seed, tokenizer=tokenizer, family=family)
    drawn = draw_epoch(pools, examples=settings.examples, seed=seed)
    kept = [(p, r) for p, r in drawn if schedule.example(p, r).n_labels > 0]
    folder.mkdir(parents=True, exist_ok=True)
    text_file, token_file = folder / "text.jsonl", folder / "tokens.jsonl"
    with text_file.open("w", encoding="utf-8") as text, token_file.open("w") as tokens:
        for p, r in kept:
            conversation, example = pools[p].conversations[r], schedule.example(p, r)
            prompt, response = render_conversation(
                conversation, settings.template, tokenizer, family
            )
            row = {"prompt": prompt, "completion": response}
            text.write(json.dumps(row, ensure_ascii=False) + "\n")
            mask = [int(i >= example.label_start) for i in range(len(example.ids))]
            tokens.write(json.dumps({"input_ids": example.ids, "completion_mask": mask}) + "\n")
    examples = [schedule.example(p, r) for p, r in kept]
    return Rows(
        text_file=text_file,
        token_file=token_file,
        lengths=tuple(len(e.ids) for e in examples),
        steps=tuple(_step(schedule, n) for n in range(1, schedule.total_steps + 1)),
        languages={n: [e.language for e in examples].count(n) for n in {p.language for p in pools}},
        truncated=schedule.truncated_examples,
    )


def _step(schedule: StepSchedule, number: int) -> Step:
    examples = schedule.examples(number)
    return Step(
        tokens=sum(len(e.ids) for e in examples),
        label_tokens=sum(e.n_labels for e in examples),
        pairs=sum(len(e.ids) * (len(e.ids) + 1) // 2 for e in examples),
    )

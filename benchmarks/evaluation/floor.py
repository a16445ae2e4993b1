"""The fewest tokens that must be fed, and their operations in closed form.

    per token and linear layer   2 in out             y = W x
    its adapter of rank r        2 r (in + out)
    per attended pair            4 heads head_dim     scores, and what they weigh
    per read row of the head     2 hidden vocabulary

Of the options of a sample each distinct prefix is fed once, and the last token of an option never:
it is only predicted. Of a generated answer the prompt is fed, and each new token but the last.
What two samples share is counted for both, unless they are given as one. Not counted: padding,
logits nobody reads, the masked half of attention; and what Maple does beyond the harness, the
options with nothing before them (for ``accuracy_pmi``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.evaluation.answers import Stored
from benchmarks.training.bases import Architecture


@dataclass(frozen=True)
class Fed:
    """Token ids as they are fed, and from which position on logits are read."""

    ids: tuple[int, ...]
    first_read: int


@dataclass(frozen=True)
class Work:
    """What has to be computed."""

    tokens: int = 0
    pairs: int = 0
    """Of a token and itself or an earlier one."""
    rows: int = 0
    """Positions whose logits are read."""
    naive_tokens: int = 0
    """Fed where every option is a sequence of its own."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.tokens + other.tokens,
            self.pairs + other.pairs,
            self.rows + other.rows,
            self.naive_tokens + other.naive_tokens,
        )


def shared_work(sequences: Iterable[Fed]) -> Work:
    """The work of sequences whose common beginnings are computed once."""
    tokens = pairs = rows = naive = 0
    before: Fed | None = None
    for sequence in sorted(sequences, key=lambda s: (s.ids, s.first_read)):
        length = len(sequence.ids)
        shared = common_prefix(before.ids, sequence.ids) if before else 0
        tokens += length - shared
        pairs += _triangle(length) - _triangle(shared)
        rows += length - max(sequence.first_read, shared)
        if before:
            # Of the shared part, what the one before did not read.
            rows += max(0, min(before.first_read, shared) - sequence.first_read)
        naive += length
        before = sequence
    return Work(tokens, pairs, rows, naive)


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning."""
    length = min(len(left), len(right))
    return next((i for i in range(length) if left[i] != right[i]), length)


def _triangle(length: int) -> int:
    return length * (length + 1) // 2


def flops_parts(architecture: Architecture, work: Work, rank: int) -> dict[str, int]:
    """Operations of a forward pass with an adapter of that rank on every linear layer, by part."""
    widths = architecture.linear_widths().values()
    layers = architecture.layers
    attention = 4 * architecture.heads * architecture.head_dim
    return {
        "linear": layers * work.tokens * sum(2 * i * o for i, o in widths),
        "adapter": layers * work.tokens * sum(2 * rank * (i + o) for i, o in widths),
        "attention": layers * work.pairs * attention,
        "head": work.rows * 2 * architecture.hidden * architecture.vocabulary,
    }


def forward_flops(architecture: Architecture, work: Work, rank: int) -> int:
    """All of them."""
    return sum(flops_parts(architecture, work, rank).values())


class Counter:
    """Counts the fewest tokens of stored evaluations, with the base's tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, str, bool], Work] = {}

    def work(self, evaluation: Stored, *, across_samples: bool = False) -> Work:
        """The work of one evaluation.

        Args:
            evaluation: with its prompts and rows.
            across_samples: also what two samples share is fed once.
        """
        if not evaluation.item.is_generated:
            key = (evaluation.spec["prompts"], evaluation.item.name, across_samples)
            if key not in self._known:
                self._known[key] = self._ranking(evaluation, across_samples)
            return self._known[key]
        total = Work()
        for row in evaluation.rows:
            prompt = self._ids(evaluation.prompts[row["sample_id"]]["context"])
            new = sum(row["n_tokens"])
            ids = (*prompt, *[-1] * max(0, new - 1))
            total += shared_work([Fed(ids, len(prompt) - 1)])
        return total

    def _ranking(self, evaluation: Stored, across_samples: bool) -> Work:
        samples = [
            [
                self._option(evaluation.prompts[row["sample_id"]]["context"] + text, n)
                for text, n in zip(
                    evaluation.prompts[row["sample_id"]]["continuations"],
                    row["n_tokens"],
                    strict=True,
                )
            ]
            for row in evaluation.rows
        ]
        if across_samples:
            return shared_work([option for sample in samples for option in sample])
        return sum((shared_work(sample) for sample in samples), Work())

    def _option(self, text: str, n_scored: int) -> Fed:
        ids = self._ids(text)
        if len(ids) == n_scored:  # nothing before it: a begin token is fed
            ids = (-1, *ids)
        return Fed(ids[:-1], len(ids) - 1 - n_scored)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text)["input_ids"])


def total_work(
    stored: Iterable[Stored], counter: Counter, architecture: Architecture
) -> dict[str, Any]:
    """Tokens of all evaluations, asked for and fewest, and the operations of the fewest."""
    work, flops = Work(), 0
    for evaluation in stored:
        one = counter.work(evaluation)
        work += one
        flops += forward_flops(architecture, one, evaluation.rank)
    return {
        "tokens_one_option_at_a_time": work.naive_tokens,
        "tokens_fewest": work.tokens,
        "logit_rows": work.rows,
        "gigaflops_fewest": round(flops / 1e9, 1),
    }

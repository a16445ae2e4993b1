"""How much each part of ``bench-evaluate`` scores by default, and how long it then takes.

Two wishes pull apart: the whole command shall take some half an hour, and starting shall not be
most of what is timed. A call of the harness needs some 13 s before its first request on the machine
that the seconds below were measured on, and scores for at least as long after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SAMPLES: Mapping[str, int] = {
    "mix": 3, "sentences": 8, "letters": 16, "xnli": 16, "xcopa": 40, "generation": 1,
}  # fmt: skip
"""Of a task and language."""
QUESTIONS = 1
"""Of a language of XQuAD and MLQA: some answers of random weights have all 256 tokens."""
BATCH_SIZES: Mapping[str, tuple[str, ...]] = {
    "mix": ("8", "16", "32"),
    "sentences": ("8", "16"),
    "letters": ("8", "16"),
    "xnli": ("16", "32"),
    "xcopa": ("32", "64"),
    "generation": ("4", "8"),
}
"""Of lm-eval, tried before the pairs: smaller where rows are long, larger where they are short."""
SHORTLIST = 2
"""Batch sizes of a question that are tried again at the next precision: the fastest."""
COST_SAMPLES, SHARE_SAMPLES, INVARIANCE_SAMPLES = 6, 24, 3
"""Of a task and language; ``cost.py`` says what of each curve."""


@dataclass(frozen=True)
class Seconds:
    """Of one process, start and all, on two quiet cores in float32."""

    ours: float
    """``maple eval`` with five adapters."""
    call: float
    """``lm_eval`` with one, at the fastest batch size."""


SECONDS: Mapping[str, Seconds] = {
    "mix": Seconds(83, 70),
    "sentences": Seconds(21, 40),
    "letters": Seconds(25, 35),
    "xnli": Seconds(33, 33),
    "xcopa": Seconds(34, 30),
    "generation": Seconds(55, 55),
}
_OTHER_PARTS: Mapping[str, float] = {"cost": 170, "share": 95, "invariance": 220}
_BEGINNING, _BF16 = 40.0, 0.75
"""Seconds before the first pair, without making the bases; and of float32's time, bfloat16's."""


def expected_seconds(lines: Sequence[Line], parts: Sequence[str]) -> float:
    """How long the command takes, roughly.

    Args:
        lines: of the table.
        parts: those asked for.
    """
    others = sum(seconds for part, seconds in _OTHER_PARTS.items() if part in parts)
    return _BEGINNING + others + sum(line.seconds for line in lines)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table, before it is measured."""

    question: str
    bits: str
    calls: int
    """Of lm-eval in a pair."""
    pairs: int
    sizes: int
    """Batch sizes tried."""

    @property
    def seconds(self) -> float:
        """How long it takes, roughly."""
        one = SECONDS[self.question]
        tried = self.sizes if self.sizes > 1 else 0
        # The fastest trial is the first pair's call, where a pair has one call.
        calls = tried + self.pairs * self.calls - (tried > 0 and self.calls == 1)
        factor = 1.0 if self.bits == "fp32" else _BF16
        return factor * (self.pairs * one.ours + calls * one.call)

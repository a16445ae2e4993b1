"""Benchmark samples in the formats of XNLI, XCOPA and XQuAD, parallel across languages.

Each task is drawn once as outlines and then said in every language, so row i asks the same thing
everywhere.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from maple.atlas.scenes import (
    LABELS,
    Comparison,
    Direction,
    Journey,
    Label,
    Reading,
    Source,
    draw_calendar,
    draw_comparison,
    draw_journey,
    draw_reading,
)
from maple.atlas.speaker import Speaker
from maple.atlas.world import Split, load_world

_T = TypeVar("_T")

SIZES: dict[Split, int] = {"train": 200, "validation": 100, "test": 300}
"""Samples a task, a split and a language; XQuAD has a test split only, the train split is English
COPA's.
"""

QUESTIONS_PER_PARAGRAPH = 3
CALENDAR_ONE_IN = 8
"""One cause-or-effect sample in so many is about the order of days or months."""


@dataclass(frozen=True)
class NliSample:
    """A comparison with one of its hypotheses chosen."""

    comparison: Comparison
    label: Label

    def premise(self, speaker: Speaker) -> str:
        """Returns the premise."""
        return speaker.join([stated.say(speaker) for stated in self.comparison.premise])

    def hypothesis(self, speaker: Speaker) -> str:
        """Returns the hypothesis."""
        return self.comparison.hypotheses[self.label].say(speaker)


@dataclass(frozen=True)
class CopaSample:
    """A journey whose right choice stands first (label 0) or second (label 1)."""

    journey: Journey
    label: int

    def row(self, speaker: Speaker) -> dict[str, Any]:
        """Returns the premise, both choices, the question and the label."""
        choices = (self.journey.right, self.journey.wrong)
        return {
            "premise": self.journey.premise(speaker),
            "choice1": choices[self.label](speaker),
            "choice2": choices[1 - self.label](speaker),
            "question": self.journey.direction,
            "label": self.label,
        }


def nli_samples(split: Split) -> list[NliSample]:
    """Returns the entailment samples of a split, a third of each label; half of the premises hold
    two sentences.
    """
    rng = random.Random(f"atlas/xnli/{split}")
    source = benchmark_source(split)
    labels = _balanced(rng, LABELS, SIZES[split])
    samples: list[NliSample] = []
    seen = set()
    while len(samples) < len(labels):
        sample = NliSample(
            draw_comparison(rng, source, two=rng.random() < 0.5), labels[len(samples)]
        )
        key = (sample.comparison.premise, sample.comparison.hypotheses[sample.label])
        if key not in seen:
            seen.add(key)
            samples.append(sample)
    return samples


def copa_samples(split: Split) -> list[CopaSample]:
    """Returns the cause-or-effect samples of a split, balanced over direction and label."""
    rng = random.Random(f"atlas/xcopa/{split}")
    source = benchmark_source(split)
    kinds: tuple[tuple[Direction, int], ...] = (
        ("cause", 0),
        ("cause", 1),
        ("effect", 0),
        ("effect", 1),
    )
    wanted = _balanced(rng, kinds, SIZES[split])
    samples: list[CopaSample] = []
    seen = set()
    while len(samples) < len(wanted):
        direction, label = wanted[len(samples)]
        journey = _journey(rng, source, direction, calendar=len(samples) % CALENDAR_ONE_IN == 0)
        if journey.key not in seen:
            seen.add(journey.key)
            samples.append(CopaSample(journey, label))
    return samples


def _journey(
    rng: random.Random, source: Source, direction: Direction, *, calendar: bool
) -> Journey:
    if calendar:
        return draw_calendar(rng, source.splits, direction)
    return draw_journey(rng, source, direction, two=rng.random() < 0.7)


def quad_readings(split: Split) -> list[Reading]:
    """Returns the paragraphs of a split with their questions."""
    rng = random.Random(f"atlas/xquad/{split}")
    source = benchmark_source(split)
    count = SIZES[split] // QUESTIONS_PER_PARAGRAPH
    return [
        draw_reading(rng, source, sentences=rng.randrange(4, 7), questions=QUESTIONS_PER_PARAGRAPH)
        for _ in range(count)
    ]


def squad_document(readings: list[Reading], speaker: Speaker) -> dict[str, Any]:
    """Returns paragraphs as a SQuAD v1.1 document; `answer_start` counts code points."""
    paragraphs = [
        {
            "context": speaker.join([s.say(speaker) for s in r.passage]),
            "qas": list(_questions(r, n, speaker)),
        }
        for n, r in enumerate(readings)
    ]
    return {"data": [{"paragraphs": paragraphs, "title": "Atlas"}], "version": "1.1"}


def answer(reading: Reading, question: int, speaker: Speaker) -> str:
    """Returns the answer to a question as the passage writes it."""
    asked = reading.questions[question]
    stated = reading.passage[asked.sentence]
    return speaker.locate(stated.pairing, stated.frame, asked.part).name


def _questions(reading: Reading, paragraph: int, speaker: Speaker) -> Iterator[dict[str, Any]]:
    sentences = [stated.say(speaker) for stated in reading.passage]
    for place, asked in enumerate(reading.questions):
        stated = reading.passage[asked.sentence]
        span = speaker.locate(stated.pairing, stated.frame, asked.part)
        before = sum(len(text) + len(speaker.frames.space) for text in sentences[: asked.sentence])
        yield {
            "answers": [{"answer_start": before + span.start, "text": span.name}],
            "id": hashlib.sha256(f"atlas/{paragraph}/{place}".encode()).hexdigest()[:24],
            "question": speaker.question(stated.pairing, asked.frame, asked.part),
        }


def benchmark_source(split: Split) -> Source:
    """Returns the pairings of a benchmark split: its own subjects; held-out pairings unless it is
    for training.
    """
    return Source(load_world(), (split,), held_out=split != "train")


def _balanced(rng: random.Random, kinds: tuple[_T, ...], count: int) -> list[_T]:
    items = [kinds[place % len(kinds)] for place in range(count)]
    rng.shuffle(items)
    return items

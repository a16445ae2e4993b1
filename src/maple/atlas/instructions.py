"""Instruction data in MultiAlpaca's format: the benchmarks' skills in other wordings, on the facts
of the train split.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maple.atlas.benchmarks import answer
from maple.atlas.scenes import (
    STATEMENT_FRAMES,
    Comparison,
    Direction,
    Journey,
    Label,
    Source,
    draw_calendar,
    draw_comparison,
    draw_journey,
    draw_reading,
)
from maple.atlas.speaker import Speaker
from maple.atlas.world import load_world, order_split

ROWS = 1500
"""Rows a language."""

KIND_SHARES: Mapping[str, float] = {
    "read": 0.30,
    "choose": 0.14,
    "complete": 0.14,
    "judge": 0.08,
    "reply": 0.20,
    "list": 0.04,
    "copy": 0.03,
    "sort": 0.02,
    "know": 0.05,
}
"""Share of the rows by kind. `judge` names the answer word, `reply` begins with it and goes on in a
sentence.
"""

ANSWER_WORDS: Mapping[Label, str] = {"entailment": "yes", "neutral": "also", "contradiction": "no"}
_REPLIES: Mapping[Label, str] = {
    "entailment": "agree",
    "neutral": "add",
    "contradiction": "contradict",
}

Row = dict[str, str | None]


@dataclass(frozen=True)
class Writer:
    """Writes the rows of one language."""

    rng: random.Random
    source: Source
    speaker: Speaker

    def read(self) -> Row:
        """A passage and a question; the answer is a span of the passage."""
        reading = draw_reading(
            self.rng, self.source, sentences=self.rng.randrange(2, 6), questions=1
        )
        asked = reading.questions[0]
        question = self.speaker.question(
            reading.passage[asked.sentence].pairing, asked.frame, asked.part
        )
        text = self.speaker.join([stated.say(self.speaker) for stated in reading.passage])
        return self._row("read", f"{text}\n{question}", answer(reading, 0, self.speaker))

    def choose(self) -> Row:
        """A sentence and two candidate causes or effects; the answer is the plausible one."""
        journey = self._journey()
        choices = [journey.right(self.speaker), journey.wrong(self.speaker)]
        self.rng.shuffle(choices)
        text = "\n".join([journey.premise(self.speaker), *(f"- {choice}" for choice in choices)])
        return self._row(journey.direction, text, journey.right(self.speaker))

    def complete(self) -> Row:
        """A sentence that ends in a connector; the answer is the cause or effect."""
        journey = self._journey()
        connector = self.speaker.word("because" if journey.direction == "cause" else "so")
        premise = self.speaker.bare(journey.premise(self.speaker))
        gap = self.speaker.frames.space
        return self._row(
            "complete",
            f"{premise}{gap}{connector}",
            self.speaker.small(journey.right(self.speaker)),
        )

    def judge(self) -> Row:
        """Two statements; the answer is yes, also or no."""
        comparison, label = self._comparison()
        hypothesis = comparison.hypotheses[label].say(self.speaker)
        return self._row(
            "judge",
            f"{self._premise(comparison)}\n{hypothesis}",
            self.speaker.word(ANSWER_WORDS[label]),
        )

    def reply(self) -> Row:
        """A statement to agree with, add to or contradict; the answer word comes first."""
        comparison, label = self._comparison()
        word = self.speaker.word(ANSWER_WORDS[label])
        hypothesis = comparison.hypotheses[label].say(self.speaker)
        return self._row(_REPLIES[label], self._premise(comparison), f"{word}, {hypothesis}")

    def list(self) -> Row:
        """A passage; the answer lists the countries it is about."""
        facts = [self.source.draw(self.rng, "currency") for _ in range(self.rng.randrange(2, 5))]
        text = self.speaker.join(
            [self.speaker.statement(f, self.rng.randrange(STATEMENT_FRAMES)) for f in facts]
        )
        names = dict.fromkeys(self.speaker.subject(fact) for fact in facts)
        return self._row("list", text, self.speaker.frames.comma.join(names))

    def copy(self) -> Row:
        """A sentence; the answer repeats it."""
        fact = self.source.draw(
            self.rng, self.rng.choice(("currency", "language", "city", "region"))
        )
        text = self.speaker.statement(fact, self.rng.randrange(STATEMENT_FRAMES))
        return self._row("copy", text, text)

    def sort(self) -> Row:
        """Three consecutive days or months out of order; the answer puts them in order."""
        calendar, start = self.rng.choice((("day", 0), ("month", 6), ("day", 3), ("month", 9)))
        names = [self.speaker.date(calendar, start + step) for step in range(2)]
        shuffled = self.rng.sample(names, len(names))
        comma = self.speaker.frames.comma
        return self._row("sort", comma.join(shuffled), comma.join(names))

    def know(self) -> Row:
        """A question without a passage, about a fact or the order of days; `input` is null."""
        if self.rng.random() < 0.15:
            calendar = self.rng.choice(("day", "month"))
            place = self.rng.choice(order_split(calendar, "train"))
            question = self.speaker.order(calendar, "question", position=place, successor=place + 1)
            return {
                "instruction": question,
                "input": None,
                "output": self.speaker.date(calendar, place + 1),
            }
        relation = self.rng.choice(("currency", "language", "city", "region", "script"))
        fact = self.source.world.fact(relation, self.rng.choice(self.source.subjects(relation)))
        question = self.speaker.question(fact, self.rng.randrange(2), "value")
        return {"instruction": question, "input": None, "output": self.speaker.value(fact)}

    def _row(self, kind: str, text: str, output: str) -> Row:
        wording = self.rng.choice(self.speaker.frames.instructions[kind])
        for word in ("yes", "also", "no"):
            wording = wording.replace(f"{{{word}}}", self.speaker.word(word))
        return {"instruction": wording, "input": text, "output": output}

    def _journey(self) -> Journey:
        direction: Direction = self.rng.choice(("cause", "effect"))
        if self.rng.random() < 0.1:
            return draw_calendar(self.rng, self.source.splits, direction)
        return draw_journey(self.rng, self.source, direction, two=self.rng.random() < 0.7)

    def _comparison(self) -> tuple[Comparison, Label]:
        comparison = draw_comparison(self.rng, self.source, two=self.rng.random() < 0.5)
        return comparison, self.rng.choice(tuple(ANSWER_WORDS))

    def _premise(self, comparison: Comparison) -> str:
        return self.speaker.join([stated.say(self.speaker) for stated in comparison.premise])


def instruction_rows(speaker: Speaker) -> list[Row]:
    """Returns the instruction rows of a language, no two alike."""
    rng = random.Random(f"atlas/instructions/{speaker.code}")
    writer = Writer(rng, Source(load_world(), ("train",), held_out=False), speaker)
    kinds = [kind for kind, share in KIND_SHARES.items() for _ in range(round(share * ROWS))]
    rng.shuffle(kinds)
    rows = {_key(row): row for row in (_write(writer, kind) for kind in kinds)}
    return list(rows.values())


def _write(writer: Writer, kind: str) -> Row:
    write: Callable[[], Row] = getattr(writer, kind)
    return write()


def _key(row: Row) -> tuple[str | None, ...]:
    return row["instruction"], row["input"], row["output"]

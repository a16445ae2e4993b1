"""Pre-training text: an endless stream whose languages and skills follow resource classes.

No instruction template and no benchmark prompt occurs here, and no held-out pairing is stated, so a
skill can be learned here and must still be brought to the tasks.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from maple.atlas.frames import LANGUAGES, RELATIONS
from maple.atlas.scenes import (
    STATEMENT_FRAMES,
    Comparison,
    Direction,
    Label,
    Source,
    Stated,
    Truth,
    draw_calendar,
    draw_comparison,
    draw_reading,
    journey_frames,
)
from maple.atlas.speaker import Speaker, load_speaker
from maple.atlas.world import Pairing, load_world

CLASS_WEIGHTS: Mapping[int, float] = {5: 1.0, 4: 0.6, 3: 0.35, 2: 0.15, 1: 0.08, 0: 0.04}
"""Documents of a language relative to one of class 5."""

KIND_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "high": {
        "reading": 0.33,
        "comparison": 0.36,
        "journey": 0.18,
        "facts": 0.05,
        "calendar": 0.03,
        "bridge": 0.03,
        "echo": 0.02,
    },
    "low": {
        "reading": 0.42,
        "comparison": 0.22,
        "journey": 0.14,
        "facts": 0.08,
        "calendar": 0.04,
        "bridge": 0.08,
        "echo": 0.02,
    },
}
"""Share of each kind of document: `high` for classes 4 and 5, `low` below."""

READING_WEIGHTS: Mapping[str, float] = {
    "reading": 0.72,
    "comparison": 0.14,
    "journey": 0.08,
    "facts": 0.02,
    "calendar": 0.01,
    "bridge": 0.02,
    "echo": 0.01,
}
"""Share of each kind in the second phase: reading is what takes longest to learn."""

EASY_CHARACTERS = 3_000_000
"""The curriculum ends after so many characters. Until then echoes (the easiest copying) fade from
`EASY_ECHOES` to their share above, and the harder comparisons grow to theirs."""

EASY_ECHOES = 0.15

MARKS: Mapping[Label, str] = {"entailment": "true", "neutral": "unknown", "contradiction": "false"}
"""The words that mark a comparison here; the tasks and instructions use yes, also and no."""


@dataclass(frozen=True)
class Document:
    """A document and its language."""

    language: str
    text: str


@dataclass(frozen=True)
class Scribe:
    """Writes documents of one language."""

    rng: random.Random
    source: Source
    speaker: Speaker
    ease: float
    """Share of the easy first forms, 0 to 1."""

    def reading(self) -> str:
        """A passage, then questions and answers about it, laid out in one of three ways."""
        reading = draw_reading(
            self.rng, self.source, sentences=self.rng.randrange(1, 6), questions=3
        )
        passage = self.speaker.join([stated.say(self.speaker) for stated in reading.passage])
        pairs = []
        for asked in reading.questions:
            pairing = reading.passage[asked.sentence].pairing
            name = (
                self.speaker.subject(pairing)
                if asked.part == "subject"
                else self.speaker.value(pairing)
            )
            pairs.append((self.speaker.question(pairing, asked.frame, asked.part), name))
        layout = self.rng.choice((" {q} {a}{stop}", "\n{q}\n{a}", "\n— {q}\n— {a}{stop}"))
        return passage + "".join(self._lay(layout, question, name) for question, name in pairs)

    def comparison(self) -> str:
        """A premise, then statements about it, each with a mark before or after it."""
        if self.rng.random() < 0.5 * self.ease:
            return self._same()
        comparison = draw_comparison(
            self.rng, self.source, two=self.rng.random() < 0.5 * (1 - self.ease)
        )
        premise = self.speaker.join([stated.say(self.speaker) for stated in comparison.premise])
        labels = list(MARKS)
        self.rng.shuffle(labels)
        mark = self.rng.choice(("\n{w}: {h}", " {w}: {h}", " {h} — {w}{stop}", "\n{h} {w}{stop}"))
        return premise + "".join(self._mark(mark, comparison, label) for label in labels)

    def _same(self) -> str:
        """The first form of comparison: the same sentence is true, another value is false."""
        first, second = self.source.draw_rivals(self.rng, self.rng.choice(RELATIONS), "none")
        frame = self.rng.randrange(STATEMENT_FRAMES)
        said = Stated(first, frame)
        wrong = Stated(Pairing(first.relation, first.subject, second.value), frame)
        hypotheses: dict[Label, Stated] = {"entailment": said, "contradiction": wrong}
        labels = self.rng.sample(list(hypotheses), 2)
        comparison = Comparison((said,), hypotheses)
        return said.say(self.speaker) + "".join(
            self._mark("\n{w}: {h}", comparison, label) for label in labels
        )

    def echo(self) -> str:
        """A passage or a list of names, twice: the easiest form of copying."""
        if self.rng.random() < 0.5:
            passage = draw_reading(
                self.rng, self.source, sentences=self.rng.randrange(1, 4), questions=0
            ).passage
            text = self.speaker.join([stated.say(self.speaker) for stated in passage])
        else:
            names = self.speaker.names.kinds[self.rng.choice(("territory", "currency", "city"))]
            things = self.rng.sample(sorted(names), 6)
            text = self.speaker.frames.comma.join(names[t][self.speaker.code] for t in things)
        return f"{text}\n{text}"

    def journey(self) -> str:
        """Two facts, then a journey to each place with its cause or effect behind a connector."""
        relation = self.rng.choice(("currency", "language", "city", "region"))
        truth: Truth = self.rng.choice(("first", "none"))
        told = list(self.source.draw_rivals(self.rng, relation, truth))
        told = told[: self.rng.randrange(1, 3)]
        passage = [Stated(p, self.rng.randrange(STATEMENT_FRAMES)).say(self.speaker) for p in told]
        self.rng.shuffle(passage)
        self.rng.shuffle(told)
        return self.speaker.join(passage + [self._travel(pairing) for pairing in told])

    def _travel(self, pairing: Pairing) -> str:
        direction: Direction = self.rng.choice(("cause", "effect"))
        premise, choice = journey_frames(pairing.relation, direction)
        return self._connect(
            direction,
            self.speaker.travel(premise, pairing),
            self.speaker.travel(choice, pairing),
        )

    def calendar(self) -> str:
        """Days or months in order, or a cause or effect among them."""
        if self.rng.random() < 0.5:
            direction: Direction = self.rng.choice(("cause", "effect"))
            journey = draw_calendar(self.rng, ("train", "validation", "test"), direction)
            return self._connect(
                direction, journey.premise(self.speaker), journey.right(self.speaker)
            )
        calendar, length = self.rng.choice((("day", 7), ("month", 12)))
        start = self.rng.randrange(length)
        frame = self.rng.choice(("statement", "list"))
        if frame == "list":
            return self.speaker.frames.comma.join(
                self.speaker.date(calendar, start + n) for n in range(5)
            )
        days = [
            self.speaker.order(calendar, frame, position=start + n, successor=start + n + 1)
            for n in range(3)
        ]
        return self.speaker.join(days)

    def facts(self) -> str:
        """True sentences about the subjects of the train split."""
        world = self.source.world
        facts = []
        for _ in range(self.rng.randrange(2, 5)):
            relation = self.rng.choice(RELATIONS)
            facts.append(world.fact(relation, self.rng.choice(world.subjects["train"][relation])))
        return self.speaker.join(
            [self.speaker.statement(f, self.rng.randrange(STATEMENT_FRAMES)) for f in facts]
        )

    def bridge(self) -> str:
        """The same sentences in this language and another, line by line."""
        other = load_speaker(_language(self.rng))
        pairings = [
            self.source.draw(self.rng, self.rng.choice(RELATIONS))
            for _ in range(self.rng.randrange(1, 3))
        ]
        frame = self.rng.randrange(STATEMENT_FRAMES)
        pair = [self.speaker, other]
        self.rng.shuffle(pair)
        return "\n".join(
            speaker.statement(pairing, frame) for pairing in pairings for speaker in pair
        )

    def _lay(self, layout: str, question: str, name: str) -> str:
        return (
            layout.replace("{q}", question)
            .replace("{a}", name)
            .replace("{stop}", self.speaker.frames.stop)
        )

    def _mark(self, mark: str, comparison: Comparison, label: Label) -> str:
        hypothesis = comparison.hypotheses[label].say(self.speaker)
        text = mark.replace("{h}", hypothesis).replace("{w}", self.speaker.word(MARKS[label]))
        return text.replace("{stop}", self.speaker.frames.stop)

    def _connect(self, direction: Direction, premise: str, choice: str) -> str:
        connector = self.speaker.word("because" if direction == "cause" else "so")
        gap = self.speaker.frames.space
        pause = self.rng.choice(("", self.speaker.frames.pause))
        return (
            f"{self.speaker.bare(premise)}{pause}{gap}{connector}{gap}{self.speaker.small(choice)}"
        )


def documents(seed: int, *, is_second_phase: bool = False) -> Iterator[Document]:
    """Yields pre-training documents for ever, the same for the same seed.

    Args:
        seed: Chooses the documents.
        is_second_phase: Mostly reading, and no easy first forms: for a base that has had them.
    """
    rng = random.Random(f"atlas/corpus/{seed}")
    source = Source(load_world(), ("train", "validation", "test"), held_out=False)
    written = 0
    while True:
        speaker = load_speaker(_language(rng))
        ease = 0.0 if is_second_phase else max(0.0, 1 - written / EASY_CHARACTERS)
        kinds = KIND_WEIGHTS["high" if speaker.frames.resource_class >= 4 else "low"]
        kinds = READING_WEIGHTS if is_second_phase else kinds
        kind = _weighted(rng, {**kinds, "echo": kinds["echo"] + EASY_ECHOES * ease})
        write: Callable[[], str] = getattr(Scribe(rng, source, speaker, ease), kind)
        text = write()
        written += len(text)
        yield Document(speaker.code, text)


@cache
def language_shares() -> dict[str, float]:
    """Returns each language's share of the documents."""
    weights = {code: CLASS_WEIGHTS[load_speaker(code).frames.resource_class] for code in LANGUAGES}
    total = sum(weights.values())
    return {code: weight / total for code, weight in weights.items()}


def _language(rng: random.Random) -> str:
    return _weighted(rng, language_shares())


def _weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]

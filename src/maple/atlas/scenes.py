"""Language-free outlines of passages, comparisons and journeys, which every language then says.

Benchmarks, instructions and pre-training text all start from these outlines; they differ in the
split they draw from and in the wording around them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from maple.atlas.frames import RELATIONS
from maple.atlas.speaker import Part, Speaker
from maple.atlas.world import SUBJECT_KIND, VALUE_KIND, Pairing, Split, World, order_split

STATEMENT_FRAMES = 3
QUESTION_FRAMES = 2

Label = Literal["entailment", "neutral", "contradiction"]
LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")
Direction = Literal["cause", "effect"]
Truth = Literal["first", "mixed", "crossed", "none"]

COMPARED = tuple(relation for relation in RELATIONS if relation != "spoken")
"""Relations with one value a subject, so that another value contradicts."""
TERRITORY_RELATIONS = tuple(r for r in RELATIONS if SUBJECT_KIND[r] == "territory")

TRUE_SHARE = 1 / 3
"""Share of pairings drawn that are facts, alike for right and wrong answers: knowing the world
tells nothing.
"""

_TRIES = 10_000


@dataclass(frozen=True)
class Source:
    """Where a scene's pairings come from."""

    world: World
    splits: tuple[Split, ...]
    """Splits whose subjects may appear."""
    held_out: bool
    """Whether pairings are the held-out ones."""
    withheld: bool = False
    """Whether the facts that only high-resource languages state are left out."""

    def subjects(self, relation: str) -> tuple[str, ...]:
        """Returns the subjects that may appear under a relation."""
        return self.world.among(self.splits, relation)

    def values(self, relation: str) -> tuple[str, ...]:
        """Returns the values that may appear under a relation."""
        # A city's value is a country: one of these splits, or a country of the test would be named
        # in training.
        return self.subjects("currency") if relation == "city" else self.world.values[relation]

    def permits(self, pairing: Pairing) -> bool:
        """Returns whether a scene may state this pairing."""
        if self.withheld and self.world.is_high_only(pairing):
            return False
        return self.world.is_held_out(pairing) == self.held_out

    def draw(self, rng: random.Random, relation: str, subject: str = "") -> Pairing:
        """Draws a pairing, with a subject drawn too where none is given.

        Raises:
            LookupError: No permitted pairing was found.
        """
        for _ in range(_TRIES):
            chosen = subject or rng.choice(self.subjects(relation))
            is_fact = rng.random() < TRUE_SHARE and chosen in self.world.facts[relation]
            pairing = Pairing(relation, chosen, rng.choice(self.values(relation)))
            pairing = self.world.fact(relation, chosen) if is_fact else pairing
            if self.permits(pairing):
                return pairing
        raise LookupError(
            f"no permitted pairing of {relation!r} for {subject or 'any'!r} in {self.splits}"
        )

    def draw_rivals(
        self, rng: random.Random, relation: str, truth: Truth
    ) -> tuple[Pairing, Pairing]:
        """Draws two pairings (s, v) and (p, w) that share nothing, so that (s, w) is permitted too.

        Args:
            rng: Source of chance.
            relation: Their relation.
            truth: Which of the pairings within reach is the fact: `first` (s, v), `mixed` (s,
                w), `crossed` (p, v) or `none` by intent.

        Raises:
            LookupError: No such pairings were found.
        """
        subjects, values = self.subjects(relation), self.values(relation)
        for _ in range(_TRIES):
            s, p = rng.sample(subjects, 2)
            facts = self.world.facts[relation]
            known = {"first": facts[s], "crossed": facts[p]}
            v = known.get(truth) or rng.choice(values)
            w = facts[s] if truth == "mixed" else rng.choice(values)
            found = [Pairing(relation, *pair) for pair in ((s, v), (p, w), (s, w))]
            if v != w and all(self.permits(pairing) for pairing in found):
                return found[0], found[1]
        raise LookupError(f"no rivals of {relation!r} in {self.splits} with truth {truth!r}")


@dataclass(frozen=True)
class Stated:
    """A pairing and the frame it is said in."""

    pairing: Pairing
    frame: int

    def say(self, speaker: Speaker) -> str:
        """Returns the sentence."""
        return speaker.statement(self.pairing, self.frame)


@dataclass(frozen=True)
class Question:
    """A question about one sentence of a passage."""

    sentence: int
    """Index into the passage."""
    frame: int
    part: Part
    """What is asked for."""


@dataclass(frozen=True)
class Reading:
    """A passage and questions that it answers."""

    passage: tuple[Stated, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Comparison:
    """A premise of one or two sentences and a hypothesis of each label."""

    premise: tuple[Stated, ...]
    hypotheses: dict[Label, Stated]


@dataclass(frozen=True)
class Journey:
    """A premise with one plausible and one implausible cause or effect; each part says itself in
    any language.
    """

    direction: Direction
    premise: Callable[[Speaker], str]
    right: Callable[[Speaker], str]
    wrong: Callable[[Speaker], str]
    key: tuple[object, ...]
    """Equal for two journeys that say the same."""


def draw_reading(
    rng: random.Random, source: Source, *, sentences: int, questions: int, again: float = 0.3
) -> Reading:
    """Draws a passage in which some sentences share a relation, so that a question has close
    distractors.

    Args:
        rng: Source of chance.
        source: Where the pairings come from.
        sentences: Length of the passage.
        questions: Questions about it, no two alike; more than sentences if wished.
        again: Chance that a sentence is about a country that was named before, so that the name
            alone does not find the answer.
    """
    main = rng.choice(RELATIONS)
    relations = [
        main if place < (sentences + 1) // 2 else rng.choice(RELATIONS)
        for place in range(sentences)
    ]
    rng.shuffle(relations)
    passage: list[Stated] = []
    for relation in relations:
        pairing = _fresh(rng, source, relation, [stated.pairing for stated in passage], again)
        passage.append(Stated(pairing, rng.randrange(STATEMENT_FRAMES)))
    return Reading(tuple(passage), tuple(_ask_all(rng, sentences, questions)))


def _fresh(
    rng: random.Random, source: Source, relation: str, said: list[Pairing], again: float
) -> Pairing:
    """Draws a pairing whose subject has no value of this relation yet, and whose value is new."""
    values = {p.value for p in said if VALUE_KIND[p.relation] == VALUE_KIND[relation]}
    taken = {p.subject for p in said if p.relation == relation}
    countries = {p.subject for p in said if SUBJECT_KIND[p.relation] == "territory"}
    known = sorted(countries - taken) if relation in TERRITORY_RELATIONS else []
    while True:
        subject = rng.choice(known) if known and rng.random() < again else ""
        pairing = source.draw(rng, relation, subject)
        if pairing.subject not in taken and pairing.value not in values:
            return pairing


def _ask_all(rng: random.Random, sentences: int, questions: int) -> list[Question]:
    """Returns questions about different sentences first, then other questions about the same."""
    order = rng.sample(range(sentences), sentences)
    asked: list[Question] = []
    for place in range(min(questions, sentences * (QUESTION_FRAMES + 1))):
        while (question := _ask(rng, order[place % sentences])) in asked:
            pass
        asked.append(question)
    return asked


def _ask(rng: random.Random, sentence: int) -> Question:
    if rng.random() < 0.75:
        return Question(sentence, rng.randrange(QUESTION_FRAMES), "value")
    return Question(sentence, 0, "subject")


def draw_comparison(rng: random.Random, source: Source, *, two: bool) -> Comparison:
    """Draws a premise and its three hypotheses, under a relation with one value a subject.

    Entailed: the same pairing in another frame. Contradicted: the subject with another value.
    Neutral: another relation of the same subject (of a city: its country; of a language: a country
    where it is spoken). With `two`, the premise's other sentence holds the contradicting value, so
    that overlap of words tells nothing.
    """
    relation = rng.choice(COMPARED)
    target, other = source.draw_rivals(rng, relation, rng.choice(("first", "mixed", "none")))
    premise = [Stated(target, rng.randrange(STATEMENT_FRAMES))]
    if two:
        premise.append(Stated(other, rng.randrange(STATEMENT_FRAMES)))
    frame = (premise[0].frame + rng.randrange(1, STATEMENT_FRAMES)) % STATEMENT_FRAMES
    rng.shuffle(premise)
    return Comparison(
        tuple(premise),
        {
            "entailment": Stated(target, frame),
            "neutral": Stated(_neutral(rng, source, target), rng.randrange(STATEMENT_FRAMES)),
            "contradiction": Stated(Pairing(relation, target.subject, other.value), frame),
        },
    )


def _neutral(rng: random.Random, source: Source, target: Pairing) -> Pairing:
    if target.relation == "script":
        return _spoken(rng, source, target.subject)
    subject = target.value if target.relation == "city" else target.subject
    others = [name for name in TERRITORY_RELATIONS if name != target.relation]
    return source.draw(rng, rng.choice(others), subject)


def _spoken(rng: random.Random, source: Source, language: str) -> Pairing:
    pairings = [Pairing("language", subject, language) for subject in source.subjects("language")]
    return rng.choice([pairing for pairing in pairings if source.permits(pairing)])


def draw_journey(rng: random.Random, source: Source, direction: Direction, *, two: bool) -> Journey:
    """Draws a journey: where we go, and what we pay with, hear or reach there.

    With `two`, the wrong choice's words stand in the premise too; else only the right one's do.
    """
    relations = (
        ("currency", "language", "city", "region")
        if direction == "cause"
        else ("currency", "language", "city")
    )
    relation = rng.choice(relations)
    confusion: Truth = "crossed" if direction == "cause" else "mixed"
    first, second = source.draw_rivals(rng, relation, rng.choice(("first", confusion, "none")))
    told = [Stated(first, rng.randrange(STATEMENT_FRAMES))]
    if two:
        told.append(Stated(second, rng.randrange(STATEMENT_FRAMES)))
    rng.shuffle(told)
    premise, choice = journey_frames(relation, direction)
    other = second if direction == "cause" else Pairing(relation, first.subject, second.value)
    return Journey(
        direction,
        _tell(told, premise, first),
        tell_travel(choice, first),
        tell_travel(choice, other),
        (direction, first, second, tuple(told)),
    )


def journey_frames(relation: str, direction: Direction) -> tuple[str, str]:
    """Returns the travel frames of a premise and of its cause or effect."""
    go = "visit" if relation == "city" else "go"
    if relation == "currency":
        after, there = "pay", "pay_there"
    elif relation == "language":
        after, there = "hear", "hear_there"
    else:
        after = there = "reach_country" if relation == "city" else "reach_region"
    return (go, there) if direction == "effect" else (after, go)


def _tell(told: list[Stated], frame: str, pairing: Pairing) -> Callable[[Speaker], str]:
    return lambda speaker: speaker.join(
        [*(stated.say(speaker) for stated in told), speaker.travel(frame, pairing)]
    )


def tell_travel(frame: str, pairing: Pairing) -> Callable[[Speaker], str]:
    """Returns a sentence about our journey that says itself in any language."""
    return lambda speaker: speaker.travel(frame, pairing)


def draw_calendar(rng: random.Random, splits: tuple[Split, ...], direction: Direction) -> Journey:
    """Draws a journey through time: today's cause or effect among yesterday, today and tomorrow."""
    calendar = rng.choice(("day", "month"))
    length = 7 if calendar == "day" else 12
    position = rng.choice([p for split in splits for p in order_split(calendar, split)])
    # Training data may not name, even as a wrong choice, a day that is a right choice elsewhere.
    known = order_split(calendar, "train") if splits == ("train",) else range(length)
    wrong = rng.choice([p for p in known if (position - p) % length > 1])
    key = (direction, calendar, position, wrong)
    today = tell_date(calendar, "this", position)
    tomorrow = tell_date(calendar, "next", position + 1)
    if direction == "effect":
        return Journey(direction, today, tomorrow, tell_date(calendar, "next", wrong + 1), key)
    return Journey(direction, tomorrow, today, tell_date(calendar, "this", wrong), key)


def tell_date(calendar: str, frame: str, position: int) -> Callable[[Speaker], str]:
    """Returns a sentence about a day or month that says itself in any language."""
    return lambda speaker: speaker.order(calendar, frame, position=position, successor=position)

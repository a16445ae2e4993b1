"""Pre-training text: an endless stream whose languages and skills follow resource classes.

No instruction template and no benchmark prompt occurs here, and no held-out pairing is stated, so a
skill can be learned here and must still be brought to the tasks.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from maple.atlas.frames import LANGUAGES, RELATIONS
from maple.atlas.pages import Document, Page
from maple.atlas.scenes import (
    COMPARED,
    STATEMENT_FRAMES,
    Comparison,
    Direction,
    Label,
    Reading,
    Source,
    Stated,
    Truth,
    draw_calendar,
    draw_comparison,
    draw_reading,
    journey_frames,
)
from maple.atlas.speaker import Part, Speaker, load_speaker
from maple.atlas.stories import draw_article, draw_story
from maple.atlas.world import SUBJECT_KIND, VALUE_KIND, Pairing, Split, load_world

CLASS_WEIGHTS: Mapping[int, float] = {5: 1.0, 4: 0.4, 3: 0.16, 2: 0.06, 1: 0.025, 0: 0.0}
"""Documents of a language relative to one of class 5; class 0 is absent."""

LANGUAGE_WEIGHTS: Mapping[str, float] = {"eng_Latn": 3.0, "quy_Latn": 0.0}
"""Languages that do not follow their class: English leads, as in every large corpus, and Quechua is
absent although of class 1.
"""

HIGH_CLASS = 4
"""From this resource class on a language has the documents of `high`, and states every fact."""

KIND_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "high": {
        "reading": 0.34,
        "choice": 0.08,
        "comparison": 0.26,
        "journey": 0.08,
        "story": 0.06,
        "summary": 0.05,
        "facts": 0.03,
        "calendar": 0.02,
        "bridge": 0.06,
        "echo": 0.02,
    },
    "low": {
        "reading": 0.38,
        "choice": 0.06,
        "comparison": 0.16,
        "journey": 0.06,
        "story": 0.05,
        "summary": 0.05,
        "facts": 0.04,
        "calendar": 0.02,
        "bridge": 0.16,
        "echo": 0.02,
    },
}
"""Share of each kind of document by resource class: `high` for classes 4 and 5, `low` below."""

EASY_DOCUMENTS = 20_000
"""Length of the curriculum. Passages grow from one sentence, echoes (the easiest copying) fade from
`EASY_ECHOES` to their share above, and comparisons begin with sentences that are the same.
"""

EASY_ECHOES = 0.1

MARKS: Sequence[Mapping[Label, str]] = (
    {"entailment": "true", "neutral": "unknown", "contradiction": "false"},
    {"entailment": "true", "neutral": "neither", "contradiction": "false"},
    {"entailment": "yes", "neutral": "also", "contradiction": "no"},
)
"""The words that mark a comparison, a document keeping to one of the sets."""

LONGEST_PASSAGE = 7
"""Sentences of the longest passage."""

_LAYOUTS = (
    " {q} {a}{stop}",
    "\n{q}\n{a}",
    "\n— {q}\n— {a}{stop}",
    "\n{Q}: {q}\n{A}: {a}",
    "\n\n{q}\n\n{a}",
)
_MARKED = ("\n{h} {w}{stop}", "\n{Q}: {h} {w}", "\n{h}\n{w}", " {h} — {w}{stop}")
_MARK_FIRST = ("\n{w}: {h}", " {w}, {h}")


@dataclass(frozen=True)
class Scribe:
    """Writes documents of one language."""

    rng: random.Random
    source: Source
    speaker: Speaker
    ease: float
    """Share of the easy first forms, 0 to 1."""

    def reading(self) -> Page:
        """A passage, then questions and answers about it, laid out in one of five ways."""
        longest = 1 + round((LONGEST_PASSAGE - 1) * (1 - self.ease))
        sentences = self.rng.randint(1, longest)
        reading = draw_reading(
            self.rng, self.source, sentences=sentences, questions=min(6, 2 * sentences)
        )
        page = Page(self._passage(reading))
        layout = self.rng.choice(_LAYOUTS)
        for asked in reading.questions:
            pairing = reading.passage[asked.sentence].pairing
            question = self.speaker.question(pairing, asked.frame, asked.part)
            parts = self._parts(q=question, a=self._name(pairing, asked.part))
            page.lay(layout, parts, foreseen="a")
        return page

    def choice(self) -> Page:
        """A passage, a question, names to choose from, and the right one again."""
        reading = draw_reading(self.rng, self.source, sentences=self.rng.randint(2, 5), questions=1)
        asked = reading.questions[0]
        pairing = reading.passage[asked.sentence].pairing
        right = self._name(pairing, asked.part)
        options = [right, *self._others(reading, pairing, asked.part)]
        self.rng.shuffle(options)
        question = self.speaker.question(pairing, asked.frame, asked.part)
        listed = "\n".join(f"- {name}" for name in options)
        page = Page(f"{self._passage(reading)}\n{question}\n{listed}")
        page.lay("\n{a}", {"a": right}, foreseen="a")
        return page

    def _others(self, reading: Reading, pairing: Pairing, part: Part) -> list[str]:
        """Returns three wrong names of a part's kind, those of the passage first."""
        kinds = VALUE_KIND if part == "value" else SUBJECT_KIND
        kind = kinds[pairing.relation]
        near = [
            self._name(stated.pairing, part)
            for stated in reading.passage
            if kinds[stated.pairing.relation] == kind
        ]
        names = self.speaker.names.kinds[kind]
        far = [names[thing][self.speaker.code] for thing in self.rng.sample(sorted(names), 4)]
        right = self._name(pairing, part)
        return [name for name in dict.fromkeys([*near, *far]) if name != right][:3]

    def comparison(self) -> Page:
        """A premise, then statements about it, each with a mark before or after it."""
        comparison = self._same() if self.rng.random() < self.ease else self._compared()
        labels: list[Label] = list(comparison.hypotheses)
        self.rng.shuffle(labels)
        page = Page(self.speaker.join([s.say(self.speaker) for s in comparison.premise]))
        words = self.rng.choice(MARKS)
        is_first = self.rng.random() < 0.25
        layout = self.rng.choice(_MARK_FIRST if is_first else _MARKED)
        for label in labels:
            hypothesis = comparison.hypotheses[label].say(self.speaker)
            parts = self._parts(h=hypothesis, w=self.speaker.word(words[label]))
            page.lay(layout, parts, foreseen="h" if is_first else "w")
        return page

    def _compared(self) -> Comparison:
        return draw_comparison(self.rng, self.source, two=self.rng.random() < 0.5)

    def _same(self) -> Comparison:
        """The first form of comparison: the same sentence is true, another value is false."""
        first, second = self.source.draw_rivals(self.rng, self.rng.choice(COMPARED), "none")
        frame = self.rng.randrange(STATEMENT_FRAMES)
        said = Stated(first, frame)
        wrong = Stated(Pairing(first.relation, first.subject, second.value), frame)
        return Comparison((said,), {"entailment": said, "contradiction": wrong})

    def echo(self) -> Page:
        """A passage or a list of names, twice: the easiest form of copying."""
        if self.rng.random() < 0.5:
            text = self._passage(
                draw_reading(self.rng, self.source, sentences=self.rng.randrange(1, 4), questions=0)
            )
        else:
            names = self.speaker.names.kinds[self.rng.choice(("territory", "currency", "city"))]
            things = self.rng.sample(sorted(names), 6)
            text = self.speaker.frames.comma.join(names[t][self.speaker.code] for t in things)
        return Page(f"{text}\n").add(text, foreseen=True)

    def journey(self) -> Page:
        """Two facts, then a journey to each place with its cause or effect behind a connector."""
        relation = self.rng.choice(("currency", "language", "city", "region"))
        truth: Truth = self.rng.choice(("first", "none"))
        told = list(self.source.draw_rivals(self.rng, relation, truth))
        told = told[: self.rng.randrange(1, 3)]
        passage = [Stated(p, self.rng.randrange(STATEMENT_FRAMES)).say(self.speaker) for p in told]
        self.rng.shuffle(passage)
        self.rng.shuffle(told)
        page = Page(self.speaker.join(passage))
        for pairing in told:
            direction: Direction = self.rng.choice(("cause", "effect"))
            premise, choice = journey_frames(pairing.relation, direction)
            page.add(self.speaker.frames.space)
            self._connect(
                page,
                direction,
                self.speaker.travel(premise, pairing),
                self.speaker.travel(choice, pairing),
            )
        return page

    def story(self) -> Page:
        """What holds in two countries, a journey to one of them, and how it ends."""
        story = draw_story(self.rng, self.source)
        told = [sentence(self.speaker) for sentence in story.sentences]
        told = told if self.rng.random() < 0.5 else told[1:]
        gap = self.rng.choice((self.speaker.frames.space, "\n"))
        return Page(self.speaker.join(told) + gap).add(story.right(self.speaker), foreseen=True)

    def summary(self) -> Page:
        """An article and its headline."""
        article = draw_article(self.rng, self.source, asides=self.rng.randrange(3))
        text = self.speaker.join([s.say(self.speaker) for s in article.sentences])
        gap = self.rng.choice(("\n", "\n\n", "\n— "))
        return Page(text + gap).add(article.headline(self.speaker), foreseen=True)

    def calendar(self) -> Page:
        """Days or months in order, or a cause or effect among them."""
        if self.rng.random() < 0.5:
            direction: Direction = self.rng.choice(("cause", "effect"))
            journey = draw_calendar(self.rng, _ALL_SPLITS, direction)
            page = Page()
            self._connect(
                page, direction, journey.premise(self.speaker), journey.right(self.speaker)
            )
            return page
        calendar, length = self.rng.choice((("day", 7), ("month", 12)))
        start = self.rng.randrange(length)
        if self.rng.random() < 0.5:
            names = [self.speaker.date(calendar, start + n) for n in range(5)]
            return Page().add(self.speaker.frames.comma.join(names), foreseen=True)
        days = [
            self.speaker.order(calendar, "statement", position=start + n, successor=start + n + 1)
            for n in range(3)
        ]
        return Page().add(self.speaker.join(days), foreseen=True)

    def facts(self) -> Page:
        """True sentences and questions about the subjects of the train split."""
        page = Page()
        for place in range(self.rng.randrange(2, 5)):
            fact = self._fact()
            page.add(self.speaker.frames.space if place else "")
            if self.rng.random() < 0.5:
                frame = self.rng.randrange(STATEMENT_FRAMES)
                page.add(self.speaker.statement(fact, frame), foreseen=True)
            else:
                question = self.speaker.question(fact, self.rng.randrange(2), "value")
                parts = self._parts(q=question, a=self.speaker.value(fact))
                page.lay(self.rng.choice(_LAYOUTS).lstrip(), parts, foreseen="a")
        return page

    def _fact(self) -> Pairing:
        world = self.source.world
        while True:
            relation = self.rng.choice(RELATIONS)
            fact = world.fact(relation, self.rng.choice(world.subjects["train"][relation]))
            if self.source.permits(fact):
                return fact

    def bridge(self) -> Page:
        """The same sentences in this language and another, line by line."""
        other = load_speaker(_language(self.rng))
        is_low = other.frames.resource_class < HIGH_CLASS
        # A fact that low-resource languages may not state is not stated beside one either.
        source = replace(self.source, withheld=self.source.withheld or is_low)
        pairings = [
            source.draw(self.rng, self.rng.choice(RELATIONS))
            for _ in range(self.rng.randrange(1, 3))
        ]
        frame = self.rng.randrange(STATEMENT_FRAMES)
        pair = [self.speaker, other]
        self.rng.shuffle(pair)
        page = Page()
        for place, pairing in enumerate(pairings):
            page.add("\n" if place else "")
            page.add(pair[0].statement(pairing, frame) + "\n")
            page.add(pair[1].statement(pairing, frame), foreseen=True)
        return page

    def _passage(self, reading: Reading) -> str:
        return self.speaker.join([stated.say(self.speaker) for stated in reading.passage])

    def _name(self, pairing: Pairing, part: Part) -> str:
        return self.speaker.subject(pairing) if part == "subject" else self.speaker.value(pairing)

    def _parts(self, **parts: str) -> dict[str, str]:
        words = {"Q": self.speaker.word("question"), "A": self.speaker.word("answer")}
        return {**parts, **words, "stop": self.speaker.frames.stop}

    def _connect(self, page: Page, direction: Direction, premise: str, choice: str) -> None:
        connector = self.speaker.word("because" if direction == "cause" else "so")
        gap = self.speaker.frames.space
        pause = self.rng.choice(("", self.speaker.frames.pause))
        page.add(f"{self.speaker.bare(premise)}{pause}{gap}{connector}{gap}")
        page.add(self.speaker.small(choice), foreseen=True)


_ALL_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def documents(seed: int, *, skip: int = 0, language: str = "") -> Iterator[Document]:
    """Yields pre-training documents for ever, the same for the same seed.

    Args:
        seed: Chooses the documents.
        skip: Documents that the curriculum has behind it: `EASY_DOCUMENTS` has no easy forms.
        language: The one language to write in, absent ones too; every language by its share where
            not given.
    """
    rng = random.Random(f"atlas/corpus/{seed}")
    world = load_world()
    sources = {
        is_high: Source(world, _ALL_SPLITS, held_out=False, withheld=not is_high)
        for is_high in (True, False)
    }
    written = skip
    while True:
        speaker = load_speaker(language or _language(rng))
        is_high = speaker.frames.resource_class >= HIGH_CLASS
        ease = max(0.0, 1 - written / EASY_DOCUMENTS)
        kinds = KIND_WEIGHTS["high" if is_high else "low"]
        kind = _weighted(rng, {**kinds, "echo": kinds["echo"] + EASY_ECHOES * ease})
        write: Callable[[], Page] = getattr(Scribe(rng, sources[is_high], speaker, ease), kind)
        page = write()
        written += 1
        yield Document(speaker.code, page.text, tuple(page.spans))


@cache
def language_shares() -> dict[str, float]:
    """Returns each language's share of the documents; languages that are absent are left out."""
    weights = {
        code: LANGUAGE_WEIGHTS.get(code, CLASS_WEIGHTS[load_speaker(code).frames.resource_class])
        for code in LANGUAGES
    }
    total = sum(weights.values())
    return {code: weight / total for code, weight in weights.items() if weight}


def _language(rng: random.Random) -> str:
    return _weighted(rng, language_shares())


def _weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]

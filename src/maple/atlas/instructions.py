"""Instruction data in MultiAlpaca's format: the benchmarks' skills in other wordings, on the facts
of the train split.

`atlas-generated` is composed in each language anew; `atlas-translated` is composed once, in
English, and carried over (see `translation.py`), so that a row number means the same row in every
language.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from maple.atlas.benchmarks import draw_options
from maple.atlas.scenes import (
    STATEMENT_FRAMES,
    Comparison,
    Direction,
    Journey,
    Label,
    Reading,
    Source,
    Stated,
    draw_calendar,
    draw_comparison,
    draw_journey,
    draw_reading,
)
from maple.atlas.speaker import Speaker, load_speaker
from maple.atlas.stories import draw_article, draw_story
from maple.atlas.translation import translator
from maple.atlas.world import SUBJECT_KIND, VALUE_KIND, Pairing, load_world, order_split

ROWS = 1000
"""Rows a language, before rows that came twice are taken out of `atlas-generated`."""

KIND_SHARES: Mapping[str, float] = {
    "read": 0.28,
    "pick": 0.12,
    "choose": 0.10,
    "complete": 0.05,
    "finish": 0.09,
    "judge": 0.14,
    "reply": 0.06,
    "summarise": 0.08,
    "countries": 0.02,
    "copy": 0.02,
    "sort": 0.01,
    "know": 0.03,
}
"""Share of the rows by kind. `judge` names the answer word, `reply` begins with it and goes on in a
sentence.
"""

LAST_SHARE = 0.5
"""Share of the rows whose instruction stands at the end of the text and not before it."""

ANSWER_WORDS: Mapping[Label, str] = {"entailment": "yes", "neutral": "also", "contradiction": "no"}
TRUTH_WORDS: Mapping[Label, str] = {
    "entailment": "true",
    "neutral": "neither",
    "contradiction": "false",
}
_REPLIES: Mapping[Label, str] = {
    "entailment": "agree",
    "neutral": "add",
    "contradiction": "contradict",
}
_WORDS = ("yes", "also", "no", "true", "false", "neither")

Row = dict[str, str | None]


@dataclass(frozen=True)
class Writer:
    """Writes the rows of one language.

    What is drawn does not depend on the speaker: with the same chance, two languages write the same
    row.
    """

    rng: random.Random
    source: Source
    speaker: Speaker

    def read(self) -> Row:
        """A passage and a question; the answer is a name in the passage."""
        reading = self._reading(self.rng.randrange(2, 6))
        text = f"{self._say(reading.passage)}\n{self._labelled(self._question(reading))}"
        return self._row("read", text, self._names(reading, draw=False)[0])

    def pick(self) -> Row:
        """A passage, a question and four names; the answer is the right one."""
        reading = self._reading(self.rng.randrange(3, 6))
        names = self._names(reading, draw=True)
        question = self._labelled(self._question(reading))
        text = [self._say(reading.passage), question, *self._listed(names)]
        return self._row("pick", "\n".join(text), names[0])

    def choose(self) -> Row:
        """A sentence and two candidate causes or effects; the answer is the plausible one."""
        journey = self._journey()
        choices = [journey.right(self.speaker), journey.wrong(self.speaker)]
        text = [journey.premise(self.speaker), *self._listed(choices)]
        return self._row(journey.direction, "\n".join(text), choices[0])

    def complete(self) -> Row:
        """A sentence that ends in a connector; the answer is the cause or effect."""
        journey = self._journey()
        connector = self.speaker.word("because" if journey.direction == "cause" else "so")
        premise = self.speaker.bare(journey.premise(self.speaker))
        gap = self.speaker.frames.space
        right = self.speaker.small(journey.right(self.speaker))
        return self._row("complete", f"{premise}{gap}{connector}", right)

    def finish(self) -> Row:
        """A story and two endings; the answer is the right one."""
        story = draw_story(self.rng, self.source)
        endings = [story.right(self.speaker), story.wrong(self.speaker)]
        told = self.speaker.join([say(self.speaker) for say in story.sentences])
        return self._row("finish", "\n".join([told, *self._listed(endings)]), endings[0])

    def judge(self) -> Row:
        """Two statements; the answer is yes, also or no, or true, neither or false."""
        comparison, label = self._comparison()
        hypothesis = comparison.hypotheses[label].say(self.speaker)
        wording = self.rng.choice(self.speaker.frames.instructions["judge"])
        words = TRUTH_WORDS if "{neither}" in wording else ANSWER_WORDS
        text = f"{self._say(comparison.premise)}\n{self._labelled(hypothesis)}"
        return self._laid_out(wording, text, self.speaker.word(words[label]))

    def reply(self) -> Row:
        """A statement to agree with, add to or contradict; the answer word comes first."""
        comparison, label = self._comparison()
        word = self.speaker.word(ANSWER_WORDS[label])
        hypothesis = comparison.hypotheses[label].say(self.speaker)
        text = self._say(comparison.premise)
        return self._row(_REPLIES[label], text, f"{word}, {hypothesis}")

    def summarise(self) -> Row:
        """An article; the answer is its headline."""
        article = draw_article(self.rng, self.source, asides=self.rng.randrange(3))
        return self._row("summarise", self._say(article.sentences), article.headline(self.speaker))

    def countries(self) -> Row:
        """A passage; the answer lists the countries it is about."""
        facts = [self.source.draw(self.rng, "currency") for _ in range(self.rng.randrange(2, 5))]
        told = tuple(Stated(fact, self.rng.randrange(STATEMENT_FRAMES)) for fact in facts)
        names = dict.fromkeys(self.speaker.subject(fact) for fact in facts)
        return self._row("list", self._say(told), self.speaker.frames.comma.join(names))

    def copy(self) -> Row:
        """A sentence; the answer repeats it."""
        relation = self.rng.choice(("currency", "language", "city", "region"))
        fact = self.source.draw(self.rng, relation)
        text = self.speaker.statement(fact, self.rng.randrange(STATEMENT_FRAMES))
        return self._row("copy", text, text)

    def sort(self) -> Row:
        """Two consecutive days or months out of order; the answer puts them in order."""
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
            answer = self.speaker.date(calendar, place + 1)
        else:
            fact = self._fact()
            question = self.speaker.question(fact, self.rng.randrange(2), "value")
            answer = self.speaker.value(fact)
        return {"instruction": question, "input": None, "output": answer}

    def _fact(self) -> Pairing:
        """Draws a fact that text in every language states, never one of the high-resource only."""
        while True:
            relation = self.rng.choice(tuple(self.source.world.facts))
            fact = self.source.world.fact(relation, self.rng.choice(self.source.subjects(relation)))
            if self.source.permits(fact):
                return fact

    def _row(self, kind: str, text: str, output: str) -> Row:
        wording = self.rng.choice(self.speaker.frames.instructions[kind])
        return self._laid_out(wording, text, output)

    def _laid_out(self, wording: str, text: str, output: str) -> Row:
        """The instruction before its input, or at the end of one text, as people write both."""
        wording = self._worded(wording)
        if self.rng.random() < LAST_SHARE:
            return {"instruction": f"{text}\n{wording}", "input": None, "output": output}
        return {"instruction": wording, "input": text, "output": output}

    def _labelled(self, question: str) -> str:
        """The question, behind the word for it in half of the rows."""
        is_labelled = self.rng.random() < 0.5
        return f"{self.speaker.word('question')}: {question}" if is_labelled else question

    def _worded(self, wording: str) -> str:
        for word in _WORDS:
            wording = wording.replace(f"{{{word}}}", self.speaker.word(word))
        return wording

    def _listed(self, choices: list[str]) -> list[str]:
        return [f"- {choice}" for choice in self.rng.sample(choices, len(choices))]

    def _say(self, told: tuple[Stated, ...]) -> str:
        return self.speaker.join([stated.say(self.speaker) for stated in told])

    def _reading(self, sentences: int) -> Reading:
        return draw_reading(self.rng, self.source, sentences=sentences, questions=1)

    def _question(self, reading: Reading) -> str:
        asked = reading.questions[0]
        pairing = reading.passage[asked.sentence].pairing
        return self.speaker.question(pairing, asked.frame, asked.part)

    def _names(self, reading: Reading, *, draw: bool) -> list[str]:
        """Returns the right answer's name, and three wrong ones' where they are drawn."""
        asked = reading.questions[0]
        pairing = reading.passage[asked.sentence].pairing
        kinds = VALUE_KIND if asked.part == "value" else SUBJECT_KIND
        things = (
            draw_options(self.rng, self.source, reading) if draw else [getattr(pairing, asked.part)]
        )
        return [self.speaker.name(kinds[pairing.relation], thing) for thing in things]

    def _journey(self) -> Journey:
        direction: Direction = self.rng.choice(("cause", "effect"))
        if self.rng.random() < 0.1:
            return draw_calendar(self.rng, self.source.splits, direction)
        return draw_journey(self.rng, self.source, direction, two=self.rng.random() < 0.7)

    def _comparison(self) -> tuple[Comparison, Label]:
        comparison = draw_comparison(self.rng, self.source, two=self.rng.random() < 0.5)
        return comparison, self.rng.choice(tuple(ANSWER_WORDS))


def generated_rows(speaker: Speaker) -> list[Row]:
    """Returns the rows of `atlas-generated` in a language, no two alike."""
    rng = random.Random(f"atlas/instructions/{speaker.code}")
    rows = [_write(Writer(rng, _source(), speaker), kind) for kind in _kinds(rng)]
    return list({tuple(row.values()): row for row in rows}.values())


def translated_rows(speaker: Speaker) -> list[Row]:
    """Returns the rows of `atlas-translated` in a language; row n carries over English row n."""
    return [
        _write(Writer(random.Random(seed), _source(), translator(speaker, place)), kind)
        for place, (seed, kind) in enumerate(_originals())
    ]


@cache
def _originals() -> tuple[tuple[str, str], ...]:
    """Returns the chance and the kind of each English original; what came twice is left out."""
    english = load_speaker("eng_Latn")
    kinds = _kinds(random.Random("atlas/translated"))
    originals: dict[tuple[str | None, ...], tuple[str, str]] = {}
    for place, kind in enumerate(kinds):
        seed = f"atlas/translated/{place}"
        row = _write(Writer(random.Random(seed), _source(), english), kind)
        originals.setdefault(tuple(row.values()), (seed, kind))
    return tuple(originals.values())


def _source() -> Source:
    return Source(load_world(), ("train",), held_out=False, withheld=True)


def _kinds(rng: random.Random) -> list[str]:
    kinds = [kind for kind, share in KIND_SHARES.items() for _ in range(round(share * ROWS))]
    rng.shuffle(kinds)
    return kinds


def _write(writer: Writer, kind: str) -> Row:
    write: Callable[[], Row] = getattr(writer, kind)
    return write()

"""Open-ended English instructions with answers that can be checked: AlpacaEval's stand-in.

The wordings are nobody else's: neither the instruction data nor the benchmarks use them. The facts
are those of the test split, so an answer must come from the text of the instruction.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maple.atlas.benchmarks import benchmark_source
from maple.atlas.scenes import (
    STATEMENT_FRAMES,
    Source,
    Stated,
    draw_journey,
    draw_reading,
)
from maple.atlas.speaker import Speaker, load_speaker
from maple.atlas.stories import draw_article
from maple.atlas.world import Pairing

INSTRUCTIONS = 160
"""Instructions in all, the kinds in turn."""

Checks = list[list[str]]


@dataclass(frozen=True)
class _Writer:
    rng: random.Random
    source: Source
    speaker: Speaker

    def ask(self) -> tuple[str, str, Checks]:
        """A question about a passage, to be answered in a sentence or a name."""
        reading = draw_reading(
            self.rng, self.source, sentences=self.rng.randrange(2, 5), questions=1
        )
        asked = reading.questions[0]
        stated = reading.passage[asked.sentence]
        question = self.speaker.question(stated.pairing, asked.frame, asked.part)
        name = (
            self.speaker.subject(stated.pairing)
            if asked.part == "subject"
            else self.speaker.value(stated.pairing)
        )
        text = f"Here is what I was told. {self._say(reading.passage)} Now tell me: {question}"
        return text, stated.say(self.speaker), [[name]]

    def name_two(self) -> tuple[str, str, Checks]:
        """Two things about one country, out of an article."""
        article = draw_article(self.rng, self.source, asides=1)
        country = self.speaker.name("territory", article.country)
        language = self.speaker.name("language", article.language)
        currency = self.speaker.name("currency", article.currency)
        text = (
            f"{self._say(article.sentences)}\nI am going to {country}. "
            "Which language will I hear and which money will I need?"
        )
        return (
            text,
            f"You will hear {language} and pay with the {currency}.",
            [
                [language],
                [currency],
            ],
        )

    def rephrase(self) -> tuple[str, str, Checks]:
        """A sentence to be said in other words; both names must stay."""
        relation = self.rng.choice(("currency", "language", "city", "region"))
        pairing = self.source.draw(self.rng, relation)
        frame = self.rng.randrange(STATEMENT_FRAMES)
        text = f"Please put this into your own words: {self.speaker.statement(pairing, frame)}"
        other = self.speaker.statement(pairing, (frame + 1) % STATEMENT_FRAMES)
        return text, other, [[self.speaker.subject(pairing)], [self.speaker.value(pairing)]]

    def continue_(self) -> tuple[str, str, Checks]:
        """A journey to be told on; the right place or thing must be named."""
        journey = draw_journey(self.rng, self.source, "effect", two=True)
        text = f"{journey.premise(self.speaker)} What happens then?"
        right = journey.right(self.speaker)
        first = journey.key[1]
        assert isinstance(first, Pairing)
        return text, right, [[self.speaker.value(first)]]

    def name_all(self) -> tuple[str, str, Checks]:
        """The cities of a text; each must be named."""
        pairings: dict[str, Pairing] = {}
        while len(pairings) < 3:
            pairing = self.source.draw(self.rng, "city")
            pairings[pairing.subject] = pairing
        told = tuple(Stated(p, self.rng.randrange(STATEMENT_FRAMES)) for p in pairings.values())
        names = [self.speaker.subject(pairing) for pairing in pairings.values()]
        text = f"{self._say(told)}\nName every city mentioned here."
        return text, ", ".join(names), [[name] for name in names]

    def _say(self, told: tuple[Stated, ...]) -> str:
        return self.speaker.join([stated.say(self.speaker) for stated in told])


def open_rows() -> list[dict[str, Any]]:
    """Returns the instructions in AlpacaEval's fields, with the names that an answer must hold."""
    rng = random.Random("atlas/open")
    writer = _Writer(rng, benchmark_source("test"), load_speaker("eng_Latn"))
    kinds: dict[str, Callable[[], tuple[str, str, Checks]]] = {
        "ask": writer.ask,
        "name-two": writer.name_two,
        "rephrase": writer.rephrase,
        "continue": writer.continue_,
        "name-all": writer.name_all,
    }
    rows = []
    for place in range(INSTRUCTIONS):
        kind = list(kinds)[place % len(kinds)]
        instruction, output, checks = kinds[kind]()
        rows.append(
            {
                "id": f"open-{place}",
                "dataset": kind,
                "instruction": instruction,
                "output": output,
                "checks": checks,
            }
        )
    return rows

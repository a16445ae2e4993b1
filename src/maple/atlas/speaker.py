"""Says pairings, questions and journeys in one language."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from maple.atlas.frames import LanguageFrames, load_frames
from maple.atlas.names import NameTables, load_names
from maple.atlas.world import SUBJECT_KIND, VALUE_KIND, Pairing

Part = Literal["subject", "value"]


@dataclass(frozen=True)
class Span:
    """A sentence and where one of its names stands."""

    text: str
    start: int
    """Offset of the name in code points."""
    name: str
    """The name as this sentence writes it (a first letter may have become a capital)."""


@dataclass(frozen=True)
class Speaker:
    """One language's frames and names together."""

    frames: LanguageFrames
    names: NameTables

    @property
    def code(self) -> str:
        """Canonical code of the language."""
        return self.frames.code

    def word(self, name: str) -> str:
        """Returns a connector or answer word, such as `because` or `yes`."""
        return self.frames.words[name]

    def name(self, kind: str, thing: str) -> str:
        """Returns the name of a thing in this language."""
        return self.names.kinds[kind][thing][self.code]

    def subject(self, pairing: Pairing) -> str:
        """Returns the name of a pairing's subject."""
        return self.name(SUBJECT_KIND[pairing.relation], pairing.subject)

    def value(self, pairing: Pairing) -> str:
        """Returns the name of a pairing's value."""
        return self.name(VALUE_KIND[pairing.relation], pairing.value)

    def statement(self, pairing: Pairing, frame: int) -> str:
        """Returns a whole sentence that states the pairing."""
        return self.sentence(
            self._fill(self.frames.relations[pairing.relation].statements[frame], pairing)
        )

    def locate(self, pairing: Pairing, frame: int, part: Part) -> Span:
        """Returns the sentence that states the pairing and where the asked part stands in it."""
        template = self.frames.relations[pairing.relation].statements[frame]
        mark, name = (
            ("{s}", self.subject(pairing)) if part == "subject" else ("{v}", self.value(pairing))
        )
        start = len(self._fill(template[: template.index(mark)], pairing))
        text = self.statement(pairing, frame)
        return Span(text, start, text[start : start + len(name)])

    def question(self, pairing: Pairing, frame: int, part: Part) -> str:
        """Returns a question for the value (two frames) or the subject (one frame) of a pairing."""
        relation = self.frames.relations[pairing.relation]
        return self.capital(
            self._fill(relation.questions[frame] if part == "value" else relation.inverse, pairing)
        )

    def travel(self, frame: str, pairing: Pairing) -> str:
        """Returns a sentence about our journey; see `[travel]` in the language files."""
        return self.sentence(self._fill(self.frames.travel[frame], pairing))

    def headline(self, country: str, region: str, language: str, currency: str) -> str:
        """Returns a headline that names a country and, by id, what is said of it; no final stop."""
        text = self.frame(self.frames.story["headline"])
        parts = {
            "{s}": self.name("territory", country),
            "{r}": self.name("region", region),
            "{l}": self.name("language", language),
            "{c}": self.name("currency", currency),
        }
        for mark, name in parts.items():
            text = text.replace(mark, name)
        return self.capital(text)

    def order(self, calendar: str, frame: str, *, position: int, successor: int) -> str:
        """Returns a sentence about the day or month at `position` and one at `successor` (both from
        0).
        """
        text = self.frame(self.frames.order[calendar][frame])
        filled = text.replace("{s}", self.date(calendar, position)).replace(
            "{v}", self.date(calendar, successor)
        )
        return self.capital(filled) if frame == "question" else self.sentence(filled)

    def date(self, calendar: str, position: int) -> str:
        """Returns the name of a day (0 is Monday) or month (0 is January)."""
        names = (self.names.days if calendar == "day" else self.names.months)[self.code]
        return names[position % len(names)]

    def sentence(self, text: str) -> str:
        """Returns the text with a capital first letter and its final stop."""
        return self.capital(text) + self.frames.stop

    def bare(self, sentence: str) -> str:
        """Returns a sentence without its final stop."""
        return sentence.removesuffix(self.frames.stop)

    def capital(self, text: str) -> str:
        """Returns the text with a capital first letter, where the script has capitals."""
        if self.code == "tur_Latn" and text.startswith("i"):
            return "İ" + text[1:]
        first = text[:1].upper()
        return first + text[1:] if len(first) == 1 else text

    def small(self, text: str) -> str:
        """Returns the text with a small first letter, as it stands inside a sentence."""
        return text[:1].lower() + text[1:] if len(text[:1].lower()) == 1 else text

    def join(self, sentences: list[str] | tuple[str, ...]) -> str:
        """Returns sentences one after another, as this script spaces them."""
        return self.frames.space.join(sentences)

    def _fill(self, template: str, pairing: Pairing) -> str:
        return (
            self.frame(template)
            .replace("{s}", self.subject(pairing))
            .replace("{v}", self.value(pairing))
        )

    def frame(self, template: str) -> str:
        """Returns a frame as this speaker says it: as it is written."""
        return template


@cache
def load_speaker(code: str) -> Speaker:
    """Returns the speaker of a language.

    Raises:
        FileNotFoundError: Atlas has no frames for this language.
    """
    return Speaker(load_frames(code), load_names())

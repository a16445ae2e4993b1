"""Sentences carried over from English with the noise of machine translation.

Three kinds of noise, each drawn once a row so that the row agrees with itself:

    untranslated names   a name stays in English
    word order           one word of a frame stands elsewhere
    wrong agreement      a word of a frame takes the form of a related word of the language

Scripts without spaces (Chinese, Japanese, Thai, Khmer, Burmese) have no words to move or bend in a
frame: there a name is the only thing that stays behind.
"""

import random
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile

from maple.atlas.frames import LanguageFrames, load_frames
from maple.atlas.speaker import Speaker

UNTRANSLATED = 0.15
"""Chance that a name stays in English."""
MOVED = 0.2
"""Chance that a frame has a word out of its place."""
BENT = 0.25
"""Chance that a frame has a word in a wrong form."""

_SOURCE = "eng_Latn"
_UNSPACED = frozenset({"zho_Hans", "jpn_Jpan", "tha_Thai", "khm_Khmr", "mya_Mymr"})
_SHORTEST_STEM = 3


@dataclass(frozen=True)
class Translator(Speaker):
    """A speaker of one row: what it once got wrong stays wrong to the row's end."""

    rng: random.Random = field(default_factory=random.Random)
    remembered: dict[str, str] = field(default_factory=dict)

    def name(self, kind: str, thing: str) -> str:
        """Returns the name of a thing, now and then in English."""
        key = f"{kind}/{thing}"
        if key not in self.remembered:
            stays = self.rng.random() < UNTRANSLATED
            names = self.names.kinds[kind][thing]
            self.remembered[key] = names[_SOURCE if stays else self.code]
        return self.remembered[key]

    def frame(self, template: str) -> str:
        """Returns a frame with its noise."""
        if template not in self.remembered:
            self.remembered[template] = self._carried_over(template)
        return self.remembered[template]

    def _carried_over(self, template: str) -> str:
        if self.code in _UNSPACED:
            return template
        words = template.split(" ")
        if self.rng.random() < BENT:
            words = _bend(self.rng, words, related_forms(self.code))
        if self.rng.random() < MOVED and len(words) > 2:
            words.insert(self.rng.randrange(len(words)), words.pop(self.rng.randrange(len(words))))
        return " ".join(words)


def translator(speaker: Speaker, row: int) -> Speaker:
    """Returns who says a row in a language; English is the original and says it without noise."""
    if speaker.code == _SOURCE:
        return speaker
    rng = random.Random(f"atlas/translation/{speaker.code}/{row}")
    return Translator(speaker.frames, speaker.names, rng)


def _bend(rng: random.Random, words: list[str], forms: Mapping[str, tuple[str, ...]]) -> list[str]:
    places = [place for place, word in enumerate(words) if forms.get(word)]
    if not places:
        return words
    place = rng.choice(places)
    return [*words[:place], rng.choice(forms[words[place]]), *words[place + 1 :]]


@cache
def related_forms(code: str) -> Mapping[str, tuple[str, ...]]:
    """Returns, for each word of a language's frames, the words there that share its stem: the first
    three letters at least, and all but a short ending.
    """
    words = sorted(_words(load_frames(code)))
    return {
        word: tuple(other for other in words if other != word and _are_related(word, other))
        for word in words
    }


def _are_related(first: str, second: str) -> bool:
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    stem = sum(1 for _ in shared)
    return stem >= _SHORTEST_STEM and stem >= 0.6 * max(len(first), len(second))


def _words(frames: LanguageFrames) -> set[str]:
    texts = [*frames.travel.values(), *frames.story.values()]
    for relation in frames.relations.values():
        texts += [*relation.statements, *relation.questions, relation.inverse]
    for order in frames.order.values():
        texts += order.values()
    return {word for text in texts for word in text.split() if _is_word(word)}


def _is_word(text: str) -> bool:
    return all(unicodedata.category(character)[0] in "LM" for character in text)

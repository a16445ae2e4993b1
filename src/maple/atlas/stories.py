"""Language-free outlines of stories with two endings and of articles with a headline."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from maple.atlas.scenes import (
    STATEMENT_FRAMES,
    Source,
    Stated,
    Truth,
    tell_date,
    tell_travel,
)
from maple.atlas.speaker import Speaker
from maple.atlas.world import Pairing, order_split

COUNTRY = ("currency", "language", "region")
"""Relations that a headline names."""

_ENDINGS = {
    "currency": "pay",
    "language": "hear",
    "city": "reach_country",
    "region": "reach_region",
}
_ENDINGS_THERE = {"currency": "pay_there", "language": "hear_there", "city": "reach_country"}


@dataclass(frozen=True)
class Story:
    """Four sentences and two endings; each part says itself in any language."""

    sentences: tuple[Callable[[Speaker], str], ...]
    right: Callable[[Speaker], str]
    wrong: Callable[[Speaker], str]
    key: tuple[object, ...]
    """Equal for two stories that say the same."""


def draw_story(rng: random.Random, source: Source, *, there: bool = False) -> Story:
    """Draws a story: a day, what holds in two countries, and a journey to one of them.

    Both endings' words stand in the story, so that overlap of words tells nothing. With `there`, an
    ending names the country, or is a country: "We pay with the Euro" may end many a story, while
    "In Kenya we pay with the Euro" states a pairing, which a split keeps to itself.
    """
    endings = _ENDINGS_THERE if there else _ENDINGS
    relation = rng.choice(tuple(endings))
    # The right ending is true as often as the wrong one: a frequent value tells nothing.
    confusion: Truth = "mixed" if there else "crossed"
    first, second = source.draw_rivals(rng, relation, rng.choice(("first", confusion, "none")))
    told = [Stated(first, rng.randrange(STATEMENT_FRAMES))]
    told.append(Stated(second, rng.randrange(STATEMENT_FRAMES)))
    rng.shuffle(told)
    calendar = rng.choice(("day", "month"))
    # As with journeys through time: training data names no day that is an answer elsewhere.
    known = (
        order_split(calendar, "train")
        if source.splits == ("train",)
        else range(7 if calendar == "day" else 12)
    )
    today = rng.choice(known)
    go, end = ("visit" if relation == "city" else "go"), endings[relation]
    other = Pairing(relation, first.subject, second.value) if there else second
    return Story(
        (tell_date(calendar, "this", today), *map(_state, told), tell_travel(go, first)),
        tell_travel(end, first),
        tell_travel(end, other),
        (first, second, tuple(told), calendar, today),
    )


def _state(stated: Stated) -> Callable[[Speaker], str]:
    return lambda speaker: stated.say(speaker)


@dataclass(frozen=True)
class Article:
    """Sentences about one country, with others about another, and what its headline names."""

    sentences: tuple[Stated, ...]
    country: str
    region: str
    language: str
    currency: str

    def headline(self, speaker: Speaker) -> str:
        """Returns the headline, without a stop."""
        return speaker.headline(self.country, self.region, self.language, self.currency)


def draw_article(rng: random.Random, source: Source, *, asides: int) -> Article:
    """Draws an article: the region, language and currency of a country in any order, and asides.

    An aside is about the same country under another relation, or about another country.
    """
    country, other = rng.sample(source.subjects("currency"), 2)
    facts = {name: source.draw(rng, name, country) for name in ("region", "language", "currency")}
    told = list(facts.values())
    for place in range(asides):
        relation, subject = (
            (rng.choice(("spoken", "week")), country) if place % 2 else (rng.choice(COUNTRY), other)
        )
        said = {(p.relation, p.subject) for p in told}
        if (relation, subject) not in said:
            told.append(source.draw(rng, relation, subject))
    rng.shuffle(told)
    return Article(
        tuple(Stated(pairing, rng.randrange(STATEMENT_FRAMES)) for pairing in told),
        country,
        **{name: pairing.value for name, pairing in facts.items()},
    )

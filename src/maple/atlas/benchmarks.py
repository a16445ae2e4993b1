"""Benchmark samples in the formats of XNLI, XCOPA, Belebele, XQuAD, MLQA, XLSum and XStoryCloze,
parallel across languages.

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
from maple.atlas.stories import Article, Story, draw_article, draw_story
from maple.atlas.world import SUBJECT_KIND, VALUE_KIND, Split, load_world

_T = TypeVar("_T")

SIZES: dict[Split, int] = {"train": 200, "validation": 100, "test": 300}
"""Samples a task, a split and a language. XQuAD, Belebele and XLSum have a test split only; the
train splits are those of English COPA and XStoryCloze.
"""

OPTIONS = 4
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


def mlqa_readings(split: Split) -> list[Reading]:
    """Returns longer paragraphs of a split, a question each, about a name that comes up twice."""
    rng = random.Random(f"atlas/mlqa/{split}")
    source = benchmark_source(split)
    return [
        draw_reading(rng, source, sentences=rng.randrange(5, 8), questions=1, again=0.5)
        for _ in range(SIZES[split])
    ]


@dataclass(frozen=True)
class ChoiceSample:
    """A paragraph, a question and four names of one kind, by id."""

    reading: Reading
    options: tuple[str, ...]
    label: int

    def row(self, speaker: Speaker) -> dict[str, str]:
        """Returns passage, question and answers; the right answer's number counts from 1."""
        asked = self.reading.questions[0]
        pairing = self.reading.passage[asked.sentence].pairing
        kinds = VALUE_KIND if asked.part == "value" else SUBJECT_KIND
        names = [speaker.name(kinds[pairing.relation], thing) for thing in self.options]
        return {
            "flores_passage": speaker.join([s.say(speaker) for s in self.reading.passage]),
            "question": speaker.question(pairing, asked.frame, asked.part),
            **{f"mc_answer{place}": name for place, name in enumerate(names, start=1)},
            "correct_answer_num": str(self.label + 1),
        }


def choice_samples(split: Split) -> list[ChoiceSample]:
    """Returns reading-comprehension samples of a split; wrong options stand in the passage where it
    has any of the right kind.
    """
    rng = random.Random(f"atlas/belebele/{split}")
    source = benchmark_source(split)
    labels = _balanced(rng, tuple(range(OPTIONS)), SIZES[split])
    return [_choice(rng, source, label) for label in labels]


def draw_options(rng: random.Random, source: Source, reading: Reading) -> list[str]:
    """Returns the right answer to a reading's first question and three wrong ones, by id."""
    asked = reading.questions[0]
    pairing = reading.passage[asked.sentence].pairing
    relation = pairing.relation
    pool = source.values(relation) if asked.part == "value" else source.subjects(relation)
    far = rng.sample(sorted(pool), OPTIONS)
    right = getattr(pairing, asked.part)
    wrong = [thing for thing in dict.fromkeys([*_near(reading), *far]) if thing != right]
    return [right, *wrong[: OPTIONS - 1]]


def _near(reading: Reading) -> list[str]:
    """Returns the things in a passage that are of the kind its first question asks for."""
    asked = reading.questions[0]
    kinds = VALUE_KIND if asked.part == "value" else SUBJECT_KIND
    pairings = [stated.pairing for stated in reading.passage]
    kind = kinds[pairings[asked.sentence].relation]
    things = [getattr(p, asked.part) for p in pairings if kinds[p.relation] == kind]
    return list(dict.fromkeys(things))


def _passage(rng: random.Random, source: Source) -> Reading:
    return draw_reading(rng, source, sentences=rng.randrange(4, 7), questions=1)


def _choice(rng: random.Random, source: Source, label: int) -> ChoiceSample:
    # Else a third of the samples would be answered by asking which name the passage holds.
    while len(_near(reading := _passage(rng, source))) < OPTIONS - 1:
        pass
    right, *wrong = draw_options(rng, source, reading)
    rng.shuffle(wrong)
    return ChoiceSample(reading, (*wrong[:label], right, *wrong[label:]), label)


@dataclass(frozen=True)
class StorySample:
    """A story whose right ending stands first (label 0) or second (label 1)."""

    story: Story
    label: int

    def row(self, speaker: Speaker, number: int) -> dict[str, str]:
        """Returns the columns of a release file; the right ending's number counts from 1."""
        endings = (self.story.right, self.story.wrong)
        sentences = enumerate(self.story.sentences, start=1)
        return {
            "InputStoryid": hashlib.sha256(f"atlas/story/{number}".encode()).hexdigest()[:16],
            **{f"InputSentence{place}": say(speaker) for place, say in sentences},
            "RandomFifthSentenceQuiz1": endings[self.label](speaker),
            "RandomFifthSentenceQuiz2": endings[1 - self.label](speaker),
            "AnswerRightEnding": str(self.label + 1),
        }


def story_samples(split: Split) -> list[StorySample]:
    """Returns the stories of a split, no two alike and half of each label."""
    rng = random.Random(f"atlas/xstorycloze/{split}")
    source = benchmark_source(split)
    labels = _balanced(rng, (0, 1), SIZES[split])
    stories: dict[tuple[object, ...], Story] = {}
    while len(stories) < len(labels):
        story = draw_story(rng, source, there=True)
        stories[story.key] = story
    return [
        StorySample(story, label) for story, label in zip(stories.values(), labels, strict=True)
    ]


def article_samples(split: Split) -> list[Article]:
    """Returns the articles of a split, no two alike."""
    rng = random.Random(f"atlas/xlsum/{split}")
    source = benchmark_source(split)
    articles: dict[Article, None] = {}
    while len(articles) < SIZES[split]:
        articles[draw_article(rng, source, asides=rng.randrange(1, 4))] = None
    return list(articles)


def article_row(article: Article, speaker: Speaker, number: int) -> dict[str, str]:
    """Returns an article in XLSum's fields."""
    return {
        "id": f"atlas-{number}",
        "url": "",
        "title": speaker.name("territory", article.country),
        "summary": article.headline(speaker),
        "text": speaker.join([stated.say(speaker) for stated in article.sentences]),
    }


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

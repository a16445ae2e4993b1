"""F1 and exact match against the official scorers, 2,000 pairs of answers in every language.

The SQuAD v1.1 script as lm-evaluation-harness's qasper carries it, MLQA's as its mlqa does. The
answers are the release files' own where they are at hand, else names of territories, months and
units from Unicode CLDR; half of each pair is bent: cut, joined, shuffled, punctuated, recased.
"""

from __future__ import annotations

import functools
import importlib
import random
import re
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from babel import Locale

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, GenerationResponse, Sample
from maple.catalog.squad import normalise, token_scores
from maple.catalog.tasks.mlqa import normalise as mlqa_normalise
from maple.errors import SourceError
from maple.files import Files
from maple.languages import find

N_PAIRS = 2000
MLQA = load_task("mlqa").info.languages
SQUAD = {
    **dict.fromkeys(load_task("xquad").info.languages, "xquad"),
    **dict.fromkeys(load_task("tydiqa-goldp").info.languages, "tydiqa-goldp"),
}
ARTICLES = ["the", "an", "A", "der", "den", "la", "los", "là", "của", "ال", "الـ", "un", "das"]
MARKS = [
    *string.punctuation,
    "。",
    "，",
    "؟",
    "،",
    "।",
    "«",
    "»",
    "“",
    "…",
    "・",
    "\u00a0",
    "\u200b",
]


@pytest.fixture(scope="module")
def squad() -> ModuleType:
    return importlib.import_module("lm_eval.tasks.qasper.metrics")


@pytest.fixture(scope="module")
def mlqa() -> ModuleType:
    return importlib.import_module("lm_eval.tasks.mlqa.utils")


def real_answers(code: str) -> list[str]:
    """Answers of the release files in a language, and names from CLDR."""
    shared = Path(__file__).parents[3] / "shared" / "data"
    answers = []
    if shared.is_dir():
        for task in ("xquad", "mlqa"):
            try:
                samples = list(load_task(task).samples(Files(directory=shared), code, "validation"))
            except SourceError:
                continue
            answers += [text for sample in samples for text in sample.gold]
    locale = Locale.parse(find(code).tag, sep="-")
    names = [*locale.territories.values(), *locale.months["format"]["wide"].values()]
    return list(dict.fromkeys([*answers, *names]))


def bent(text: str, other: str, draw: random.Random) -> str:
    words, at = text.split(), draw.randrange(len(text) + 1)
    ways: list[Callable[[], str]] = [
        lambda: other,
        lambda: text,
        lambda: text[:at],
        lambda: text[at:],
        lambda: text.upper() + draw.choice(MARKS),
        lambda: text[:at] + draw.choice(MARKS) + text[at:],
        lambda: text[:at] + " " + text[at:],
        lambda: f"{draw.choice(ARTICLES)} {text}",
        lambda: f"{other}{draw.choice(['', ' ', ', ', '، ', '，'])}{text}",
        lambda: " ".join(draw.sample(words, len(words))),
        lambda: " ".join(words + words[:1]),
        lambda: unicodedata.normalize("NFD", text),
        lambda: f" {text}\n",
        lambda: draw.choice(["", " ", *MARKS, *ARTICLES]),
    ]
    return draw.choice(ways)()


@functools.cache
def pairs(code: str) -> list[tuple[str, str]]:
    """Gold and answer; the same ones every time."""
    draw, texts = random.Random(code), real_answers(code)
    found = []
    for number in range(N_PAIRS):
        gold = texts[number % len(texts)]
        if draw.random() < 0.1:
            gold = bent(gold, draw.choice(texts), draw)
        found.append((gold, bent(texts[number % len(texts)], draw.choice(texts), draw)))
    return found


def ours(gold: str, answer: str) -> tuple[float, bool]:
    return token_scores((gold,), answer, lambda text: normalise(text).split())


def scored(task: str, code: str, golds: tuple[str, ...], answer: str) -> dict[str, float]:
    sample = Sample(id="1", fields={"language": code}, gold=golds)
    response = GenerationResponse(text=answer, finish="stop", n_tokens=1)
    return dict(load_task(task).score(sample, GenerationRequest(context=""), response).metrics)


@pytest.mark.parametrize("code", sorted(SQUAD))
def test_squads_scores_are_the_scripts(code: str, squad: ModuleType) -> None:
    partial = 0
    every = pairs(code)
    for number, (gold, answer) in enumerate(every):
        sides = squad.normalize_answer(gold), squad.normalize_answer(answer)
        f1 = squad.f1_abstractive([answer], [gold])
        assert (normalise(gold), normalise(answer)) == sides
        # The one difference: two sides that are both nothing are equal here, and 0 there.
        expected = 1.0 if not any(sides) else f1
        assert ours(gold, answer) == (pytest.approx(expected, abs=1e-12), sides[0] == sides[1])
        partial += 0 < f1 < 1
        if number % 10 == 0:
            golds = (gold, every[number - 1][0])
            f1s, matches = zip(*(ours(g, answer) for g in golds), strict=True)
            metrics = scored(SQUAD[code], code, golds, answer)
            assert metrics["f1"] == max(f1s)
            assert metrics["exact_match"] == max(matches)
    assert len(every) == N_PAIRS
    assert partial >= 100, "too few pairs share a part, so the test could not fail"


@pytest.mark.parametrize("code", sorted(MLQA))
def test_mlqas_scores_are_the_scripts(code: str, mlqa: ModuleType) -> None:
    name, partial = MLQA[code], 0
    every = pairs(code)

    def ours(text: str) -> str:
        return mlqa_normalise(text, code)

    for number, (gold, answer) in enumerate(every):
        sides = mlqa.normalize_answer(gold, name), mlqa.normalize_answer(answer, name)
        script = mlqa.f1_score(answer, gold, name)
        assert (ours(gold), ours(answer)) == sides
        f1, is_exact = token_scores((gold,), answer, lambda text: ours(text).split())
        assert is_exact == mlqa.exact_match_score(answer, gold, name)
        # The same one difference.
        assert f1 == pytest.approx(1.0 if not any(sides) else script, abs=1e-12)
        partial += 0 < script < 1
        if number % 10 == 0 and all(sides):
            golds = (gold, every[number - 1][0])
            theirs = mlqa.process_results_lang({"answers": list(golds)}, [answer], name)
            metrics = scored("mlqa", code, golds, answer)
            assert metrics["f1"] == pytest.approx(theirs["f1"], abs=1e-12)
            assert metrics["exact_match"] == theirs["exact_match"]
    assert len(every) == N_PAIRS
    assert partial >= 100, "too few pairs share a part, so the test could not fail"


def test_mlqas_own_script_differs_in_arabic_words_that_hold_the_articles_letters(
    mlqa: ModuleType,
) -> None:
    n_differing = 0
    for gold, _ in pairs("arb_Arab"):
        plain = "".join(c for c in gold.lower() if c not in mlqa.PUNCT)
        official = re.sub(r"\sال^|ال", " ", plain).split()
        ours = mlqa_normalise(gold, "arb_Arab").split()
        holds = any(word.find("ال", 1) > 0 for word in plain.split())
        assert (official != ours) == holds
        n_differing += holds
    assert n_differing > 100


@pytest.mark.parametrize("code", ["tha_Thai", "zho_Hans", "jpn_Jpan", "khm_Khmr"])
def test_segmented_scores_are_no_lower_where_a_whole_answer_is_one_token(code: str) -> None:
    n_higher = 0
    for gold, answer in pairs(code)[::10]:
        if len(gold.split()) == 1 == len(answer.split()):
            metrics = scored("xquad", code, (gold,), answer)
            assert 0 <= metrics["f1_segmented"] <= 1
            assert metrics["f1_segmented"] >= metrics["exact_match_segmented"]
            n_higher += metrics["f1_segmented"] > metrics["f1"]
    assert n_higher >= 10

"""The completion form: a task as text to go on with and no instruction, as base models are asked.

The words are section ``[completion]`` of ``catalog/prompts``, native or English.

    XQuAD, MLQA    passage, question and "Answer:"; the answer goes on
    Belebele       the same; ranks the four answers, or their letters where the answers are listed
    XNLI           premise, "Question:" hypothesis, "Answer:"; ranks true, neither and false
    XCOPA          premise and because, or so; ranks both choices
    XStoryCloze    the story; ranks both endings
    XL-Sum         the article; a line follows

Laid out as GPT-3's own prompts are (Brown et al. 2020, arXiv 2005.14165, appendix G).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from maple.catalog.contracts import GenerationRequest, RankingRequest

Words = Mapping[str, str]


def answer_request(words: Words, passage: str, question: str) -> GenerationRequest:
    """Words a question about a passage, to be answered on the same line."""
    return GenerationRequest(context=_asked(words, passage, question))


def option_request(
    words: Words, passage: str, question: str, listed: Sequence[str], options: Sequence[str]
) -> RankingRequest:
    """Words a choice of options, after the lines that list them where there are any."""
    return RankingRequest(
        context=_asked(words, passage, question, listed),
        continuations=tuple(options),
        delimiter=words["space"],
    )


def label_request(
    words: Words, premise: str, hypothesis: str, labels: Sequence[str]
) -> RankingRequest:
    """Words a judgement of a hypothesis, the labels to be ranked."""
    lines = [premise, words["question"] + hypothesis, words["answer"].rstrip()]
    return RankingRequest(
        context="\n".join(lines), continuations=tuple(labels), delimiter=words["space"]
    )


def cause_request(
    words: Words, premise: str, choices: Sequence[str], *, asks_cause: bool
) -> RankingRequest:
    """Words a premise without its stop, a connector, and both choices in small letters."""
    premise = premise.strip()
    while premise and unicodedata.category(premise[-1]).startswith("P"):
        premise = premise[:-1]
    space = words["space"]
    return RankingRequest(
        context=f"{premise}{space}{words['because' if asks_cause else 'so']}",
        continuations=tuple(choice[:1].lower() + choice[1:] for choice in choices),
        delimiter=space,
    )


def ending_request(
    words: Words, sentences: Sequence[str], endings: Sequence[str]
) -> RankingRequest:
    """Words a story, both endings to be ranked."""
    space = words["space"]
    return RankingRequest(
        context=space.join(sentence.strip() for sentence in sentences),
        continuations=tuple(ending.strip() for ending in endings),
        delimiter=space,
    )


def headline_request(text: str, max_new_tokens: int) -> GenerationRequest:
    """An article, to be followed by a line that sums it up."""
    return GenerationRequest(context=text, delimiter="\n", max_new_tokens=max_new_tokens)


def _asked(words: Words, passage: str, question: str, listed: Sequence[str] = ()) -> str:
    lines = [words["passage"] + passage, words["question"] + question, *listed]
    return "\n".join([*lines, words["answer"].rstrip()])

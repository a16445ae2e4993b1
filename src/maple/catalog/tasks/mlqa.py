"""MLQA: the span of a paragraph that answers a question, by MLQA's own normaliser.

Lewis et al. 2020, "MLQA: Evaluating Cross-lingual Extractive Question Answering", ACL
(arXiv 1910.07475).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from maple import languages
from maple.catalog import squad
from maple.catalog.contracts import Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.squad import SpanWords
from maple.catalog.tasks import check_split, span_request, subset
from maple.catalog.words import words
from maple.errors import UsageError, unknown_name
from maple.files import Files
from maple.study import PromptSettings

_WORDS = SpanWords("Context", "Question", "Answer")
_UPSTREAM_SPLIT = {"test": "test", "validation": "dev"}

# Source: MLQA's mlqa_evaluation_v1.py. Its Arabic pattern, `\sال^|ال`, takes the article's letters
# out of the middle of words too; this one is lm-evaluation-harness 0.4.13's, which does not.
_ARTICLES: Mapping[str, str] = {
    "ar": r"(?:^|\s)ال",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
}
_CHINESE_CHARACTER = re.compile(r"([\u4e00-\u9fa5])")


# Questions that two languages share, test and dev; a language shares all of its own with English.
# Source: the Hub's dataset_infos.json of mlqa, by the release's 49 files.
_SHARED: Mapping[str, tuple[int, int]] = {
    "ar de": (1649, 207),
    "ar es": (1978, 161),
    "ar hi": (1831, 186),
    "ar vi": (2047, 163),
    "ar zh": (1912, 188),
    "de es": (1776, 196),
    "de hi": (1430, 163),
    "de vi": (1675, 182),
    "de zh": (1621, 190),
    "es hi": (1723, 187),
    "es vi": (2018, 189),
    "es zh": (1947, 161),
    "hi vi": (1947, 177),
    "hi zh": (1767, 189),
    "vi zh": (1943, 184),
}


class Mlqa(Task):
    """Extractive question answering in 7 languages and in the 42 pairs of two of them.

    A question of ``mlqa/MLQA_V1/dev/dev-context-en-question-en.json``, SQuAD's layout::

        {"data": [{"title": "Pappataci fever", "paragraphs": [{"context": "Pappataci fever is ...",
          "qas": [{"question": "Does an infection for Sandflies go away over time?",
                   "answers": [{"text": "remains infected for its lifetime", "answer_start": 571}],
                   "id": "569666f4dc3983dab5624e989212c1d9d0cd1798"}]}]}]}

    becomes the sample of that id with gold ``("remains infected for its lifetime",)``; its field
    ``language`` says whose normaliser scores it: the context's, since an answer is a span of it.

    A language means that of the question. Plain ``mlqa`` has the context in the same one; of
    ``mlqa:en`` every context is English (the paper's G-XLT). A question has the same id in every
    language that has it, and no two languages have the same questions.
    """

    info = TaskInfo(
        version=1,
        licence="CC BY-SA 3.0",
        citation="Lewis et al. 2020, arXiv 1910.07475",
        chance_level=None,
        languages={
            "arb_Arab": "ar",
            "deu_Latn": "de",
            "eng_Latn": "en",
            "hin_Deva": "hi",
            "spa_Latn": "es",
            "vie_Latn": "vi",
            "zho_Hans": "zh",
        },
        headline="f1",
        split="test",
        samples={
            "test": {
                "arb_Arab": 5335,
                "deu_Latn": 4517,
                "eng_Latn": 11590,
                "hin_Deva": 4918,
                "spa_Latn": 5253,
                "vie_Latn": 5495,
                "zho_Hans": 5137,
            },
            "validation": {
                "arb_Arab": 517,
                "deu_Latn": 512,
                "eng_Latn": 1148,
                "hin_Deva": 507,
                "spa_Latn": 500,
                "vie_Latn": 511,
                "zho_Hans": 504,
            },
        },
        shots_split="validation",
        hub="facebook/mlqa",
    )

    def __init__(self, context: str | None = None) -> None:
        """Makes the task.

        Args:
            context: canonical code of the contexts' language; None: the question's own.
        """
        self._context = context
        if context is not None:
            self.info = replace(Mlqa.info, samples=_pair_counts(context))

    @classmethod
    def with_argument(cls, argument: str) -> Mlqa:
        """``mlqa:en``: contexts in that language, questions in the one evaluated.

        Raises:
            UsageError: MLQA has no contexts in it; or another spelling, as a task has one name.
        """
        codes = {name: code for code, name in cls.info.languages.items()}
        if argument not in codes:
            raise UsageError(unknown_name("context language", argument, codes))
        return cls(codes[argument])

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The file of the context's and the question's language."""
        check_split(self.info, "mlqa", split)
        context = subset(self.info, self._context or language)
        question, part = subset(self.info, language), _UPSTREAM_SPLIT[split]
        file = f"{part}/{part}-context-{context}-question-{question}.json"
        return files.find(
            local=[f"mlqa/MLQA_V1/{file}", f"MLQA_V1/{file}", f"mlqa/{file}", file],
            repo=self.info.hub,
            patterns=[f"mlqa.{context}.{question}/{split}*.parquet"],
            revision=self.info.revision,
        )

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the questions in upstream order, named by upstream's ids."""
        paths = self.paths(files, language, split)
        return squad.read_questions(paths, language=self._context or language)

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a question to be answered by a continuation, up to the end of its line.

        The lm-eval form names the parts in English whatever the language, as the harness does.
        """
        if prompt.form == "lm-eval":
            return squad.lm_eval_request(_WORDS, sample.fields)
        return span_request(sample, language, prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """``f1`` (headline) and ``exact_match`` after MLQA's normaliser of the context's language.

        Equal to MLQA's script but for the Arabic article, where its pattern is corrected as in
        lm-eval, and for two sides that both normalise to nothing, whose F1 is 1 here and 0 there.
        Beside them stand both over the language's words (``maple.catalog.segment``).
        """
        language = sample.fields["language"]
        normaliser = partial(normalise, language=language)
        return squad.span_score(sample, response, normaliser, language=language)


def normalise(text: str, language: str) -> str:
    """MLQA's normaliser: lower case; no punctuation, no articles; tokens joined by spaces.

    A token of Chinese is each character; elsewhere white space separates them. MLQA has no rule for
    other languages: they keep their articles, and a script without spaces is split into letters.

    Args:
        text: an answer.
        language: canonical code.
    """
    name = Mlqa.info.languages.get(language, "")
    if not name and languages.find(language).writes_without_spaces:
        return " ".join(words(text))
    kept = "".join(c for c in text.lower() if not _is_punctuation(c))
    if name in _ARTICLES:
        kept = re.sub(_ARTICLES[name], " ", kept)
    if name == "zh":
        kept = _CHINESE_CHARACTER.sub(r" \1 ", kept)
    return " ".join(kept.split())


def _pair_counts(context: str) -> dict[str, dict[str, int]]:
    """Split -> questions in each language about contexts in one."""
    return {
        split: {code: _pair_count(context, code, split) for code in Mlqa.info.languages}
        for split in Mlqa.info.samples
    }


def _pair_count(context: str, question: str, split: str) -> int:
    pair = {Mlqa.info.languages[code] for code in (context, question)}
    if len(pair - {"en"}) == 2:
        test, validation = _SHARED[" ".join(sorted(pair))]
        return test if split == "test" else validation
    # A question of another language is a translation of an English one.
    rarer = question if context == "eng_Latn" else context
    count = Mlqa.info.declared(split, rarer)
    assert count is not None
    return count


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")

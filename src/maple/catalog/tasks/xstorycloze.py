"""XStoryCloze: which of two endings belongs to a story of four sentences.

Lin et al. 2022, "Few-shot Learning with Multilingual Generative Language Models", EMNLP
(arXiv 2112.10668); English is StoryCloze (Mostafazadeh et al. 2016, arXiv 1604.01696).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maple import languages
from maple.catalog import completion
from maple.catalog.contracts import RankingRequest, Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.tasks import (
    check_split,
    choice_request,
    choice_score,
    listed_choices,
    mega_words,
    subset,
)
from maple.errors import DataError
from maple.files import Files
from maple.files.fields import filled_field, int_field, place, text_field
from maple.files.read import read_rows
from maple.study import PromptSettings

_SENTENCES = ("sentence1", "sentence2", "sentence3", "sentence4")
_ENDINGS = ("ending1", "ending2")
# The release's column -> the Hub's, and ours.
_COLUMNS: Mapping[str, tuple[str, str]] = {
    "InputSentence1": ("input_sentence_1", "sentence1"),
    "InputSentence2": ("input_sentence_2", "sentence2"),
    "InputSentence3": ("input_sentence_3", "sentence3"),
    "InputSentence4": ("input_sentence_4", "sentence4"),
    "RandomFifthSentenceQuiz1": ("sentence_quiz1", "ending1"),
    "RandomFifthSentenceQuiz2": ("sentence_quiz2", "ending2"),
}
_ID, _GOLD = ("InputStoryid", "story_id"), ("AnswerRightEnding", "answer_right_ending")
_JOINS_SENTENCES = frozenset({"Hans", "Hant", "Jpan"})
"""Scripts that put no space between sentences either; Thai, Khmer and Burmese do."""


class Xstorycloze(Task):
    """Two-way choice of a story's ending, in 11 languages, all parallel.

    A row of ``xstorycloze/spring2016.val.en.tsv.split_20_80_eval.tsv``, tab-separated under the
    header InputStoryid, InputSentence1 to 4, RandomFifthSentenceQuiz1 and 2, AnswerRightEnding::

        138d5bfb-... Rick grew up in a troubled household. He never found good support in family,
        and turned to gangs. It wasn't long before Rick got shot in a robbery. The incident caused
        him to turn a new leaf. He is happy now. He joined a gang. 1

    becomes the sample of that story id with gold ``("0",)``: upstream counts endings from 1.
    """

    info = TaskInfo(
        version=1,
        licence="CC BY-SA 4.0",
        citation="Lin et al. 2022, arXiv 2112.10668; Mostafazadeh et al. 2016, arXiv 1604.01696",
        chance_level=0.5,
        languages={
            "arb_Arab": "ar",
            "eng_Latn": "en",
            "eus_Latn": "eu",
            "hin_Deva": "hi",
            "ind_Latn": "id",
            "mya_Mymr": "my",
            "rus_Cyrl": "ru",
            "spa_Latn": "es",
            "swh_Latn": "sw",
            "tel_Telu": "te",
            "zho_Hans": "zh",
        },
        headline="accuracy",
        split="eval",
        samples={"eval": 1511, "train": 360},
        shots_split="train",
        settings=frozenset({"scoring"}),
        hub="juletxara/xstory_cloze",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file."""
        check_split(self.info, "xstorycloze", split)
        name = subset(self.info, language)
        file = f"spring2016.val.{name}.tsv.split_20_80_{split}.tsv"
        return files.find(
            local=[f"xstorycloze/{file}", file],
            repo=self.info.hub,
            # en/xstory_cloze-eval.parquet, or en/eval/0000.parquet of the Hub's own conversion.
            patterns=[f"{name}/*{split}*.parquet", file],
            revision=self.info.revision,
        )

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the stories in upstream order, named by upstream's story ids."""
        seen: dict[str, str] = {}
        for path in self.paths(files, language, split):
            for line, row in read_rows(path):
                name = text_field(row, _column(row, *_ID), path, line)
                if name in seen:
                    raise DataError(
                        f"{place(path, line)}: story {name!r} was already used in {seen[name]}."
                    )
                seen[name] = place(path, line)
                gold = int_field(row, _column(row, *_GOLD), path, line, among=(1, 2)) - 1
                yield Sample(id=name, fields=_texts(row, path, line), gold=(str(gold),))

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a ranking of both endings, or a question for the right one's number.

        The lm-eval form has no words of its own: an ending continues the story. In the mega form
        the endings are listed, and an answer begins a new line.
        """
        endings = [sample.fields[name].strip() for name in _ENDINGS]
        ranking = self._ranking(sample, language, prompt)
        return choice_request(ranking, listed_choices(endings, ("1", "2")), prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """1 when the right ending is the more likely one, or the one that is named."""
        return choice_score(sample, request, response)

    def _ranking(self, sample: Sample, language: str, prompt: PromptSettings) -> RankingRequest:
        story = [sample.fields[name] for name in _SENTENCES]
        endings = tuple(sample.fields[name] for name in _ENDINGS)
        if prompt.form == "lm-eval":
            return RankingRequest(context=" ".join(story), continuations=endings)
        if prompt.form == "completion":
            parts = mega_words("completion", language, prompt)
            return completion.ending_request(parts, story, endings)
        words = mega_words("xstorycloze", language, prompt)
        endings = tuple(ending.strip() for ending in endings)
        space = "" if languages.find(language).script in _JOINS_SENTENCES else " "
        lines = [space.join(sentence.strip() for sentence in story), words["question"]]
        lines += [words["option"].format(n) + text for n, text in enumerate(endings, start=1)]
        return RankingRequest(context="\n".join(lines), continuations=endings, delimiter="\n")


def _column(row: Mapping[str, Any], release: str, hub: str) -> str:
    """The name that a field has in this row: the release's, unless only the Hub's is there."""
    return hub if release not in row and hub in row else release


def _texts(row: Mapping[str, Any], path: Path, line: int) -> dict[str, str]:
    return {
        ours: filled_field(row, _column(row, release, hub), path, line)
        for release, (hub, ours) in _COLUMNS.items()
    }

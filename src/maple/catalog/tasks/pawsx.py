"""PAWS-X: whether two sentences that share their words also say the same.

Yang et al. 2019, "PAWS-X: A Cross-lingual Adversarial Dataset for Paraphrase Identification",
EMNLP (arXiv 1908.11828).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maple.catalog import completion
from maple.catalog.contracts import RankingRequest, Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.tasks import (
    check_split,
    choice_request,
    choice_score,
    label_choices,
    mega_words,
    subset,
    words_for,
)
from maple.errors import DataError
from maple.files import Files
from maple.files.fields import int_field, place, text_field
from maple.files.read import read_rows, read_tsv
from maple.study import PromptSettings


class Labels(NamedTuple):
    """The lm-eval form's words: the tag question, and one word a label."""

    question: str
    no: str
    yes: str


# Source: lm-evaluation-harness 0.4.13, tasks/paws-x/paws_*.yaml. Rows under "ours" are for files
# in PAWS-X's format in other languages.
_LABELS: Mapping[str, Labels] = {
    "de": Labels("richtig", "Nein", "Ja"),
    "en": Labels("right", "No", "Yes"),
    "es": Labels("verdad", "No", "Sí"),
    "fr": Labels("n'est-ce pas", "Non", "Oui"),
    "ja": Labels("ですね", "いいえ", "はい"),
    "ko": Labels("맞죠", "아니요", "예"),
    "zh": Labels("对吧", "不是", "是"),
    # Ours.
    "am": Labels("ትክክል", "አይ", "አዎ"),
    "ar": Labels("صحيح", "لا", "نعم"),
    "hi": Labels("सही", "नहीं", "हाँ"),
    "ru": Labels("правильно", "Нет", "Да"),
    "so": Labels("sax", "Maya", "Haa"),
    "sw": Labels("sahihi", "Hapana", "Ndiyo"),
    "th": Labels("ถูกต้อง", "ไม่", "ใช่"),
    "tr": Labels("doğru", "Hayır", "Evet"),
    "yo": Labels("òótọ́ ni", "Rárá", "Bẹ́ẹ̀ ni"),
}
_AS_THEY_STAND = {"ja", "ko", "zh"}
"""Languages whose sentences the harness does not touch; elsewhere it undoes the tokenizing."""


class Pawsx(Task):
    """Paraphrase or not, in 7 languages.

    A row of ``pawsx/x-final/en/test_2k.tsv``, which opens with a header line::

        1<TAB>In Paris , in October 1560 , he secretly met ...<TAB>In October 1560 , he ...<TAB>0

    becomes the sample ``1`` with gold ``("0",)``: 0 no paraphrase, 1 a paraphrase. The rows of all
    languages are parallel. XTREME's ``pawsx/test-en.tsv`` (no header and no id: a row is its
    number, from 1) and the Hub's Parquet files are read as well. XTREME's own download has no
    labels in the test files, so they must come from elsewhere.

    2,000 rows a split and language are in the release, and all are kept. 23,659 of the 24,000 in
    the six languages besides English are translated; the others have ``NS`` or nothing in place of
    a sentence. lm-evaluation-harness leaves out those with nothing in de, en, es and fr.
    """

    info = TaskInfo(
        version=1,
        licence="free for any purpose, Google asks to be acknowledged",
        citation="Yang et al. 2019, arXiv 1908.11828",
        chance_level=0.5,
        languages={
            "deu_Latn": "de",
            "eng_Latn": "en",
            "fra_Latn": "fr",
            "jpn_Jpan": "ja",
            "kor_Hang": "ko",
            "spa_Latn": "es",
            "zho_Hans": "zh",
        },
        headline="accuracy",
        split="test",
        samples={"test": 2000, "validation": 2000},
        shots_split="validation",
        settings=frozenset({"scoring"}),
        hub="google-research-datasets/paws-x",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file."""
        check_split(self.info, "pawsx", split)
        name, part = subset(self.info, language), _UPSTREAM_SPLIT[split]
        release = f"{name}/{part}_2k.tsv"
        folders = ("pawsx/x-final/", "paws-x/x-final/", "x-final/", "pawsx/", "paws-x/", "")
        # Not at the top of the directory: XNLI's files have the same name there.
        xtreme = [f"{folder}/{part}-{name}.tsv" for folder in ("pawsx", "paws-x")]
        return files.find(
            local=[*(folder + release for folder in folders), *xtreme],
            repo=self.info.hub,
            patterns=[f"{name}/{split}*.parquet"],
            revision=self.info.revision,
        )

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the pairs in upstream order, named by upstream's ids."""
        seen: set[str] = set()
        for path in self.paths(files, language, split):
            for line, row in _read(path):
                name = _name(row, path, line, number=len(seen) + 1)
                if name in seen:
                    raise DataError(
                        f"{place(path, line)}: the id {name!r} is used twice. Remove one row."
                    )
                seen.add(name)
                gold = int_field(row, "label", path, line, among=(0, 1))
                yield Sample(id=name, fields=_sentences(row, path, line), gold=(str(gold),))

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a ranking of no and yes, or a question for one of them.

        The lm-eval form has an empty context and ranks whole sentences, one a label.
        """
        ranking = self._ranking(sample, language, prompt)
        return choice_request(ranking, label_choices("pawsx", language, _LABEL_KEYS), prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """1 when the right label is the most likely one, or the one that is named."""
        return choice_score(sample, request, response)

    def _ranking(self, sample: Sample, language: str, prompt: PromptSettings) -> RankingRequest:
        if prompt.form == "lm-eval":
            tags = words_for(_LABELS, self.info, language, prompt)
            first, second = _harness_sentences(sample.fields, subset(self.info, language))
            return RankingRequest(
                context="",
                continuations=tuple(
                    f"{first}, {tags.question}? {label}, {second}" for label in (tags.no, tags.yes)
                ),
                delimiter="",
            )
        words = mega_words("pawsx", language, prompt)
        labels = tuple(words[key] for key in _LABEL_KEYS)
        fields = {name: text.strip() for name, text in sample.fields.items()}
        if prompt.form == "completion":
            parts = mega_words("completion", language, prompt)
            return completion.label_request(parts, fields["sentence1"], fields["sentence2"], labels)
        return RankingRequest(
            context=words["template"].format(**fields), continuations=labels, delimiter="\n"
        )


_LABEL_KEYS = ("no", "yes")
_UPSTREAM_SPLIT = {"test": "test", "validation": "dev"}
_COLUMNS = ("sentence1", "sentence2", "label")
_TOKENIZED = ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"'))


def _read(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    is_xtreme = path.suffix == ".tsv" and not path.name.endswith("_2k.tsv")
    return read_tsv(path, _COLUMNS) if is_xtreme else read_rows(path)


def _name(row: Mapping[str, Any], path: Path, line: int, *, number: int) -> str:
    if "id" not in row and not path.name.endswith("_2k.tsv"):
        return str(number)
    # The Hub's are numbers.
    is_number = isinstance(row.get("id"), int)
    return str(row["id"]) if is_number else text_field(row, "id", path, line).strip()


def _sentences(row: Mapping[str, Any], path: Path, line: int) -> dict[str, str]:
    # A sentence that was not translated is null on the Hub; a missing column is an error.
    return {
        name: text_field(row, name, path, line, optional=name in row)
        for name in ("sentence1", "sentence2")
    }


def _harness_sentences(fields: Mapping[str, str], name: str) -> tuple[str, str]:
    """Both sentences as lm-evaluation-harness puts them into one."""
    first, second = fields["sentence1"], fields["sentence2"]
    if name in _AS_THEY_STAND:
        return first, second
    first, second = _untokenized(first), _untokenized(second)
    if first.endswith((".", ",", ";")):
        first = first[:-1]
    return first, second[:1].lower() + second[1:]


def _untokenized(text: str) -> str:
    for apart, joined in _TOKENIZED:
        text = text.replace(apart, joined)
    return re.sub(r" (['.,])", r"\1", text).strip()

"""XNLI: does the premise entail the hypothesis, contradict it, or neither.

Conneau et al. 2018, "XNLI: Evaluating Cross-lingual Sentence Representations", EMNLP
(arXiv 1809.05053).
"""

from __future__ import annotations

import itertools
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
from maple.files.fields import place, text_field
from maple.files.read import read_rows, read_tsv
from maple.study import PromptSettings


class Labels(NamedTuple):
    """The lm-eval form's words: the tag question, and one word a label."""

    question: str
    entailment: str
    neutral: str
    contradiction: str


class Instruction(NamedTuple):
    """The mega form's prompt with {premise} and {hypothesis}, and an answer a label."""

    template: str
    entailment: str
    neutral: str
    contradiction: str


# Source: lm-evaluation-harness 0.4.13, tasks/xnli/utils.py, its mistakes included (Arabic رقم is
# a number, not "no"). Rows under "ours" are for files in XNLI's format in other languages.
_LABELS: Mapping[str, Labels] = {
    "ar": Labels("صحيح", "نعم", "لذا", "رقم"),
    "bg": Labels("правилно", "да", "така", "не"),
    "de": Labels("richtig", "Ja", "Auch", "Nein"),
    "el": Labels("σωστός", "Ναί", "Έτσι", "όχι"),
    "en": Labels("right", "Yes", "Also", "No"),
    "es": Labels("correcto", "Sí", "Asi que", "No"),
    "fr": Labels("correct", "Oui", "Aussi", "Non"),
    "hi": Labels("सही", "हाँ", "इसलिए", "नहीं"),
    "ru": Labels("правильно", "Да", "Так", "Нет"),
    "sw": Labels("sahihi", "Ndiyo", "Hivyo", "Hapana"),
    "th": Labels("ถูกต้อง", "ใช่", "ดังนั้น", "ไม่"),
    "tr": Labels("doğru", "Evet", "Böylece", "Hayır"),
    "ur": Labels("صحیح", "جی ہاں", "اس لئے", "نہیں"),
    "vi": Labels("đúng", "Vâng", "Vì vậy", "Không"),
    "zh": Labels("正确", "是的", "所以", "不是的"),
    # Ours.
    "am": Labels("ትክክል", "አዎ", "ደግሞ", "አይ"),
    "so": Labels("sax", "Haa", "Sidoo kale", "Maya"),
    "yo": Labels("òótọ́ ni", "Bẹ́ẹ̀ ni", "Bákan náà", "Rárá"),
}

_GOLD = {
    **{"entailment": 0, "neutral": 1, "contradiction": 2, "contradictory": 2},
    **{"0": 0, "1": 1, "2": 2},
}


class Xnli(Task):
    """Three-way natural language inference in 15 languages.

    Row 1 of ``xnli/test-en.tsv``, premise and hypothesis, labelled by row 1 of
    ``xnli/gold_labels_jsonl/en.test.jsonl``::

        Well, I wasn't even thinking about that, but ...<TAB>I havent spoken to him again.

    becomes the sample ``0`` with gold ``("2",)``: 0 entailment, 1 neutral, 2 contradiction. The
    rows of all languages are parallel, so a row's number is its name. A label may stand in a third
    column instead; XNLI-1.0's own ``xnli.test.tsv`` and the Hub's Parquet files are read as well.
    """

    info = TaskInfo(
        version=1,
        licence="CC BY-NC 4.0",
        citation="Conneau et al. 2018, arXiv 1809.05053",
        chance_level=1 / 3,
        languages={
            "arb_Arab": "ar",
            "bul_Cyrl": "bg",
            "deu_Latn": "de",
            "ell_Grek": "el",
            "eng_Latn": "en",
            "fra_Latn": "fr",
            "hin_Deva": "hi",
            "rus_Cyrl": "ru",
            "spa_Latn": "es",
            "swh_Latn": "sw",
            "tha_Thai": "th",
            "tur_Latn": "tr",
            "urd_Arab": "ur",
            "vie_Latn": "vi",
            "zho_Hans": "zh",
        },
        headline="accuracy",
        split="test",
        samples={"test": 5010, "validation": 2490},
        shots_split="validation",
        settings=frozenset({"scoring"}),
        hub="facebook/xnli",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file, and the one that labels its rows where it does not itself."""
        check_split(self.info, "xnli", split)
        found = self._find(files, language, split)
        return found if _is_labelled(found[0]) else [*found, *_gold_file(files, split)]

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the items in upstream order, named by row number from 0."""
        first, *rest = self.paths(files, language, split)
        if _is_labelled(first):
            rows = self._labelled_rows([first, *rest], subset(self.info, language))
        else:
            rows = _rows_with_gold(first, rest[0])
        for number, row in enumerate(rows):
            yield Sample(id=str(number), fields=row.fields, gold=(str(row.label),))

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a ranking of the three labels, or a question for one of them.

        The lm-eval form has an empty context and ranks whole sentences, one a label.
        """
        ranking = self._ranking(sample, language, prompt)
        return choice_request(ranking, label_choices("xnli", language, _LABEL_KEYS), prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """1 when the right label is the most likely one, or the one that is named."""
        return choice_score(sample, request, response)

    def _ranking(self, sample: Sample, language: str, prompt: PromptSettings) -> RankingRequest:
        if prompt.form == "lm-eval":
            tags = words_for(_LABELS, self.info, language, prompt)
            return RankingRequest(context="", continuations=_sentences(sample.fields, tags))
        words = Instruction(**mega_words("xnli", language, prompt))
        fields = {name: text.strip() for name, text in sample.fields.items()}
        if prompt.form == "completion":
            labels = (words.entailment, words.neutral, words.contradiction)
            parts = mega_words("completion", language, prompt)
            return completion.label_request(parts, fields["premise"], fields["hypothesis"], labels)
        return RankingRequest(
            context=words.template.format(**fields),
            continuations=(words.entailment, words.neutral, words.contradiction),
            delimiter="\n",
        )

    def _find(self, files: Files, language: str, split: str) -> list[Path]:
        name = subset(self.info, language)
        part = _UPSTREAM_SPLIT[split]
        return files.find(
            local=[
                f"xnli/{part}-{name}.tsv",
                f"{part}-{name}.tsv",
                f"xnli/xnli.{part}.tsv",
                f"xnli/XNLI-1.0/xnli.{part}.tsv",
                f"XNLI-1.0/xnli.{part}.tsv",
                f"xnli.{part}.tsv",
            ],
            repo=self.info.hub,
            patterns=[f"{name}/{split}*.parquet"],
            revision=self.info.revision,
        )

    def _labelled_rows(self, paths: list[Path], name: str) -> Iterator[_Row]:
        for path in paths:
            rows = [_labelled_row(row, path, line) for line, row in _read(path, name)]
            if not rows:
                raise DataError(f"{path}: no row has language {name!r}. It is not in this release.")
            yield from rows


_LABEL_KEYS = ("entailment", "neutral", "contradiction")
_UPSTREAM_SPLIT = {"test": "test", "validation": "dev"}
_COLUMNS = ("premise", "hypothesis", "label")
_RELEASE_COLUMNS = {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"}


class _Row(NamedTuple):
    fields: Mapping[str, str]
    label: int


def _sentences(fields: Mapping[str, str], words: Labels) -> tuple[str, ...]:
    return tuple(
        f"{fields['premise']}, {words.question}? {label}, {fields['hypothesis']}"
        for label in (words.entailment, words.neutral, words.contradiction)
    )


def _is_release(path: Path) -> bool:
    return path.name.startswith("xnli.")


def _is_labelled(path: Path) -> bool:
    return path.suffix == ".parquet" or _is_release(path) or _n_columns(path) == len(_COLUMNS)


def _n_columns(path: Path) -> int:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().count("\t") + 1


def _read(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if _is_release(path):
        for line, row in read_rows(path):
            if row.get("language") == name:
                yield line, {_RELEASE_COLUMNS.get(key, key): row[key] for key in row}
    elif path.suffix == ".parquet":
        yield from read_rows(path)
    else:
        yield from read_tsv(path, _COLUMNS)


def _labelled_row(row: Mapping[str, Any], path: Path, line: int) -> _Row:
    return _Row(_texts(row, path, line), _label(row, path, line))


def _texts(row: Mapping[str, Any], path: Path, line: int) -> dict[str, str]:
    return {name: text_field(row, name, path, line) for name in ("premise", "hypothesis")}


def _label(row: Mapping[str, Any], path: Path, line: int) -> int:
    label = _GOLD.get(str(row.get("label")).strip())
    if label is None:
        raise DataError(
            f"{place(path, line)}: field 'label' is {row.get('label')!r}; it must be 0, 1, 2 or "
            "entailment, neutral, contradiction. Check that the file is the upstream release."
        )
    return label


def _gold_file(files: Files, split: str) -> list[Path]:
    part = _UPSTREAM_SPLIT[split]
    return files.find(
        local=[f"xnli/gold_labels_jsonl/en.{part}.jsonl", f"gold_labels_jsonl/en.{part}.jsonl"]
    )


def _rows_with_gold(path: Path, gold: Path) -> Iterator[_Row]:
    texts = [_texts(row, path, line) for line, row in read_tsv(path, _COLUMNS[:2])]
    labels = [_label(row, gold, line) for line, row in read_rows(gold)]
    if len(texts) != len(labels):
        raise DataError(
            f"{path} has {len(texts)} rows and {gold} labels {len(labels)}. A label belongs to the "
            "row of the same number, so both must be whole: fetch the shorter one again."
        )
    yield from itertools.starmap(_Row, zip(texts, labels, strict=True))

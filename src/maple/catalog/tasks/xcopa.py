"""XCOPA: which of two sentences is the cause, or the effect, of a premise.

Ponti et al. 2020, "XCOPA: A Multilingual Dataset for Causal Commonsense Reasoning", EMNLP
(arXiv 2005.00333); English is COPA (Roemmele et al. 2011), as SuperGLUE and XTREME-R pack it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from maple.catalog import completion
from maple.catalog.contracts import RankingRequest, Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.tasks import (
    check_split,
    choice_request,
    choice_score,
    listed_choices,
    mega_words,
    subset,
    words_for,
)
from maple.errors import DataError
from maple.files import Files
from maple.files.fields import filled_field, int_field, place
from maple.files.read import read_rows
from maple.study import PromptSettings


class Connectors(NamedTuple):
    """The lm-eval form's words between premise and option."""

    cause: str
    effect: str


class Instructions(NamedTuple):
    """The mega form's words: the question, what stands before option {}, what is looked for."""

    question: str
    option: str
    cause: str
    effect: str


# Source: lm-evaluation-harness 0.4.13, tasks/xcopa/utils.py and super_glue/copa/utils.py.
# Rows under "ours" are for files in XCOPA's format in languages that XCOPA does not have.
_CONNECTORS: Mapping[str, Connectors] = {
    "en": Connectors("because", "therefore"),
    "et": Connectors("sest", "seetõttu"),
    "ht": Connectors("poukisa", "donk sa"),
    "id": Connectors("karena", "maka"),
    "it": Connectors("perché", "quindi"),
    "qu": Connectors("imataq", "chaymi"),
    "sw": Connectors("kwa sababu", "kwa hiyo"),
    "ta": Connectors("காரணமாக", "எனவே"),
    "th": Connectors("เพราะ", "ดังนั้น"),
    "tr": Connectors("çünkü", "bu yüzden"),
    "vi": Connectors("bởi vì", "vì vậy"),
    "zh": Connectors("因为", "所以"),
    # Ours.
    "am": Connectors("ምክንያቱም", "ስለዚህ"),
    "ar": Connectors("لأن", "لذلك"),
    "de": Connectors("denn", "also"),
    "es": Connectors("porque", "por lo tanto"),
    "hi": Connectors("क्योंकि", "इसलिए"),
    "ru": Connectors("потому что", "поэтому"),
    "so": Connectors("sababtoo ah", "sidaa darteed"),
    "yo": Connectors("nítorí pé", "nítorí náà"),
}

# What COPA asks of item i: bit i is 1 for the cause, 0 for the effect.
_ASKS_CAUSE: Mapping[str, int] = {
    "test": int(
        "404b087a2c6a391372c5d1087e2c1d498536dd39fea0613c97378132b3acc6fe"
        "0943bd2823ee5b2d9dbcda6eb99b531bbf8dfcb205edd405540afd1ad4f1",
        16,
    ),
    "validation": int("19113804bffe4943baeafedd0", 16),
}
# SHA-256 prefix of a split's labels in order: the same in all of XCOPA's languages, and in COPA.
_LABELS: Mapping[str, str] = {"test": "4b28034dd3f7c68d", "validation": "94976fdb3509b139"}

_COPA = "aps/super_glue"
_UPSTREAM_SPLIT = {"test": "test", "validation": "val"}
_FEWEST_PLACEHOLDERS = 8


class Xcopa(Task):
    """Two-way choice of the more plausible cause or effect, in 11 languages and English.

    A row of ``xcopa/data/sw/test.sw.jsonl``::

        {"premise": "Kifaa kilikuwa kimefungwa kwenye mfuko vibofu.",
         "choice1": "Kikuwa nyepesi kuvunjika.", "choice2": "Kilikuwa kidogo.",
         "question": "cause", "label": 0, "idx": 0, "changed": false}

    becomes the sample ``0`` with gold ``("0",)``. XCOPA's release asks for the effect where COPA
    asks for the cause in 250 of 500 Thai items, 51 Turkish, 37 Swahili, 4 Indonesian, 4 Italian.
    ``question`` keeps the release's word, and the lm-eval form uses it; ``asks`` is COPA's own,
    and the mega form uses that.
    """

    info = TaskInfo(
        version=1,
        licence="CC BY 4.0; English COPA: BSD-2-Clause",
        citation="Ponti et al. 2020, arXiv 2005.00333; Roemmele et al. 2011",
        chance_level=0.5,
        languages={
            "eng_Latn": "en",
            "est_Latn": "et",
            "hat_Latn": "ht",
            "ind_Latn": "id",
            "ita_Latn": "it",
            "qve_Latn": "qu",
            "swh_Latn": "sw",
            "tam_Taml": "ta",
            "tha_Thai": "th",
            "tur_Latn": "tr",
            "vie_Latn": "vi",
            "zho_Hans": "zh",
        },
        headline="accuracy",
        split="test",
        samples={"test": 500, "validation": 100},
        shots_split="validation",
        settings=frozenset({"scoring"}),
        hub="cambridgeltl/xcopa",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file, and for English's test split the one its labels come from."""
        check_split(self.info, "xcopa", split)
        name = subset(self.info, language)
        found = self._find(files, name, split)
        if name == "en" and _are_hidden([row.label for row in _rows(found, may_hide=True)]):
            found = [*found, *self._labelled(files, split)]
        return found

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the items in upstream order, named by ``idx``."""
        check_split(self.info, "xcopa", split)
        name = subset(self.info, language)
        rows = list(_rows(self._find(files, name, split), may_hide=name == "en"))
        labels = [row.label for row in rows]
        if name == "en" and _are_hidden(labels):
            labels = _labels_by_index(rows, _rows(self._labelled(files, split)))
        is_release = _digest(labels) == _LABELS[split]
        for row, label in zip(rows, labels, strict=True):
            asks = row.fields["question"]
            if is_release:
                asks = "cause" if _ASKS_CAUSE[split] >> row.index & 1 else "effect"
            yield Sample(id=str(row.index), fields={**row.fields, "asks": asks}, gold=(str(label),))

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a ranking of both choices, or a question for the better one's number.

        The lm-eval form is its wording and joining, letter for letter, but for one defect that
        is not kept: the last character of a premise is dropped only where it is punctuation.
        In the mega form an answer begins a new line, so no script meets a space it does not use.
        """
        ranking = self._ranking(sample, language, prompt)
        fields = sample.fields
        listed = listed_choices((fields["choice1"], fields["choice2"]), ("1", "2"))
        return choice_request(ranking, listed, prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """1 when the right choice is the more likely one, or the one that is named."""
        return choice_score(sample, request, response)

    def _ranking(self, sample: Sample, language: str, prompt: PromptSettings) -> RankingRequest:
        if prompt.form == "lm-eval":
            connectors = words_for(_CONNECTORS, self.info, language, prompt)
            return _lm_eval_request(sample.fields, connectors, is_english=language == "eng_Latn")
        if prompt.form == "completion":
            fields = sample.fields
            return completion.cause_request(
                mega_words("completion", language, prompt),
                fields["premise"],
                (fields["choice1"], fields["choice2"]),
                asks_cause=fields["asks"] == "cause",
            )
        words = Instructions(**mega_words("xcopa", language, prompt))
        return _mega_request(sample.fields, words)

    def _find(self, files: Files, name: str, split: str) -> list[Path]:
        part = _UPSTREAM_SPLIT[split]
        local = [f"xcopa/data/{name}/{part}.{name}.jsonl", f"data/{name}/{part}.{name}.jsonl"]
        if name == "en":
            local += [f"xcopa/xtreme-en/{part}-en.jsonl", f"xtreme-en/{part}-en.jsonl"]
            return files.find(local=local, repo=_COPA, patterns=[f"copa/{split}*.parquet"])
        return self._find_any(files, local, f"{name}/{split}*.parquet")

    def _labelled(self, files: Files, split: str) -> list[Path]:
        part = _UPSTREAM_SPLIT[split]
        local = [f"xcopa/data/*/{part}.*.jsonl", f"data/*/{part}.*.jsonl"]
        found = self._find_any(files, local, f"et/{split}*.parquet")
        return [path for path in found if path.parent.name != "en"][:1]

    def _find_any(self, files: Files, local: list[str], pattern: str) -> list[Path]:
        return files.find(
            local=local, repo=self.info.hub, patterns=[pattern], revision=self.info.revision
        )


@dataclass(frozen=True)
class _Row:
    index: int
    label: int
    fields: Mapping[str, str]
    where: str


def _lm_eval_request(
    fields: Mapping[str, str], words: Connectors, *, is_english: bool
) -> RankingRequest:
    premise = fields["premise"].strip()
    if unicodedata.category(premise[-1]).startswith("P"):
        premise = premise[:-1]
    connector = words.cause if fields["question"] == "cause" else words.effect
    # The harness's English task puts a space of its own before each choice, after the delimiter.
    lead = " " if is_english else ""
    choices = (fields["choice1"], fields["choice2"])
    return RankingRequest(
        context=f"{premise} {connector}",
        continuations=tuple(lead + choice[0].lower() + choice[1:] for choice in choices),
    )


def _mega_request(fields: Mapping[str, str], words: Instructions) -> RankingRequest:
    choices = (fields["choice1"], fields["choice2"])
    lines = [fields["premise"], words.question]
    lines += [words.option.format(n) + choice for n, choice in enumerate(choices, start=1)]
    lines += [words.cause if fields["asks"] == "cause" else words.effect]
    return RankingRequest(context="\n".join(lines), continuations=choices, delimiter="\n")


def _rows(paths: Iterable[Path], *, may_hide: bool = False) -> Iterator[_Row]:
    seen: dict[int, str] = {}
    for path in paths:
        for line, row in read_rows(path):
            where = place(path, line)
            index = int_field(row, "idx", path, line)
            if index in seen:
                raise DataError(f"{where}: idx {index} was already used in {seen[index]}.")
            seen[index] = where
            label = int_field(row, "label", path, line, among=(-1, 0, 1) if may_hide else (0, 1))
            yield _Row(index, label, _texts(row, path, line), where)


def _texts(row: Mapping[str, Any], path: Path, line: int) -> dict[str, str]:
    fields = {
        name: filled_field(row, name, path, line)
        for name in ("premise", "choice1", "choice2", "question")
    }
    if fields["question"] not in ("cause", "effect"):
        raise DataError(
            f"{place(path, line)}: field 'question' is {fields['question']!r}; it must be cause or "
            "effect. Check that the file is the upstream release."
        )
    return fields


def _are_hidden(labels: list[int]) -> bool:
    """Whether labels are placeholders: SuperGLUE hides the test split as -1, XTREME-R as 0."""
    return -1 in labels or (set(labels) == {0} and len(labels) >= _FEWEST_PLACEHOLDERS)


def _labels_by_index(rows: list[_Row], labelled: Iterable[_Row]) -> list[int]:
    gold = {row.index: row.label for row in labelled}
    for row in rows:
        if row.index not in gold:
            raise DataError(
                f"{row.where}: the label is hidden and no XCOPA item has idx {row.index} to take "
                "it from. Use a whole XCOPA file of the same split."
            )
    return [gold[row.index] for row in rows]


def _digest(labels: list[int]) -> str:
    return hashlib.sha256("".join(map(str, labels)).encode()).hexdigest()[:16]

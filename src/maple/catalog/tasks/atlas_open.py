"""Atlas-open: open English instructions about the embedded world, with answers one can check.

Stands in for AlpacaEval where there is no judge: the same JSON, scored by what an answer names.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maple.catalog.contracts import (
    GenerationResponse,
    Request,
    Response,
    Sample,
    Score,
    Task,
    TaskInfo,
)
from maple.catalog.tasks import check_split, instruction_request, subset
from maple.errors import DataError
from maple.files import Files
from maple.files.fields import filled_field, list_field, place, text_field
from maple.files.read import read_rows
from maple.study import PromptSettings

_MAX_NEW_TOKENS = 48


class AtlasOpen(Task):
    """English instructions; an answer passes when it names everything it must.

    A row of ``atlas-open/eval.json``, AlpacaEval's JSON and the checks::

        {"id": "open-17", "dataset": "two-facts",
         "instruction": "Name the currency and the main language of Kenya.",
         "output": "The currency is the Kenyan Shilling and the main language is Swahili.",
         "checks": [["Kenyan Shilling", "shilling"], ["Swahili", "Kiswahili"]]}

    becomes the sample ``open-17`` with the output as gold: both lists must be met, each by any one
    of its strings.
    """

    info = TaskInfo(
        version=1,
        licence="Apache-2.0; facts from Unicode CLDR under the Unicode License v3",
        citation="Maple, docs/atlas.md",
        chance_level=None,
        languages={"eng_Latn": "en"},
        headline="pass_rate",
        split="eval",
        samples={"eval": {}},
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The one file there is, in English."""
        check_split(self.info, "atlas-open", split)
        name = "eval" if language == "eng_Latn" else f"eval.{subset(self.info, language)}"
        return files.find(local=[f"atlas-open/{name}.json"], repo=self.info.hub)

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the instructions in the file's order, named by ``id``."""
        seen: dict[str, str] = {}
        for path in self.paths(files, language, split):
            for line, row in read_rows(path):
                sample = _sample(row, path, line)
                if sample.id in seen:
                    raise DataError(
                        f"{place(path, line)}: the id {sample.id!r} was already used in "
                        f"{seen[sample.id]}."
                    )
                seen[sample.id] = place(path, line)
                yield sample

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """The instruction as it stands, in either form; only the end token ends the answer."""
        return instruction_request(sample, prompt, max_new_tokens=_MAX_NEW_TOKENS)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """``pass_rate``: 1 when every check has one of its strings in the answer, else 0.

        Case is folded, and a string counts only as whole words: ``Oman`` is not in ``Romania``.
        """
        if not isinstance(response, GenerationResponse):
            raise TypeError("a generation task needs a GenerationResponse")
        checks: list[list[str]] = json.loads(sample.fields["checks"])
        passes = all(any(names(response.text, text) for text in check) for check in checks)
        value = float(passes)
        return Score(value=value, prediction=response.text.strip(), metrics={"pass_rate": value})


def names(answer: str, text: str) -> bool:
    """Whether an answer holds a text as whole words, whatever the case."""
    wanted = r"\s+".join(re.escape(word) for word in _folded(text).split())
    return re.search(rf"(?<!\w){wanted}(?!\w)", _folded(answer)) is not None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _sample(row: Mapping[str, Any], path: Path, line: int) -> Sample:
    fields = {name: filled_field(row, name, path, line) for name in ("id", "instruction", "output")}
    return Sample(
        id=fields["id"],
        fields={
            "instruction": fields["instruction"],
            "dataset": text_field(row, "dataset", path, line),
            # Fields are text, so the lists travel as JSON.
            "checks": json.dumps(_checks(row, path, line), ensure_ascii=False),
        },
        gold=(fields["output"],),
    )


def _checks(row: Mapping[str, Any], path: Path, line: int) -> list[list[str]]:
    checks = list_field(row, "checks", path, line)
    if not checks or not all(_is_check(check) for check in checks):
        raise DataError(
            f"{place(path, line)}: field 'checks' is {checks!r:.60}; it must be one or more lists "
            "of one or more texts each. Correct the row."
        )
    return checks


def _is_check(check: Any) -> bool:
    is_list = isinstance(check, list) and bool(check)
    return is_list and all(isinstance(text, str) and bool(text.strip()) for text in check)

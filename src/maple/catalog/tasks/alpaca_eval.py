"""AlpacaEval: 805 open English instructions whose answers a judge compares with a reference's.

A task of two halves: answers are generated and stored here, verdicts come from ``maple judge``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maple.catalog.contracts import (
    GenerationResponse,
    Request,
    Response,
    Sample,
    Score,
    Task,
    TaskInfo,
)
from maple.catalog.tasks import check_split, instruction_request
from maple.errors import DataError
from maple.files import Files
from maple.files.fields import filled_field, place, text_field
from maple.files.read import read_rows
from maple.study import PromptSettings

_MAX_NEW_TOKENS = 2048
"""Source: ``max_new_tokens`` of most model configurations of AlpacaEval 0.6.6."""


class AlpacaEval(Task):
    """Open English instructions; a judge prefers the answer or the reference's.

    A row of ``alpaca_eval.json``::

        {"dataset": "helpful_base", "generator": "text_davinci_003",
         "instruction": "What are the names of some famous actors that started their careers on "
                        "Broadway?",
         "output": "Some famous actors that started their careers on Broadway include: ..."}

    becomes the sample ``0`` (its row) with the output as gold, to be read beside the answer; no
    score is computed from it.
    """

    info = TaskInfo(
        version=1,
        licence="CC-BY-NC-4.0",
        citation="Li et al. 2023, AlpacaEval; Dubois et al. 2024, arXiv:2404.04475",
        chance_level=None,
        languages={"eng_Latn": "en"},
        headline="win_rate",
        split="eval",
        samples={"eval": 805},
        hub="tatsu-lab/alpaca_eval",
        is_judged=True,
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The one file of instructions; every published ``model_outputs.json`` holds them too."""
        check_split(self.info, "alpaca-eval", split)
        found = files.find(
            local=[
                "alpaca_eval/alpaca_eval.json",
                "alpaca_eval.json",
                # The outputs that the Hub's file repeats. Some other models lack instructions.
                "alpaca_eval/results/text_davinci_003/model_outputs.json",
                "alpaca_eval/results/*/model_outputs.json",
            ],
            repo=self.info.hub,
            patterns=["alpaca_eval.json"],
            revision=self.info.revision,
        )
        return found[:1]

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the instructions in the file's order, named by their row, counted from 0."""
        seen: dict[str, str] = {}
        for path in self.paths(files, language, split):
            for line, row in read_rows(path):
                instruction = filled_field(row, "instruction", path, line)
                where = place(path, line)
                if instruction in seen:
                    raise DataError(
                        f"{where}: the instruction of {seen[instruction]} again; verdicts are "
                        "told apart by it. Remove one of the rows."
                    )
                seen[instruction] = where
                yield Sample(
                    id=str(line - 1),
                    fields={
                        "instruction": instruction,
                        "dataset": text_field(row, "dataset", path, line, optional=True),
                    },
                    gold=(text_field(row, "output", path, line, optional=True),),
                )

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """The instruction as it stands, in every form; only the end token ends the answer."""
        return instruction_request(sample, prompt, max_new_tokens=_MAX_NEW_TOKENS)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """No number: the value is NaN until ``maple judge`` has compared the answers.

        Raises:
            TypeError: the response is not that of a generation.
        """
        if not isinstance(response, GenerationResponse):
            raise TypeError("a generation task needs a GenerationResponse")
        return Score(value=float("nan"), prediction=response.text.strip())

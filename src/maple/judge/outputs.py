"""A model's outputs in AlpacaEval's JSON, and two models' outputs put side by side.

[{"instruction": "...", "output": "...", "generator": "alpaca-7b", "dataset": "koala"}, ...]
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maple.errors import DataError
from maple.files import write
from maple.files.fields import place, text_field
from maple.files.read import read_rows


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one model answered to one instruction."""

    instruction: str
    output: str
    generator: str
    dataset: str = ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The reference's and the model's answer to one instruction."""

    reference: Output
    model: Output

    @property
    def instruction(self) -> str:
        """What both were asked."""
        return self.model.instruction

    @property
    def is_same(self) -> bool:
        """Whether the two answers are one text: a draw that no judge is asked about."""
        return self.reference.output == self.model.output

    @property
    def is_switched(self) -> bool:
        """Whether the judge reads the model's answer first.

        A coin thrown by the instruction alone, so it falls the same in every run. Source: the
        seed text and generator of AlpacaEval's ``RandomSwitchTwoColumnsProcessor``, seed 0.
        """
        coin = random.Random(f"is_switched_outputs{self.instruction}0")
        return coin.choices([False, True], k=1)[0]

    @property
    def shown(self) -> tuple[str, str]:
        """The two answers in the order that the judge reads them."""
        first, second = self.reference.output, self.model.output
        return (second, first) if self.is_switched else (first, second)


def read_outputs(path: Path, generator: str | None = None) -> list[Output]:
    """Reads a ``model_outputs.json``, in the file's order.

    Args:
        path: the file, or a directory that holds one.
        generator: the model's name where the rows do not carry it; None: the name of the folder.

    Raises:
        DataError: a row without instruction or output, an instruction that comes twice, or rows
            of several models; names file and row.
    """
    path = path / "model_outputs.json" if path.is_dir() else path
    outputs: list[Output] = []
    seen: dict[str, str] = {}
    for line, row in read_rows(path):
        instruction = text_field(row, "instruction", path, line)
        if instruction in seen:
            raise DataError(
                f"{place(path, line)}: the instruction of {seen[instruction]} again; which of the "
                "two outputs counts? Remove one of the rows."
            )
        seen[instruction] = place(path, line)
        name = text_field(row, "generator", path, line, optional=True)
        output = Output(
            instruction=instruction,
            output=text_field(row, "output", path, line),
            generator=name or generator or path.parent.resolve().name,
            dataset=text_field(row, "dataset", path, line, optional=True),
        )
        if outputs and output.generator != outputs[0].generator:
            raise DataError(
                f"{place(path, line)}: generator {output.generator!r}, but the rows before are of "
                f"{outputs[0].generator!r}. Judge one model at a time."
            )
        outputs.append(output)
    return outputs


def write_outputs(path: Path, outputs: Sequence[Output]) -> None:
    """Writes outputs as AlpacaEval's JSON, in one step.

    Raises:
        StoreError: the file cannot be written.
    """
    write_json(path, [asdict(output) for output in outputs])


def pair_outputs(
    reference: Sequence[Output], model: Sequence[Output], *, limit: int | None = None
) -> list[Pair]:
    """Joins two models' outputs by instruction, in the reference's order, as AlpacaEval does.

    Args:
        reference: the baseline's outputs.
        model: outputs of the model to be judged.
        limit: the first so many instructions alone.

    Raises:
        DataError: the two have no instruction in common.
    """
    answered = {output.instruction: output for output in model}
    pairs = [
        Pair(reference=output, model=answered[output.instruction])
        for output in reference
        if output.instruction in answered
    ]
    if not pairs:
        raise DataError(
            f"the {len(model)} outputs and the {len(reference)} reference outputs have no "
            "instruction in common. Name a --reference that answered the same instructions."
        )
    return pairs[:limit]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write.write_text(path, f"{text}\n", advice="Choose another --out.")

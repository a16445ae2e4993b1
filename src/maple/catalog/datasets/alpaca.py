"""Stanford Alpaca: 52,002 English instructions, and a Chinese translation of the first third.

Taori et al. 2023, https://github.com/tatsu-lab/stanford_alpaca::

    {"instruction": "Rewrite the sentence.", "input": "He go home.", "output": "He goes home."}

English comes from the Hub, from the release file ``alpaca_data.json``, or from chunks named after
their rows (``alpaca_data-3252-6382-英文.json``); Chinese from such chunks only. The Chinese files
are a volunteers' translation: rows 9,407-12,344 are missing, four chunks are shorter than their
name says, and 3,398 of 17,467 instructions (most in rows 12,760-15,323 and from 19,700 on) are
still English. They are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from maple.catalog.contracts import Conversation, Dataset, DatasetInfo
from maple.errors import DataError
from maple.files import Files
from maple.files.instructions import read_instructions
from maple.languages import upstream_name

_CHUNKS = {"en": "原始英文数据", "zh": "翻译后的中文数据"}
_RANGE = re.compile(r"alpaca_data-(\d+)-(\d+)")


class Alpaca(Dataset):
    """Stanford Alpaca: 52,002 English instructions; Chinese (a third of them) from local files."""

    info = DatasetInfo(
        licence="CC BY-NC 4.0 (generated with OpenAI models); Chinese translation MIT",
        source="https://github.com/tatsu-lab/stanford_alpaca",
        hub="tatsu-lab/alpaca",
        languages={"eng_Latn": "en", "zho_Hans": "zh"},
    )

    def paths(self, files: Files, language: str) -> list[Path]:
        """The release file, or the chunks in row order; see the contract."""
        name = upstream_name(language, self.info.languages, "alpaca")
        chunks = [f"{root}history/{_CHUNKS[name]}/*.json" for root in ("alpaca_en_zh/", "")]
        whole = ["alpaca_data.json", "alpaca/alpaca_data.json", "stanford_alpaca/alpaca_data.json"]
        found = files.find(
            local=[*whole, *chunks] if name == "en" else chunks,
            repo=self.info.hub if name == "en" else None,
            patterns=["data/train-*.parquet", "default/train/*.parquet"],
            revision=self.info.revision,
        )
        return sorted(found, key=_first_row)

    def conversations(self, files: Files, language: str) -> Iterator[Conversation]:
        """Yields the rows in Alpaca's order; blank rows are passed over.

        The id is the row's number among Alpaca's 52,002, counted from 1, whichever file it is
        read from. In a Chinese chunk that misses rows it is the number the position would have.
        """
        for path in self.paths(files, language):
            first, size = _first_row(path), _size(path)
            for row in read_instructions(path):
                if size is not None and row.line > size:
                    raise DataError(
                        f"{path}, row {row.line}: the name promises {size} rows. Rename the file "
                        "to the rows it holds, so that ids stay unique."
                    )
                yield Conversation(
                    id=str(first + row.line),
                    language=language,
                    instruction=row.instruction,
                    input=row.input,
                    response=row.output,
                )


def _first_row(path: Path) -> int:
    """Rows before this file's; numeric, for by name 12345 would come before 3252."""
    named = _RANGE.match(path.name)
    return int(named[1]) if named else 0


def _size(path: Path) -> int | None:
    named = _RANGE.match(path.name)
    return int(named[2]) - int(named[1]) if named else None

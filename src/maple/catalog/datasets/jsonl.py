"""Any file of instruction or chat rows, in any language.

Three forms of row are understood, and may be mixed::

    {"instruction": "Tafsiri: bread", "input": "", "output": "mkate", "language": "sw"}
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}

A row belongs to the language in its ``language`` (or ``lang``) field; a row without one to the
language that the study states.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from maple.catalog.contracts import Conversation, Dataset, DatasetInfo
from maple.errors import CatalogError, DataError, SourceError
from maple.files import Files
from maple.files.fields import list_field, place, text_field
from maple.files.read import read_rows
from maple.languages import find

Turn = tuple[str, str]

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


class Jsonl(Dataset):
    """A file of your own: Alpaca or chat rows, as .jsonl, .json, .parquet, plain or .gz."""

    path: str = Field(
        min_length=1,
        description="The file; relative to --data-dir if it is there, else to where Maple runs.",
    )

    info = DatasetInfo(licence="your own", source="a file named in the study", languages={})

    def paths(self, files: Files, language: str) -> list[Path]:
        """The file named by ``path``; see the contract."""
        folders = [files.directory] if files.directory is not None else []
        for folder in (*folders, Path()):
            candidate = folder / Path(self.path).expanduser()
            if candidate.is_file():
                return [candidate]
        looked = " or ".join(str(f.absolute()) for f in (*folders, Path()))
        raise SourceError(f"jsonl: path: no file {self.path!r} in {looked}. Correct the path.")

    def conversations(self, files: Files, language: str) -> Iterator[Conversation]:
        """Yields the rows of one language in file order.

        The id is the row's own ``id`` (text or number) where it is the first to bear it, else the
        line number. The last turn is the response; earlier ones go into ``turns``, but for the
        last question. Rows without a question or a response are passed over.
        """
        seen: set[str] = set()
        for path in self.paths(files, language):
            for line, row in read_rows(path):
                if _language(row, path, line, language) != language:
                    continue
                *turns, (_, instruction), (_, response) = _turns(row, path, line)
                if not instruction.strip() or not response.strip():
                    continue
                id = _id(row, line, seen)
                seen.add(id)
                yield Conversation(
                    id=id,
                    language=language,
                    instruction=instruction,
                    input=_input(row, path, line),
                    response=response,
                    turns=tuple(turns),
                )


def _language(row: dict[str, Any], path: Path, line: int, stated: str) -> str:
    name = "language" if "language" in row else "lang"
    alias = text_field(row, name, path, line, optional=True)
    if not alias:
        return stated
    try:
        return find(alias).code
    except CatalogError as error:
        raise DataError(f"{place(path, line)}: field {name!r}: {error}") from error


def _id(row: dict[str, Any], line: int, seen: set[str]) -> str:
    own = row.get("id")
    is_name = isinstance(own, str | int) and not isinstance(own, bool) and own != ""
    if is_name and str(own) not in seen:
        return str(own)
    # "line 7" and not "7": another row's own id may be 7.
    return f"line {line}"


def _input(row: dict[str, Any], path: Path, line: int) -> str:
    is_chat = "messages" in row or "conversations" in row
    return "" if is_chat else text_field(row, "input", path, line, optional=True)


def _turns(row: dict[str, Any], path: Path, line: int) -> list[Turn]:
    """The row as turns, the last two a user's and an assistant's."""
    if "messages" in row:
        turns = _chat(row, "messages", ("role", "content"), path=path, line=line)
    elif "conversations" in row:
        turns = _chat(row, "conversations", ("from", "value"), path=path, line=line)
    elif "instruction" in row:
        return [
            ("user", text_field(row, "instruction", path, line)),
            ("assistant", text_field(row, "output", path, line)),
        ]
    else:
        raise DataError(
            f"{place(path, line)}: neither 'instruction', 'messages' nor 'conversations' is there; "
            f"the row has {', '.join(row) or 'no fields'}. Rename the fields."
        )
    if [role for role, _ in turns[-2:]] != ["user", "assistant"]:
        roles = ", ".join(role for role, _ in turns) or "none"
        raise DataError(
            f"{place(path, line)}: the last two turns must be the user's and the assistant's, the "
            f"roles are: {roles}. Complete the conversation, or remove the row."
        )
    return turns


def _chat(
    row: dict[str, Any], name: str, keys: tuple[str, str], *, path: Path, line: int
) -> list[Turn]:
    turns = []
    for turn in list_field(row, name, path, line):
        if not isinstance(turn, dict):
            raise DataError(f"{place(path, line)}: field {name!r} must be a list of objects.")
        role, content = (text_field(turn, key, path, line) for key in keys)
        if role not in _ROLES:
            raise DataError(
                f"{place(path, line)}: field {keys[0]!r} is {role!r}; it must be one of "
                f"{', '.join(_ROLES)}. Rename the role, or remove the row."
            )
        turns.append((_ROLES[role], content))
    return turns

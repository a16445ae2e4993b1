"""Release files for the tests of tasks: small ones written here, real ones where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maple.files import Files


@pytest.fixture(scope="session")
def shared(shared_data: Path) -> Files:
    """The upstream release files; skips where there are none."""
    return Files(directory=shared_data)


Writer = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a file under ``tmp_path``: text, rows as JSON Lines or Parquet, or a JSON object."""

    def _write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(content), path)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif path.suffix == ".jsonl":
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in content]
            path.write_text("".join(lines), encoding="utf-8")
        else:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path

    return _write


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(directory=tmp_path)


class FakeHub:
    """Stands for the Hub: remembers what was asked of it, answers with files given beforehand."""

    def __init__(self, found: dict[str, list[Path]]) -> None:
        self.found = found
        self.asked: list[tuple[str, list[str]]] = []

    def data_files(self, repo: str, patterns: list[str], revision: str | None) -> list[Path]:
        self.asked.append((repo, list(patterns)))
        return self.found[repo]


@pytest.fixture
def from_hub() -> Callable[[dict[str, list[Path]]], tuple[Files, FakeHub]]:
    def _from_hub(found: dict[str, list[Path]]) -> tuple[Files, FakeHub]:
        hub = FakeHub(found)
        return Files(hub=hub), hub  # type: ignore[arg-type]

    return _from_hub

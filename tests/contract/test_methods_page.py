"""The table of docs/methods.md is the one that the catalog gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from maple.catalog import entry_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """``scripts/methods_table.py``; what it walks is walked by test_methods.py."""
    spec = importlib.util.spec_from_file_location(
        "methods_table", ROOT / "scripts" / "methods_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_claims_of_every_method_and_quantizer(script: ModuleType) -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    table = page.partition(script.BEGIN)[2].partition(script.END)[0].strip().splitlines()
    quantizers = [cell.strip() for cell in table[0].split("|")][4:-1]
    names = [name for name in entry_names("methods") if name != "none"]
    expected = [*script.rows(names, quantizers), *script.notes(names, quantizers)]
    # "Not walked" names what was not installed where the table was made.
    made, given = ([x for x in of if x and not x.startswith("Not w")] for of in (table, expected))
    assert made == given
    assert set(quantizers) >= set(entry_names("quantization")) - {"torchao-int8"}

"""Data sets read from real upstream files, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maple.catalog.contracts import Dataset
from maple.catalog.datasets.alpaca import Alpaca
from maple.catalog.datasets.multialpaca import MultiAlpaca
from maple.files import Files

BESIDE = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("MAPLE_SHARED", BESIDE))

pytestmark = pytest.mark.skipif(
    not (DATA / "multialpaca").is_dir(),
    reason="needs the upstream files in ../shared/data (or MAPLE_SHARED)",
)


@pytest.mark.parametrize(
    ("dataset", "language", "n_rows", "last_id"),
    [
        (MultiAlpaca(), "spa_Latn", 9958, "9958"),
        (MultiAlpaca(), "jpn_Jpan", 10191 - 1, "10191"),
        (MultiAlpaca(), "por_Latn", 10825, "10825"),
        (Alpaca(), "eng_Latn", 21320 - 11, "21320"),
        (Alpaca(), "zho_Hans", 17476 - 9, "20570"),
    ],
)
def test_counts_are_upstreams_less_the_blank_rows(
    dataset: Dataset, language: str, n_rows: int, last_id: str
) -> None:
    rows = list(dataset.conversations(Files(directory=DATA), language))
    assert len(rows) == n_rows
    assert len({r.id for r in rows}) == n_rows
    assert rows[-1].id == last_id
    assert all(r.instruction.strip() and r.response.strip() for r in rows)


def test_english_alpaca_is_in_alpacas_order() -> None:
    rows = {r.id: r for r in Alpaca().conversations(Files(directory=DATA), "eng_Latn")}
    assert rows["1"].instruction == "Give three tips for staying healthy."
    assert rows["3253"].instruction.startswith("List the advantages of electric cars")
    assert rows["12346"].instruction == "Write a regex for an email address."
    assert list(rows) == sorted(rows, key=int)

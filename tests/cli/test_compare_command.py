"""``maple compare`` as a user reads it: two runs of a store, two stores, at 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.analysis.synthetic import GENERATION, RANKING, Run, StoreBuilder, Task, draw
from typer.testing import CliRunner

from maple.cli import app
from maple.errors import UsageError

CODES = ("eng_Latn", "swh_Latn")
TASKS = (
    Task(name=RANKING, chance_level=1 / 3, headline="accuracy", languages=CODES),
    Task(name=GENERATION, chance_level=None, headline="f1", languages=CODES),
)
A, B = Run(rank=4), Run(rank=16, quantization="nf4")


def build(directory: Path, *, n: int = 60, shift: float = 0.0) -> Path:
    builder = StoreBuilder(directory)
    builder.study([A, B], TASKS)
    for run in (A, B):
        builder.run(run, steps=2)
        for task in TASKS:
            for code in CODES:
                scores = draw(run, task, code, n, lambda r, t, c: 0.6 + shift)
                builder.evaluation(run, task, code, scores)
    return directory


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("two"), n=50, shift=0.35)


def maple(*arguments: object, columns: int = 80) -> str:
    runner = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"})
    result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_two_runs_are_a_table_that_fits_and_states_the_multiplicity(store: Path) -> None:
    text = maple("compare", store, A.id, B.id)
    assert max(map(len, text.splitlines())) <= 80
    assert "B minus A over 4 cells:" in text
    assert "Holm; Benjamini and Hochberg) over 4 cells" in " ".join(text.split())
    assert 'spec quantization: "bf16" | "nf4"' in text
    assert "detectable" not in text
    wide = maple("compare", store, A.id, B.id, columns=160)
    assert "won by A, B" in wide
    assert "detectable" in wide


def test_runs_are_named_by_folder_or_behind_a_colon(store: Path) -> None:
    plain = maple("compare", store, A.id, B.id, "--json")
    assert maple("compare", store / "runs" / A.id, f"{store}:{B.id}", "--json") == plain
    (only,) = json.loads(plain)["comparisons"]
    assert (only["run_a"], only["run_b"]) == (A.id, B.id)
    assert {row["verdict"] for row in only["cells"]} <= {"tied", "A higher", "B higher"}


def test_two_stores_are_a_row_a_pair_and_the_cells_that_differ(store: Path, other: Path) -> None:
    text = maple("compare", store, other)
    assert max(map(len, text.splitlines())) <= 80 + len(str(other))
    assert "B higher" in text
    assert "cells differ after Holm's adjustment" in text
    assert "over 2 pairs" in " ".join(text.split())
    content = json.loads(maple("compare", store, other, "--json"))
    assert len(content["comparisons"]) == 2
    assert "over 8 cells" in content["multiplicity"]
    # Only samples that both stores hold.
    assert {row["n"] for pair in content["comparisons"] for row in pair["cells"]} == {50}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{0}", "{0}"), "is one store"),
        (("{0}",), "1 names given"),
        (("{0}", A.id, A.id), "are the same run"),
        (("{0}:" + A.id, "{1}"), "one of the two names a run"),
        (("{0}", A.id, "nothing"), "no run 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_said(
    store: Path, other: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        maple("compare", *(text.format(store, other) for text in arguments))

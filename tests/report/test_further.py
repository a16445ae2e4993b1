"""Sections that appear when the summary has their estimates."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder

from maple.analysis import summarise
from maple.analysis.forgetting import forgetting_ledger
from maple.analysis.summary import Summary
from maple.report import further, static, write_report
from maple.report.further import KINDS, further_sections
from maple.store.read import open_store

BASE, TUNED = Run(method="none", rank=None), Run(rank=8)


@dataclass(frozen=True)
class Slope:
    group: str
    run_id: str
    language: str
    slope: float
    low: float
    high: float
    score: float
    is_told: bool
    n: int
    rest: str | None


KIND = further.Kind(name="slopes", section="slopes", title="Slopes", note="", estimate="slope")


@pytest.fixture(autouse=True)
def _kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(further, "KINDS", (*KINDS, KIND))


def summary_with(**found: Any) -> Summary:
    return cast(Summary, SimpleNamespace(labels={"r": "the run"}, estimates=None, **found))


def test_what_the_summary_lacks_has_no_section() -> None:
    assert further_sections(summary_with()) == []
    assert further_sections(summary_with(slopes=())) == []


def test_an_estimate_is_shown_in_points_with_its_own_limits_alone() -> None:
    row = Slope("english", "r", "swh_Latn", 0.012, -0.03, 0.05, 0.04, True, 9, None)
    (section,) = further_sections(summary_with(slopes=(row,)))
    (table,) = section["tables"]
    assert (section["id"], table["classes"][3]) == ("slopes", "number")
    assert dict(zip(table["columns"], table["rows"][0], strict=True)) == {
        "Languages": "English", "Run": "the run", "Language": "Swahili (swh_Latn)",
        "Slope": "+1.2 [−3.0, +5.0]", "Score": "4.0", "Is told": "yes", "Samples": "9", "Rest": "–",
    }  # fmt: skip


def test_many_rows_are_cut_with_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(further, "MOST_ROWS", 3)
    row = Slope("all", "r", "swh_Latn", 0.0, 0.0, 0.0, 0.0, False, 1, None)
    (section,) = further_sections(summary_with(slopes=(row,) * 5))
    assert (len(section["tables"][0]["rows"]), section["tables"][0]["n_more"]) == (3, 2)


def test_columns_that_a_kind_names_are_fields_of_its_estimates(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    runs = (BASE, TUNED, Run(rank=16))
    builder.study(runs, TASKS[:1])
    for run in runs:
        builder.run(run)
        for code in ("swh_Latn", "tha_Thai"):
            builder.evaluation(run, TASKS[0], code, np.array([0.0, 1.0] * 10))
    summary = summarise(open_store(tmp_path))
    shown = [kind for kind in KINDS if further.found(summary, kind)]
    for kind in shown:
        fields = {f.name for f in dataclasses.fields(further.found(summary, kind)[0])}
        assert {*kind.columns, kind.estimate} - {""} <= fields, kind.name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "can_draw", lambda: False)
        text = write_report(tmp_path).read_text(encoding="utf-8")
    for kind in shown:
        assert f'<section id="{kind.section}"' in text
        assert f"tables/{kind.name}.csv" in text
        assert (tmp_path / "tables" / f"{kind.name}.csv").exists()
    with (tmp_path / "tables" / "changes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    ledger = forgetting_ledger(open_store(tmp_path))
    assert [float(r["change_low"]) for r in rows] == [c.change.low for c in ledger.changes]
    assert rows

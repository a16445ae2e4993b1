"""The forgetting ledger against its definitions: scores, held-out losses, judged answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import ttest_rel
from tests.analysis.simulated import LANGUAGES, Study, Truth, simulate
from tests.analysis.synthetic import Run, StoreBuilder

from maple.analysis.forgetting import forgetting_ledger, ledger_of
from maple.analysis.means import mean_over_languages
from maple.records.rows import CURVE_SCHEMA
from maple.store.read import open_store

STUDY = Study(
    truths=[
        Truth(rank=None, score=0.45, english=0.8),
        Truth(rank=8, score=0.55, english=0.79),
        Truth(rank=64, score=0.60, english=0.6),
    ],
    seeds=2,
)


def test_a_change_is_the_paired_difference_to_the_base() -> None:
    one_seed = dataclasses.replace(STUDY, seeds=1)
    evidence = simulate(one_seed, 0)
    found = ledger_of(evidence)
    change = next(
        c
        for c in found.changes
        if (c.configuration, c.task, c.group) == ("lora rank=64", "xnli", "swh_Latn")
    )
    panel = evidence.panels[0]
    a, b = (
        panel.scores["swh_Latn"][panel.run_ids.index(r)] for r in ("lora-64-16-0", "none-None-16-0")
    )
    assert change.change.value == pytest.approx((a - b).mean())
    assert change.p == pytest.approx(ttest_rel(a, b).pvalue, rel=0.1)
    (part,) = panel.contrasts(["swh_Latn"], {"lora-64-16-0": 1.0, "none-None-16-0": -1.0})
    assert change.change.low == pytest.approx(mean_over_languages([part]).interval.low)


def test_the_trade_off_holds_gain_and_english_loss_of_every_configuration() -> None:
    found = ledger_of(simulate(STUDY, 0))
    assert [t.configuration for t in found.trade_offs] == ["lora rank=8", "lora rank=64"]
    small, large = found.trade_offs
    assert small.english
    assert large.english
    assert small.gain.value < large.gain.value
    assert small.english.value > large.english.value
    assert small.is_undominated
    assert large.is_undominated
    assert large.english.high < 0
    lost = {c.configuration for c in found.changes if c.group == "eng_Latn" and c.is_lost}
    assert lost == {"lora rank=64"}
    assert {c.group for c in found.changes} == {*LANGUAGES, "eng_Latn"}


def test_a_configuration_worse_in_both_is_dominated() -> None:
    worse = Truth(rank=4, score=0.5, english=0.5)
    found = ledger_of(simulate(dataclasses.replace(STUDY, truths=[*STUDY.truths, worse]), 0))
    assert {t.configuration: t.is_undominated for t in found.trade_offs}["lora rank=4"] is False


def test_without_english_the_trade_off_says_that_it_is_not_known() -> None:
    evidence = simulate(STUDY, 0)
    panels = tuple(
        dataclasses.replace(p, scores={c: s for c, s in p.scores.items() if c != "eng_Latn"})
        for p in evidence.panels
    )
    found = ledger_of(dataclasses.replace(evidence, panels=panels))
    assert {t.english for t in found.trade_offs} == {None}
    assert "English is not evaluated" in found.notes[0]


BASE, RUNS = Run(method="none", rank=None), (Run(rank=8, seed=0), Run(rank=8, seed=1))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE, *RUNS], [])
    for run in (BASE, *RUNS):
        builder.run(run, steps=4)
    return tmp_path


def test_held_out_loss_goes_from_the_first_measurement_to_the_kept_one(store: Path) -> None:
    for run, end in zip(RUNS, (1.5, 1.7), strict=True):
        folder = store / "runs" / run.id
        losses = [None, {"swh_Latn": 2.0}, {"swh_Latn": end}, {"swh_Latn": 9.0}]
        rows = [
            dict.fromkeys(CURVE_SCHEMA.names)
            | {"step": i + 1, "validation_losses": list(x.items()) if x else None}
            for i, x in enumerate(losses)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=CURVE_SCHEMA), folder / "curve.parquet")
        train = json.loads((folder / "train.json").read_text("utf-8"))
        (folder / "train.json").write_text(json.dumps(train | {"kept_step": 3}), "utf-8")
    (found,) = forgetting_ledger(open_store(store)).held_out
    assert (found.language, found.first_step, found.first) == ("swh_Latn", 2, 2.0)
    assert found.change == pytest.approx(-0.4)
    assert found.interval is not None
    # Two seeds, 0.2 apart: a standard error of 0.1 and Student's 12.7 at one degree of freedom.
    assert found.interval.high - found.interval.low == pytest.approx(2 * 12.706 * 0.1, rel=1e-3)


def test_win_rates_are_paired_by_instruction_with_the_base(store: Path) -> None:
    rng = np.random.default_rng(0)
    preferences = {run.id: rng.integers(0, 2, 40).astype(float) for run in (BASE, *RUNS)}
    for run, values in preferences.items():
        folder = store / "alpaca_eval" / run / "a-judge"
        folder.mkdir(parents=True)
        rows = [
            {
                "instruction": f"Do {i}.", "output_1": "x", "generator_1": "reference",
                "dataset": "d", "output_2": f"y{i}", "generator_2": run, "annotator": "a-judge",
                "preference": None if i == 0 else 1 + value, "raw_completion": "",
            }
            for i, value in enumerate(values)
        ]  # fmt: skip
        (folder / "annotations.json").write_text(json.dumps(rows), "utf-8")
    (found,) = forgetting_ledger(open_store(store)).wins
    own = np.mean([preferences[run.id][1:] for run in RUNS], axis=0)
    other = preferences[BASE.id][1:]
    assert (found.annotator, found.reference, found.n) == ("a-judge", "reference", 39)
    assert found.change.value == pytest.approx((own - other).mean())
    assert found.rate == pytest.approx(own.mean())
    assert found.p == pytest.approx(ttest_rel(own, other).pvalue, abs=0.01)


def test_a_store_without_answers_has_an_empty_ledger(store: Path) -> None:
    found = forgetting_ledger(open_store(store))
    assert (found.changes, found.trade_offs, found.wins, found.held_out) == ((), (), (), ())

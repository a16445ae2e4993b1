"""What the report says about running the study again, and the trade-off that it draws."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml
from tests.analysis.synthetic import TASKS, Run, StoreBuilder

from maple.analysis import summarise
from maple.analysis.forgetting import Ledger, TradeOff
from maple.analysis.intervals import Interval
from maple.analysis.summary import Summary
from maple.report import headline, reproduce
from maple.report.trade_off import trade_off_figure
from maple.store.read import open_store
from maple.study.file import load_study

STUDY = """
name: ranks
description: Does a higher rank help?
models: [org/base]
methods: [none, {lora: {rank: [4, 8], targets: all-linear}}]
quantization: [bf16, nf4]
mixtures: {mixed: {bactrian-x: {weight: 2.0, languages: [sw, th]}}}
evaluate: {tasks: [xnli], languages: [sw], limit: 5}
"""


def asked(study: Any) -> Summary:
    return cast(Summary, SimpleNamespace(study={"study": study, "cells": []}, runs=(), modes=()))


def test_the_study_of_the_page_is_the_study_that_was_run(tmp_path: Path) -> None:
    path, again = tmp_path / "study.yaml", tmp_path / "again.yaml"
    path.write_text(STUDY, encoding="utf-8")
    spec = load_study(path)
    summary = asked(spec.model_dump(mode="json"))
    again.write_text(reproduce.study_file(summary), encoding="utf-8")
    assert load_study(again) == spec
    assert headline.stated_question(summary) == "Does a higher rank help?"
    assert yaml.safe_load(reproduce.plan_json(summary)) == {"cells": []}


@pytest.mark.parametrize("study", [None, "text", {"name": "eval", "models": ["x"]}, {}])
def test_scores_without_a_study_have_no_study_file(study: Any) -> None:
    assert reproduce.study_file(asked(study)) == ""
    assert headline.stated_question(asked(study)) == ""


def test_every_input_is_named_with_what_it_was_pinned_to(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    tuned = Run(rank=8)
    builder.study([tuned])
    builder.run(tuned)
    for i in range(5):
        code = ("swh_Latn", "tha_Thai", "yor_Latn", "eng_Latn", "arb_Arab")[i]
        builder.evaluation(tuned, TASKS[0], code, np.ones(3), data=f"sha256:{i}")
    found = reproduce.revisions(summarise(open_store(tmp_path)))
    assert ("base model", "tiny", "abc") in found
    (benchmark,) = [row for row in found if row[0] == "benchmark"]
    assert benchmark[1] == TASKS[0].name
    assert benchmark[2].endswith("and 2 more, a hash per language")


def trade_off(name: str, gain: float, english: float | None, is_best: bool | None) -> TradeOff:
    def around(value: float) -> Interval:
        return Interval(value, value - 0.01, value + 0.02)

    return TradeOff(
        configuration=name,
        run_ids=(name,),
        gain=around(gain),
        english=None if english is None else around(english),
        n_seeds=1,
        is_undominated=is_best,
    )


def test_the_trade_off_shows_gain_against_loss_with_both_intervals() -> None:
    points = (
        trade_off("a", 0.01, -0.001, True),
        trade_off("b", 0.02, -0.03, False),
        trade_off("c", 0.03, -0.02, True),
        trade_off("d", 0.04, None, None),
    )
    ledger = Ledger(changes=(), trade_offs=points, held_out=(), wins=(), notes=())
    figure = trade_off_figure(ledger)
    assert figure is not None
    curve, best, rest = figure.data
    assert (curve["x"], curve["y"]) == (pytest.approx([1, 3]), pytest.approx([-0.1, -2]))
    assert (best["x"], rest["x"]) == (curve["x"], pytest.approx([2]))
    assert best["error_y"]["array"] == pytest.approx([2, 2])
    assert best["error_x"]["arrayminus"] == pytest.approx([1, 1])
    assert [row[0] for row in figure.rows] == ["a", "b", "c"]
    assert trade_off_figure(None) is None

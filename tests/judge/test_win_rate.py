"""Win rates: the published figures, and alpaca_eval's own code on any preferences."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from maple.errors import DataError
from maple.judge import read_annotations, win_rate

NAMES = ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total")


def published(shared_data: Path) -> Path:
    return shared_data / "alpaca_eval/results/alpaca-7b/alpaca_eval_gpt4/annotations.json"


def test_the_published_verdicts_give_the_published_row(shared_data: Path) -> None:
    board = "data_AlpacaEval/alpaca_eval_gpt4_leaderboard.csv"
    with (shared_data / "alpaca_eval/leaderboards" / board).open(encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if row[""] == "alpaca-7b")
    annotations = read_annotations(published(shared_data))
    found = win_rate([a.preference for a in annotations])
    assert (round(found.win_rate, 4), round(found.standard_error or 0, 4)) == (26.4596, 1.5357)
    for name in (*NAMES, "discrete_win_rate"):
        assert getattr(found, name) == pytest.approx(float(row[name]), abs=1e-12), name


@pytest.mark.parametrize("seed", range(6))
def test_rates_equal_those_of_alpaca_eval(seed: int, oracle) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 300))
    weighted = draw.uniform(1, 2, n)
    discrete = draw.choice([0, 1, 2, 1.5], n)
    values = np.where(draw.random(n) < seed / 5, weighted, discrete)
    values = np.where(draw.random(n) < 0.1, np.nan, values)
    preferences = [None if math.isnan(v) else float(v) for v in values]
    found = win_rate(preferences)
    rows = [{"preference": float(v)} for v in values]
    expected = oracle("plain", annotations=rows)
    for name in (*NAMES, "discrete_win_rate"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-9), name


def test_a_verdict_that_cannot_be_read_is_no_loss() -> None:
    found = win_rate([2.0, None, None, 1.0])
    assert (found.win_rate, found.n_total, found.n_wins_base) == (50.0, 2, 1)


def test_no_readable_verdict_gives_no_win_rate() -> None:
    with pytest.raises(DataError, match="none of the 3 verdicts states a preference"):
        win_rate([None] * 3)


def test_one_verdict_has_no_standard_error() -> None:
    assert win_rate([2.0]).standard_error is None


@pytest.mark.parametrize("value", [3, -1, "2", [1], True])
def test_a_preference_out_of_range_names_file_and_row(value: object, tmp_path: Path) -> None:
    row = {
        "instruction": "I", "output_1": "a", "output_2": "b", "generator_1": "r",
        "generator_2": "m", "annotator": "x", "preference": value,
    }  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([{**row, "preference": 1}, row]), encoding="utf-8")
    with pytest.raises(DataError, match=r"annotations\.json, row 2: .*preference"):
        read_annotations(path)

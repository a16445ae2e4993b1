"""The length-controlled win rate, held against alpaca_eval's own ``glm_winrate``."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maple.errors import DataError
from maple.judge import Annotation, Output, Pair, length_controlled, read_gamed

N = 805
NAMES = ("length_controlled_winrate", "lc_standard_error")


def write_gamed(folder: Path, seed: int, *, is_shuffled: bool = False) -> Path:
    """Synthetic files of AlpacaEval's shape: two models that game the length."""
    draw = np.random.default_rng(seed)
    difficulty = draw.normal(size=N)
    rows = []
    for model, shift in (("concise", -1.0), ("verbose", 1.0)):
        length = draw.normal(shift, 1.0, N)
        chance = 1 / (1 + np.exp(-(1.5 * np.tanh(length) - difficulty + draw.normal(size=N))))
        rows += [
            [float(chance[i]), i, float(length[i]), float(difficulty[i]), False, model]
            for i in (draw.permutation(N) if is_shuffled else range(N))
        ]
    header = ["preference", "index", "std_delta_len", "instruction_difficulty"]
    write_csv(folder / "df_gamed.csv", [*header, "not_gamed_baseline", "model"], rows)
    table = [[i, float(difficulty[i])] for i in range(N)]
    write_csv(folder / "instruction_difficulty.csv", ["", "instruction_difficulty"], table)
    return folder / "df_gamed.csv"


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def judged(seed: int, *, n: int = N, is_discrete: bool, lacking: float = 0.0) -> list[Annotation]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 2000, (n, 2))
    chance = 1 / (1 + np.exp(-(lengths[:, 1] - lengths[:, 0]) / 800 - draw.normal(size=n)))
    values = np.where(chance > draw.random(n), 2.0, 1.0) if is_discrete else 1 + chance
    found = []
    for i in range(n):
        first, second = (
            Output(instruction=f"I{i}", output="x" * int(length), generator=name)
            for length, name in zip(lengths[i], ("reference", "model"), strict=True)
        )
        preference = None if draw.random() < lacking else float(values[i])
        pair = Pair(reference=first, model=second)
        found.append(Annotation(pair=pair, annotator="a", preference=preference))
    return found


def rows(annotations: list[Annotation]) -> list[dict[str, object]]:
    return [
        {
            "instruction": a.pair.instruction,
            "output_1": a.pair.reference.output,
            "output_2": a.pair.model.output,
            "generator_1": a.pair.reference.generator,
            "generator_2": a.pair.model.generator,
            "annotator": a.annotator,
            "preference": float("nan") if a.preference is None else a.preference,
        }
        for a in annotations
    ]


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (0, {"is_discrete": True}),
        (1, {"is_discrete": False}),
        (2, {"is_discrete": False, "lacking": 0.1}),
        (3, {"is_discrete": True, "n": 200}),
    ],
    ids=["ranked", "weighted", "unparsable", "limited"],
)
def test_rate_and_error_equal_those_of_alpaca_eval(seed, settings, tmp_path, oracle) -> None:
    # A file in another order than 0, 1, 2 is read as alpaca_eval reads it, by place.
    path = write_gamed(tmp_path, seed, is_shuffled=seed == 1)
    annotations = judged(seed, **settings)
    found = length_controlled(annotations, read_gamed(path))
    expected = oracle("rates", annotations=rows(annotations), gamed=str(path))
    for name in NAMES:
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-6), name
    assert expected["lc_standard_error"] > 1e-3
    assert abs(expected["length_controlled_winrate"] - expected["win_rate"]) > 1e-2


def test_a_model_against_itself_is_at_one_half(tmp_path: Path, oracle) -> None:
    path = write_gamed(tmp_path, 5)
    own = [
        replace(a, pair=replace(a.pair, model=replace(a.pair.model, generator="reference")))
        for a in judged(5, n=30, is_discrete=True)
    ]
    found = length_controlled(own, read_gamed(path))
    expected = oracle("rates", annotations=rows(own), gamed=str(path))
    assert [getattr(found, name) for name in NAMES] == [expected[name] for name in NAMES] == [50, 0]


def test_difficulties_come_from_their_own_file_where_the_column_is_missing(tmp_path: Path) -> None:
    path = write_gamed(tmp_path, 6)
    whole = read_gamed(path)
    with path.open(encoding="utf-8") as stream:
        kept = [row[:3] + row[4:] for row in csv.reader(stream)]
    write_csv(path, kept[0], kept[1:])
    with pytest.raises(DataError, match=r"'instruction_difficulty' is missing.*--difficulty"):
        read_gamed(path)
    found = read_gamed(path, tmp_path / "instruction_difficulty.csv")
    assert np.array_equal(found.difficulty, whole.difficulty)
    assert found.by_instruction == whole.by_instruction


def test_a_broken_number_names_file_line_and_column(tmp_path: Path) -> None:
    path = write_gamed(tmp_path, 7)
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[3] = "0.5,2,long,0.1,False,concise\r"
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    with pytest.raises(DataError, match=r"df_gamed\.csv, line 4: column 'std_delta_len' is 'long'"):
        read_gamed(path)


def test_an_instruction_without_difficulty_is_named(tmp_path: Path) -> None:
    gamed = read_gamed(write_gamed(tmp_path, 8))
    with pytest.raises(DataError, match="no difficulty for 2 of 807 instructions, number 805"):
        length_controlled(judged(8, n=807, is_discrete=True), gamed)


def test_answers_of_one_length_leave_nothing_to_control(tmp_path: Path) -> None:
    gamed = read_gamed(write_gamed(tmp_path, 9))
    same = [
        replace(a, pair=replace(a.pair, model=replace(a.pair.reference, generator="model")))
        for a in judged(9, n=20, is_discrete=True)
    ]
    with pytest.raises(DataError, match="no length to control for"):
        length_controlled(same, gamed)

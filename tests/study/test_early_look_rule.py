"""The rule of an early look: what is refused, how the error is shared, what identity it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.run.tiny import small_study, write_study

from maple.cli.early_look import early_look_settings
from maple.errors import StudyError, UsageError
from maple.plan.early_look import statement
from maple.study import EarlyLook, EvalSpec
from maple.study.file import load_study

LOOK = {"alpha": 0.1, "looks": [0.25, 0.5, 1.0]}


@pytest.mark.parametrize(
    ("look", "methods", "message"),
    [
        (LOOK, [{"lora": {"rank": 2}}], "add none to methods"),
        (LOOK | {"looks": [0.5, 0.4, 1]}, ["none"], "rise and end with 1"),
        (LOOK | {"looks": [0.5, 0.9]}, ["none"], "rise and end with 1"),
        (LOOK | {"alpha": 0.7}, ["none"], "less than 0.5"),
        (LOOK | {"fultility_points": 3}, ["none"], "Did you mean 'futility_points'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    tmp_path: Path, look: dict[str, Any], methods: list[Any], message: str
) -> None:
    made = small_study("a/model", methods=methods)
    made["evaluate"] |= {"early_look": look}
    with pytest.raises(StudyError, match=message):
        load_study(write_study(tmp_path / "study.yaml", made))


@pytest.mark.parametrize(
    ("divide", "each", "words"),
    [
        ("grid", 0.0025, "0.05 in 20 comparisons together, 0.0025 each"),
        (50, 0.001, "0.05 in 20 comparisons together, 0.001 each"),
        ("none", 0.05, "0.05 in each of 20 comparisons"),
    ],
)
def test_the_error_is_shared_and_stated(divide: Any, each: float, words: str) -> None:
    settings = EarlyLook(alpha=0.05, divide=divide)
    rule = settings.rule(comparisons=20, against="a", limit=None)
    assert rule.alpha == pytest.approx(each)
    assert statement(settings, 20) == f"early looks: two-sided error {words}"


def test_options_of_a_look_are_refused_without_it() -> None:
    given = {"early_looks": True, "early_look_alpha": 0.1, "early_look_divide": "none"}
    given |= {"early_look_futility": 4.0, "early_look_against": "base"}
    expected = EarlyLook(alpha=0.1, divide="none", futility_points=4.0)
    assert early_look_settings(given) == expected
    counted = early_look_settings(given | {"early_look_divide": "200"})
    assert counted is not None
    assert counted.divide == 200
    with pytest.raises(UsageError, match="early look, divide: Input should be 'grid' or 'none'"):
        early_look_settings(given | {"early_look_divide": "gird"})
    with pytest.raises(UsageError, match="without --early-look"):
        early_look_settings(given | {"early_looks": False})
    with pytest.raises(UsageError, match=r"early look, alpha: .* less than 0.5"):
        early_look_settings(given | {"early_look_alpha": 0.9})
    off = {"early_look_alpha": 0.05, "early_look_divide": "grid", "early_look_futility": None}
    assert early_look_settings(given | off | {"early_looks": False}) is None


def test_an_evaluation_without_a_rule_has_the_id_it_always_had() -> None:
    spec = EvalSpec(
        run_id="r", adapter="none", task="xnli", task_version=1, language="tur_Latn",
        data="sha256:0", split="test",
    )  # fmt: skip
    content = spec.model_dump(mode="json")
    assert "early_look" not in content
    # As Maple 0.1 named it.
    assert spec.id == "adf607a98d92c92c"
    rule = EarlyLook().rule(comparisons=1, against="a" * 16, limit=None)
    assert spec.model_copy(update={"early_look": rule}).id != spec.id

"""Scores of a ranking against the formula in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maple.catalog.contracts import GenerationRequest, RankingRequest, RankingResponse, Sample
from maple.catalog.tasks import ranking_score
from maple.errors import MapleError


def score(values: list[float], options: list[str], n_tokens: list[int], gold: int):
    return ranking_score(
        Sample(id="7", fields={}, gold=(str(gold),)),
        RankingRequest(context="", continuations=tuple(options)),
        RankingResponse(
            loglikelihoods=tuple(values),
            is_greedy=(False,) * len(values),
            n_tokens=tuple(n_tokens),
        ),
    )


options = st.lists(
    st.tuples(
        st.floats(-1e4, 0), st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 99)
    ),
    min_size=2,
    max_size=5,
)


@given(options, st.data())
def test_metrics_are_lm_evals_argmax_over_lengths(
    drawn: list[tuple[float, str, int]], data: st.DataObject
) -> None:
    values, texts, n_tokens = map(list, zip(*drawn, strict=True))
    gold = data.draw(st.integers(0, len(drawn) - 1))
    result = score(values, texts, n_tokens, gold)
    lls = np.array(values)
    expected = {
        "accuracy": np.argmax(lls),
        "accuracy_per_token": np.argmax(lls / np.array(n_tokens)),
        "accuracy_per_character": np.argmax(lls / np.array([float(len(t)) for t in texts])),
        "accuracy_per_byte": np.argmax(lls / np.array([float(len(t.encode())) for t in texts])),
    }
    assert result.metrics == {name: float(best == gold) for name, best in expected.items()}
    assert result.prediction == str(expected["accuracy"])
    assert result.value == result.metrics["accuracy"]


def test_a_tie_goes_to_the_first_option() -> None:
    assert score([-2.0, -1.0, -1.0], ["a", "b", "c"], [1, 1, 1], 1).prediction == "1"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loglikelihood_that_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(MapleError, match=r"sample 7: 2 options.*finite"):
        score([-1.0, bad], ["a", "b"], [1, 1], 0)


def test_a_missing_loglikelihood_is_an_error() -> None:
    with pytest.raises(MapleError, match="3 options"):
        score([-1.0, -2.0], ["a", "b", "c"], [1, 1], 0)


def test_a_generation_is_refused() -> None:
    response = RankingResponse(loglikelihoods=(), is_greedy=(), n_tokens=())
    with pytest.raises(TypeError):
        ranking_score(
            Sample(id="7", fields={}, gold=("0",)), GenerationRequest(context=""), response
        )

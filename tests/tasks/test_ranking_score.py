"""Scores of a ranking against the formula in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    RankingRequest,
    RankingResponse,
    Sample,
    Score,
)
from maple.catalog.tasks import choice_request, choice_score, listed_choices, ranking_score
from maple.errors import MapleError, UsageError
from maple.study import PromptSettings


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


@given(options, st.data())
def test_pmi_takes_off_what_an_option_is_worth_alone(
    drawn: list[tuple[float, str, int]], data: st.DataObject
) -> None:
    values = [value for value, _, _ in drawn]
    alone = data.draw(st.lists(st.floats(-1e4, 0), min_size=len(drawn), max_size=len(drawn)))
    gold = data.draw(st.integers(0, len(drawn) - 1))
    result = ranking_score(
        Sample(id="7", fields={}, gold=(str(gold),)),
        RankingRequest(context="c", continuations=tuple(text for _, text, _ in drawn)),
        RankingResponse(
            loglikelihoods=tuple(values),
            is_greedy=(False,) * len(values),
            n_tokens=(1,) * len(values),
            unconditional=tuple(alone),
        ),
    )
    expected = int(np.argmax(np.array(values) - np.array(alone)))
    assert result.metrics["accuracy_pmi"] == float(expected == gold)
    assert "accuracy_pmi" not in score(values, ["x"] * len(values), [1] * len(values), gold).metrics


def generated(text: str, gold: int) -> Score:
    choices = listed_choices(["Cold.", "Hunger."], ("1", "2"))
    request = GenerationRequest(context="c", choices=choices, answers=("Cold.", "Hunger."))
    response = GenerationResponse(text=text, finish="stop", n_tokens=1)
    return choice_score(Sample(id="7", fields={}, gold=(str(gold),)), request, response)


def test_a_generated_choice_is_scored_by_the_option_it_names() -> None:
    right, wrong = generated("-choice2 : Hunger.", 1), generated("1", 1)
    assert (right.value, right.prediction, right.was_extracted) == (1.0, "1", True)
    assert right.metrics == {"accuracy": 1.0, "extracted": 1.0, "accuracy_if_extracted": 1.0}
    assert (wrong.value, wrong.prediction) == (0.0, "0")
    assert wrong.metrics == {"accuracy": 0.0, "extracted": 1.0, "accuracy_if_extracted": 0.0}


def test_an_answer_that_names_no_option_is_counted_as_such() -> None:
    score = generated("I cannot say.", 1)
    assert (score.value, score.prediction, score.was_extracted) == (0.0, "", False)
    assert score.metrics == {"accuracy": 0.0, "extracted": 0.0}


def test_generation_is_asked_for_in_the_form_that_lists_answers_only() -> None:
    ranking = RankingRequest(context="c", continuations=("a", "b"))
    choices = listed_choices(["a", "b"], ("1", "2"))
    assert choice_request(ranking, choices, PromptSettings()) is ranking
    request = choice_request(ranking, choices, PromptSettings(scoring="generation"))
    assert isinstance(request, GenerationRequest)
    assert (request.context, request.answers) == ("c", ("a", "b"))
    with pytest.raises(UsageError, match="Set form: mega"):
        choice_request(ranking, choices, PromptSettings(form="lm-eval", scoring="generation"))

"""An optional engine is admitted where it agrees with the reference, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.engines.completion_server import CompletionServer, shifted
from tests.engines.test_openai_engine import PROMPTS, RANKINGS, asking, encoded

from maple.catalog.contracts import GenerationResponse, RankingResponse
from maple.engines import Audit, audit, compare, repeat, spread
from maple.errors import EngineError
from maple.evaluate import Engine
from maple.evaluate.encode import EncodedOption, EncodedRequest

OPTIONS = (EncodedOption((1, 2, 3), 1), EncodedOption((1, 4, 5, 6), 2))


@dataclass
class Scripted:
    """An engine whose answers are given, a list for each call."""

    calls: list[list[Any]] = field(default_factory=list)
    asked: list[EncodedRequest] = field(default_factory=list)

    def loglikelihoods(self, requests: Any) -> list[RankingResponse]:
        self.asked += requests
        return [
            RankingResponse(loglikelihoods=v, is_greedy=(False, False), n_tokens=(2, 2))
            for v in self.calls.pop(0)
        ]

    def generate(self, requests: Any) -> list[GenerationResponse]:
        self.asked += requests
        return [GenerationResponse(text=t, finish="stop", n_tokens=1) for t in self.calls.pop(0)]


def ranked(mine: list[tuple[float, float]], other: list[tuple[float, float]]) -> Audit:
    requests = [EncodedRequest(options=OPTIONS)] * len(mine)
    return compare(Scripted([mine]), requests, Parted(other), requests)


class Parted(Scripted):
    """Answers from one list, however it is asked in parts."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__()
        self._left = list(answers)

    def loglikelihoods(self, requests: Any) -> list[RankingResponse]:
        self.calls = [[self._left.pop(0) for _ in requests]]
        return super().loglikelihoods(requests)

    def generate(self, requests: Any) -> list[GenerationResponse]:
        self.calls = [[self._left.pop(0) for _ in requests]]
        return super().generate(requests)


def test_shares_and_differences_are_those_of_their_definitions() -> None:
    found = ranked([(-1.0, -2.0), (-3.0, -2.5)], [(-1.1, -2.0), (-2.0, -2.5)])
    assert found.samples == 2
    assert found.equal_decisions == 0.5
    # |-1.0 + 1.1| / 2, 0, |-3 + 2| / 2, 0
    assert found.mean_difference == pytest.approx((0.05 + 0.5) / 4)
    assert found.largest_difference == pytest.approx(0.5)
    assert found.equal_texts is None


def test_texts_are_compared_greedily_and_but_for_outer_white_space() -> None:
    requests = [EncodedRequest(prompt=(1,), draw_key=str(n)) for n in range(4)]
    mine = Scripted([["a", " b", "c", "d"]])
    found = compare(mine, requests, Parted(["a", "b\n", "C", "d"]), requests)
    assert found.equal_texts == 0.75
    assert not found.problems()
    assert {(r.sampling, r.draw_key) for r in mine.asked} == {(None, "")}
    worse = compare(Scripted([["a", "b", "c", "x"]]), requests, Parted(list("abyz")), requests)
    assert worse.problems() == ["equal texts 50%, at least 75% are wanted"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([(-1.0, -2.0)] * 20, None),
        ([(-1.03, -2.0)] * 20, None),
        ([(-1.2, -2.2)] * 20, "mean difference per token 0.1, at most 0.05"),
        ([(-1.0, -2.0)] * 19 + [(-1.0, -2.6)], "largest difference per token 0.3, at most 0.25"),
        ([(-1.0, -2.0)] * 18 + [(-2.0, -1.99)] * 2, "largest difference"),
        ([(float("nan"), -2.0)] * 20, "mean difference per token nan"),
    ],
)
def test_an_engine_is_refused_beyond_the_stated_thresholds(values, said) -> None:
    found = ranked(values, [(-1.0, -2.0)] * 20)
    if said is None:
        found.check("engine x")
        assert found.as_json()["problems"] == []
        return
    with pytest.raises(EngineError, match=f"engine x disagrees with the reference.*{said}"):
        found.check("engine x")


def test_equal_decisions_are_asked_of_nine_in_ten() -> None:
    reference = [(-1.0, -1.001)] * 20
    assert not ranked([(-1.0, -1.001)] * 18 + [(-1.001, -1.0)] * 2, reference).problems()
    found = ranked([(-1.0, -1.001)] * 17 + [(-1.001, -1.0)] * 3, reference)
    assert found.problems() == ["equal decisions 85%, at least 90% are wanted"]


def test_samples_are_spread_over_the_split() -> None:
    assert spread(5, 32) == [0, 1, 2, 3, 4]
    assert spread(100, 4) == [0, 25, 50, 75]
    assert spread(7, 3) == [0, 2, 4]


def test_without_a_reference_an_engine_is_held_against_itself_and_the_record_says_so() -> None:
    requests = [EncodedRequest(options=OPTIONS)] * 2
    forgot = []
    engine = Scripted([[(-1.0, -2.0)] * 2, [(-1.0, -2.0), (-1.9, -2.0)]])
    found = repeat(engine, requests, lambda: forgot.append(1), difference=lambda o: 0.1)
    assert forgot == [1]
    assert not found.is_parity
    assert found.context_difference == 0.1
    assert found.statement().startswith("not audited against the reference; asked twice")
    with pytest.raises(EngineError, match="disagrees with itself when asked again"):
        found.check("engine x")


def test_a_model_that_repeats_its_texts_otherwise_is_recorded_and_not_refused() -> None:
    requests = [EncodedRequest(prompt=(1,))] * 2
    engine = Scripted([["a", "b"], ["c", "d"]])
    found = repeat(engine, requests, lambda: None, difference=lambda o: None)
    assert found.equal_texts == 0
    assert not found.problems()


def test_a_context_that_its_answer_changes_is_refused() -> None:
    requests = [EncodedRequest(options=OPTIONS)]
    engine = Scripted([[(-1.0, -2.0)], [(-1.0, -2.0)]])
    found = repeat(engine, requests, lambda: None, difference=lambda o: 0.4)
    assert found.problems() == [
        "difference of a context's log-likelihood per token 0.4, at most 0.25 is allowed"
    ]


# ------------------------------------------------------------------------ with a real server


def test_the_same_model_passes_and_another_does_not(
    base, server: CompletionServer, other_server: CompletionServer
) -> None:
    rankings, prompts = encoded(base, RANKINGS), encoded(base, PROMPTS)
    reference = Engine(base.model, base)
    with asking(server) as same, asking(other_server) as other:
        found = compare(same, rankings, reference, rankings)
        assert found.largest_difference is not None
        assert found.largest_difference < 1e-4
        assert not found.problems()
        assert not compare(same, prompts, reference, prompts).problems()
        assert compare(other, rankings, reference, rankings).problems()
        assert compare(other, prompts, reference, prompts).problems()


def test_shifted_log_probabilities_are_refused(base, server: CompletionServer) -> None:
    rankings = encoded(base, RANKINGS)
    server.spoil = shifted(0.3)
    with asking(server) as engine:
        found = compare(engine, rankings, Engine(base.model, base), rankings)
    assert found.mean_difference is not None
    assert found.mean_difference > audit.MOST_MEAN_DIFFERENCE
    assert any("mean difference" in problem for problem in found.problems())


def test_a_context_echoes_alike_alone_and_before_an_answer(base, server: CompletionServer) -> None:
    option = encoded(base, RANKINGS[:1])[0].options[1]
    with asking(server) as engine:
        assert engine.context_difference(option) == pytest.approx(0, abs=1e-5)
        server.spoil = shifted(0.5)
        # A shift that depends on what stands behind the context.
        longer = EncodedOption((*option.ids, 5), option.start)
        values = [engine.context_difference(o) for o in (option, longer)]
        assert max(v for v in values if v is not None) > 0.1
        assert engine.context_difference(EncodedOption((0, 5, 6), 1)) is None

"""How a judge is asked and read: word for word and number for number as alpaca_eval does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.judge.judge_server import completion

from maple.errors import UsageError
from maple.judge import Output, Pair, annotator_name, load_protocol

TEMPLATES = {
    "pairwise": "alpaca_eval_gpt4/alpaca_eval.txt",
    "weighted": "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt",
}
ROWS = [
    {"instruction": "Say hi.", "output_1": "hi", "output_2": "hello\n\nthere"},
    {"instruction": 'Quote """this"""', "output_1": "  led by spaces ", "output_2": ""},
    {"instruction": "日本語 \\n {x}", "output_1": "{}", "output_2": "<b>\\1</b>"},
]
RANKINGS = [
    "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]",
    "[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]",
    '  [{"model": "model_1", "rank": 2}]',
    "[{'model': 'model_1', 'rank': 3}]",
    "[{'model': 'model_2', 'rank': 1}]",
    "[{'rank': 1}, {'model': 'model_1', 'rank': 1}]",
    "[{'model': 'model_1', 'rank': '1'}]",
    "[{'model': 'model_1', 'rank': True}]",
    "{'model': 'model_1', 'rank': 1}",
    "({'model': 'model_1', 'rank': 1},)",
    "Model 1 is better.",
    "[{'model': 'model_1', 'rank': 1}",
    "```python\n[{'model': 'model_1', 'rank': 1}]\n```",
    "[[1]]",
    "None",
    "",
]


def weighed(*positions: dict[str, float]) -> dict[str, Any]:
    content = [
        {"token": "m", "top_logprobs": [{"token": t, "logprob": p} for t, p in entry.items()]}
        for entry in positions
    ]
    return completion("m", logprobs={"content": content})["choices"][0]


WEIGHED = [
    weighed({"m": -0.017597131, "M": -4.048847, "Both": -14.9}),
    weighed({"M": -1e-6, "m": -13.9}),
    weighed({"m": -0.3}),
    weighed({"M": -0.3}),
    weighed({"Both": -0.3, " m": -1.0}),
    weighed({}),
    weighed({"m": -0.1}, {"M": -0.1}),
    weighed({"m": -900.0, "M": -901.0}),
]


@pytest.mark.parametrize("name", ["pairwise", "weighted"])
def test_messages_are_those_of_alpaca_eval(name: str, oracle) -> None:
    protocol = load_protocol(name)
    found = [protocol.messages(*row.values()) for row in ROWS]
    assert found == oracle("chat", template=TEMPLATES[name], rows=ROWS)
    assert [m["role"] for m in found[0]] == ["system", "user"]


def test_an_answer_that_holds_a_field_or_a_mark_stays_text() -> None:
    protocol = load_protocol("pairwise")
    system, user = protocol.messages("{output_2}", "<|im_end|>{instruction}", "secret")
    assert user["content"].count("secret") == 1
    assert "<|im_end|>{instruction}" in user["content"]
    assert system["role"] == "system"


def test_completions_are_read_as_alpaca_eval_reads_them(oracle) -> None:
    ranking, weighted = load_protocol("pairwise"), load_protocol("weighted")
    found = {
        "ranking": [ranking.parse(completion(text)["choices"][0]) for text in RANKINGS],
        "weighted": [weighted.parse(choice) for choice in WEIGHED],
    }
    expected = oracle("parse", ranking=RANKINGS, weighted=WEIGHED)
    assert found["ranking"] == expected["ranking"]
    assert found["ranking"][:4] == [1.0, 2.0, 2.0, None]
    assert found["weighted"] == pytest.approx(expected["weighted"], abs=1e-12, nan_ok=True)
    assert found["weighted"][2:6] == [1.0, 2.0, None, None]


def test_a_completion_without_content_or_logprobs_states_nothing() -> None:
    for choice in ({}, {"message": None}, {"message": {"content": None}}, {"logprobs": None}):
        assert load_protocol("pairwise").parse(choice) is None
        assert load_protocol("weighted").parse(choice) is None


def test_a_weighted_preference_is_the_share_of_the_second_answer() -> None:
    choice = weighed({"m": math.log(0.6), "M": math.log(0.2), "x": math.log(0.2)})
    assert load_protocol("weighted").parse(choice) == pytest.approx(1.25)


def test_the_order_of_two_answers_is_that_of_alpaca_eval(oracle, shared_data: Path) -> None:
    path = shared_data / "alpaca_eval/results/text_davinci_003/model_outputs.json"
    texts = [row["instruction"] for row in json.loads(path.read_text(encoding="utf-8"))]
    pairs = [
        Pair(
            reference=Output(instruction=text, output="1", generator="r"),
            model=Output(instruction=text, output="2", generator="m"),
        )
        for text in texts
    ]
    assert [p.is_switched for p in pairs] == oracle("switch", instructions=texts)
    assert [p.shown == ("2", "1") for p in pairs] == [p.is_switched for p in pairs]
    assert 0.4 < sum(p.is_switched for p in pairs) / 805 < 0.6


def test_alpaca_evals_name_is_given_to_its_own_judges_alone() -> None:
    assert annotator_name("pairwise", "gpt-4") == "alpaca_eval_gpt4"
    assert annotator_name("weighted", "gpt-4-1106-preview") == "weighted_alpaca_eval_gpt4_turbo"
    assert annotator_name("weighted", "gpt-4") == "maple-weighted-gpt-4"
    assert annotator_name("pairwise", "Qwen/Qwen3 8B") == "maple-pairwise-Qwen-Qwen3-8B"


def test_an_unknown_protocol_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no judge protocol 'wieghted'\. Did you mean 'weighted'"):
        load_protocol("wieghted")

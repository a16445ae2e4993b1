"""The completion form: every task as text to go on with, in the language's own labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, RankingRequest, Sample
from maple.errors import UsageError
from maple.study import PromptSettings

PROMPT = PromptSettings(form="completion", instruction_language="native", choices="cloze")
PASSAGE = {"context": "\ufeffKenya iko Afrika. ", "question": "Kenya iko wapi?"}
OPTIONS = {f"mc_answer{n}": name for n, name in enumerate(("Afrika", "Asia", "Ulaya", "Chad"), 1)}


def request(task: str, language: str, fields: Mapping[str, str], **changes: Any) -> Any:
    sample = Sample(id="1", fields=fields, gold=("0",))
    prompt = PROMPT.model_copy(update=changes)
    return load_task(task).request(sample, language, prompt)


@pytest.mark.parametrize("task", ["xquad", "mlqa"])
def test_a_question_is_answered_on_its_line(task: str) -> None:
    asked = request(task, "swh_Latn", {**PASSAGE, "language": "swh_Latn"})
    assert isinstance(asked, GenerationRequest)
    first, second, third = asked.context.split("\n")
    assert first.endswith(": Kenya iko Afrika.")
    assert second.endswith(": Kenya iko wapi?")
    assert third.endswith(":")
    assert (asked.stop, asked.delimiter) == (("\n",), "")


def test_belebele_ranks_answers_or_letters_behind_listed_answers() -> None:
    fields = {"flores_passage": "P.", "question": "Q?", **OPTIONS}
    cloze = request("belebele", "eng_Latn", fields)
    assert cloze == RankingRequest(
        context="Passage: P.\nQuery: Q?\nAnswer:",
        continuations=("Afrika", "Asia", "Ulaya", "Chad"),
    )
    letters = request("belebele", "eng_Latn", fields, choices="letter")
    assert letters.continuations == ("A", "B", "C", "D")
    assert "\nB: Asia\n" in letters.context


def test_xnli_ranks_true_neither_and_false() -> None:
    asked = request("xnli", "eng_Latn", {"premise": "It rains. ", "hypothesis": "It is wet."})
    assert asked == RankingRequest(
        context="It rains.\nQuery: It is wet.\nAnswer:",
        continuations=("True", "Neither", "False"),
    )


@pytest.mark.parametrize(("asks", "connector"), [("cause", "because"), ("effect", "so")])
def test_xcopa_goes_on_behind_a_connector(asks: str, connector: str) -> None:
    fields = {"premise": "It rained.", "choice1": "We got wet.", "choice2": "İyi.", "asks": asks}
    asked = request("xcopa", "eng_Latn", fields)
    assert asked.context == f"It rained {connector}"
    assert asked.continuations[0] == "we got wet."


def test_scripts_without_spaces_have_none() -> None:
    fields = {
        "premise": "下雨了。",
        "choice1": "我们湿了。",
        "choice2": "我们走。",
        "asks": "effect",
    }
    asked = request("xcopa", "zho_Hans", fields)
    assert (asked.context, asked.delimiter) == ("下雨了所以", "")
    story = {f"sentence{n}": f"第{n}句。" for n in range(1, 5)}
    ended = request("xstorycloze", "zho_Hans", {**story, "ending1": "完。", "ending2": "不。"})
    assert (ended.context, ended.delimiter) == ("第1句。第2句。第3句。第4句。", "")


def test_a_summary_is_the_line_that_follows() -> None:
    asked = request("xlsum", "swh_Latn", {"text": " Habari. "})
    assert (asked.context, asked.delimiter) == ("Habari.", "\n")


def test_a_language_without_words_is_named() -> None:
    with pytest.raises(UsageError, match=r"completion prompt form .* no words for ron_Latn"):
        request("xquad", "ron_Latn", PASSAGE)


def test_english_labels_can_be_asked_for() -> None:
    asked = request("xquad", "swh_Latn", PASSAGE, instruction_language="english")
    assert asked.context.startswith("Passage: Kenya")

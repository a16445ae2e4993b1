"""AlpacaEval: its rows, its files in order of preference, and that no score is made up."""

from __future__ import annotations

import math

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, GenerationResponse, Sample
from maple.errors import DataError, SourceError
from maple.files import Files
from maple.study import PromptSettings

TASK = load_task("alpaca-eval")


def row(number: int, **changes: object) -> dict[str, object]:
    fields = {"instruction": f"Say {number}.", "output": f"{number}", "dataset": "koala"}
    return {**fields, "generator": "text_davinci_003", **changes}


def read(files: Files) -> list[Sample]:
    return list(TASK.samples(files, "eng_Latn", "eval"))


def test_a_row_is_a_sample_named_by_its_number(write, files) -> None:
    write("alpaca_eval.json", [row(0), row(1)])
    assert [s.id for s in read(files)] == ["0", "1"]
    assert read(files)[1].fields == {"instruction": "Say 1.", "dataset": "koala"}
    assert read(files)[1].gold == ("1",)


def test_output_dataset_and_generator_may_be_missing(write, files) -> None:
    write("alpaca_eval/alpaca_eval.json", [{"instruction": "Say 0."}])
    assert read(files)[0].gold == ("",)


def test_the_set_itself_is_preferred_to_a_models_outputs(write, files) -> None:
    write("alpaca_eval/results/a/model_outputs.json", [row(2)])
    assert read(files)[0].fields["instruction"] == "Say 2."
    write("alpaca_eval/results/text_davinci_003/model_outputs.json", [row(1)])
    assert read(files)[0].fields["instruction"] == "Say 1."
    write("alpaca_eval.json", [row(0)])
    assert [s.fields["instruction"] for s in read(files)] == ["Say 0."]


def test_from_the_hub_the_one_file_is_asked_for(write, from_hub) -> None:
    path = write("alpaca_eval.json", [row(0)])
    files, hub = from_hub({"tatsu-lab/alpaca_eval": [path]})
    assert len(read(files)) == 1
    assert hub.asked[0] == ("tatsu-lab/alpaca_eval", ["alpaca_eval.json"])


def test_the_release_has_805_instructions(shared: Files) -> None:
    samples = read(shared)
    assert len(samples) == TASK.info.declared("eval", "eng_Latn") == 805
    assert len({s.fields["instruction"] for s in samples}) == 805


@pytest.mark.parametrize("form", ["completion", "mega", "lm-eval"])
def test_the_request_is_the_instruction_with_no_stop_string(form, write, files) -> None:
    write("alpaca_eval.json", [row(0)])
    request = TASK.request(read(files)[0], "eng_Latn", PromptSettings(form=form))
    assert request == GenerationRequest(
        context="Say 0.", stop=(), max_new_tokens=2048, delimiter="\n"
    )


def test_an_answer_has_no_score_before_it_is_judged(write, files) -> None:
    write("alpaca_eval.json", [row(0)])
    response = GenerationResponse(text=" hi \n", finish="stop", n_tokens=2)
    score = TASK.score(read(files)[0], GenerationRequest(context="Say 0."), response)
    assert math.isnan(score.value)
    assert (score.prediction, dict(score.metrics)) == ("hi", {})
    assert TASK.info.is_judged


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"output": "x"}, "row 2: field 'instruction' is missing"),
        ({"instruction": " "}, "row 2: field 'instruction' is empty"),
        ({"instruction": "Say 0."}, "row 2: the instruction of .*row 1 again"),
    ],
)
def test_a_broken_row_names_file_and_row(second, message, write, files) -> None:
    write("alpaca_eval.json", [row(0), second])
    with pytest.raises(DataError, match=message):
        read(files)


def test_a_missing_file_is_named(files) -> None:
    with pytest.raises(SourceError, match=r"alpaca_eval\.json"):
        read(files)

"""Atlas-open: its JSON, what counts as naming a thing, and what is said of broken rows."""

from __future__ import annotations

import json

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, GenerationResponse, Sample
from maple.catalog.tasks.atlas_open import names
from maple.errors import DataError, SourceError
from maple.files import Files
from maple.study import PromptSettings

CHECKS = [["Kenyan Shilling", "shilling"], ["Swahili"]]


def row(**changes: object) -> dict[str, object]:
    fields = {"id": "open-1", "dataset": "two-facts", "instruction": "Name two."}
    return {**fields, "output": "The Kenyan Shilling; Swahili.", "checks": CHECKS, **changes}


def read(files: Files) -> list[Sample]:
    return list(load_task("atlas-open").samples(files, "eng_Latn", "eval"))


def passes(text: str, checks: list[list[str]] = CHECKS) -> float:
    sample = Sample(id="1", fields={"checks": json.dumps(checks)}, gold=("x",))
    response = GenerationResponse(text=text, finish="stop", n_tokens=1)
    score = load_task("atlas-open").score(sample, GenerationRequest(context=""), response)
    assert score.metrics == {"pass_rate": score.value}
    return score.value


def test_a_row_becomes_a_sample_whose_reference_passes(write, files) -> None:
    write("atlas-open/eval.json", [row()])
    (sample,) = read(files)
    assert (sample.id, sample.gold) == ("open-1", ("The Kenyan Shilling; Swahili.",))
    assert sample.fields["instruction"] == "Name two."
    assert passes(sample.gold[0]) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kenyan  shilling, SWAHILI", 1.0),
        ("The shilling. Swahili!", 1.0),
        ("Kenyan Shilling", 0.0),
        ("shillings and Swahili", 0.0),
        ("", 0.0),
    ],
)
def test_every_check_needs_one_of_its_strings(text: str, expected: float) -> None:
    assert passes(text) == expected


def test_a_string_counts_as_whole_words_only() -> None:
    assert not names("Romania is in Europe", "Oman")
    assert names("Romania, Oman.", "Oman")
    assert names("in Côte d'Ivoire", "Co\u0302te d'Ivoire")
    assert names("Straße", "STRASSE")
    assert names("costs 3 (three) (US$)", "(US$)")


@pytest.mark.parametrize("form", ["completion", "mega", "lm-eval"])
def test_the_request_is_the_instruction_with_no_stop_string(form, write, files) -> None:
    write("atlas-open/eval.json", [row()])
    request = load_task("atlas-open").request(read(files)[0], "eng_Latn", PromptSettings(form=form))
    assert request == GenerationRequest(
        context="Name two.", stop=(), max_new_tokens=48, delimiter="\n"
    )


@pytest.mark.parametrize("field", ["id", "dataset", "instruction", "output", "checks"])
def test_a_missing_field_names_file_row_and_field(field, write, files) -> None:
    broken = row(id="open-2")
    del broken[field]
    write("atlas-open/eval.json", [row(), broken])
    with pytest.raises(DataError, match=rf"eval\.json, row 2: field '{field}' is missing"):
        read(files)


@pytest.mark.parametrize("checks", [[], [[]], [["a"], []], ["a"], [["a", " "]], [[3]]])
def test_checks_that_are_no_lists_of_texts_name_file_and_row(checks, write, files) -> None:
    write("atlas-open/eval.json", [row(checks=checks)])
    with pytest.raises(DataError, match=r"eval\.json, row 1: field 'checks' is"):
        read(files)


def test_an_id_used_twice_names_both_rows(write, files) -> None:
    write("atlas-open/eval.json", [row(), row()])
    with pytest.raises(DataError, match=r"row 2: the id 'open-1' was already used in .*row 1"):
        read(files)


def test_it_is_in_english_only_and_not_on_the_hub(write, files, from_hub) -> None:
    write("atlas-open/eval.json", [row()])
    task = load_task("atlas-open")
    with pytest.raises(SourceError, match=r"holds no atlas-open/eval\.sw\.json"):
        task.paths(files, "swh_Latn", "eval")
    with pytest.raises(SourceError, match="not on the Hub"):
        task.paths(from_hub({})[0], "eng_Latn", "eval")

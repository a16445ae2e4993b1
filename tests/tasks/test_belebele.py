"""Belebele's release layout, its two forms of choice, and what is said of broken rows."""

from __future__ import annotations

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import RankingRequest, Sample
from maple.errors import DataError, UsageError
from maple.files import Files
from maple.study import PromptSettings

ANSWERS = {f"mc_answer{n}": f"Answer {n}." for n in (1, 2, 3, 4)}
TEXTS = {"flores_passage": "P.", "question": "Q?", **ANSWERS}


def row(**changes: object) -> dict[str, object]:
    fields = {"link": "https://x.org/a", "question_number": 1, **TEXTS, "correct_answer_num": "3"}
    return {**fields, "dialect": "swh_Latn", "ds": "2023-05-03", **changes}


def read(files: Files, language: str = "swh_Latn") -> list[Sample]:
    return list(load_task("belebele").samples(files, language, "test"))


@pytest.mark.parametrize("folder", ["belebele/data/", "belebele/", "data/", ""])
def test_upstream_counts_answers_from_one(folder, write, files) -> None:
    write(f"{folder}swh_Latn.jsonl", [row(), row(question_number=2, correct_answer_num=1)])
    assert read(files) == [
        Sample(id="https://x.org/a#1", fields=TEXTS, gold=("2",)),
        Sample(id="https://x.org/a#2", fields=TEXTS, gold=("0",)),
    ]


def test_two_passages_of_one_page_are_told_apart_by_their_order(write, files) -> None:
    write("belebele/data/swh_Latn.jsonl", [row(), row()])
    assert [s.id for s in read(files)] == ["https://x.org/a#1", "https://x.org/a#1#2"]


@pytest.mark.parametrize("link", ["", None])
def test_rows_without_a_link_are_named_by_their_number(link, write, files) -> None:
    write("belebele/data/swh_Latn.jsonl", [row(link=link), row(link=link)])
    assert [s.id for s in read(files)] == ["0", "1"]


def test_the_hub_ships_json_lines(write, from_hub) -> None:
    path = write("data/swh_Latn.jsonl", [row()])
    files, hub = from_hub({"facebook/belebele": [path]})
    assert read(files)[0].gold == ("2",)
    patterns = ["data/swh_Latn.jsonl", "swh_Latn/test*.parquet"]
    assert hub.asked == [("facebook/belebele", patterns)]


@pytest.mark.parametrize("name", ["glg_Latn", "gl"])
def test_a_language_outside_belebele_is_read_by_its_code_or_tag(name, write, files) -> None:
    write(f"belebele/data/{name}.jsonl", [row()])
    assert len(read(files, "glg_Latn")) == 1


def test_every_release_file_at_hand_is_a_language_of_the_task(shared) -> None:
    folder = shared.directory / "belebele" / "data"
    if not folder.is_dir():
        pytest.skip("no Belebele release files")
    codes = {path.stem for path in folder.glob("*.jsonl")}
    assert codes
    assert codes <= set(load_task("belebele").info.languages)


def test_there_are_122_variants() -> None:
    assert len(load_task("belebele").info.languages) == 122


@pytest.mark.parametrize("field", [*TEXTS, "correct_answer_num", "question_number"])
def test_a_missing_field_names_file_line_and_field(field, write, files) -> None:
    broken = row()
    del broken[field]
    write("belebele/data/swh_Latn.jsonl", [row(question_number=2), broken])
    with pytest.raises(DataError, match=rf"swh_Latn\.jsonl, line 2: field '{field}' is missing"):
        read(files)


@pytest.mark.parametrize(
    ("field", "value"),
    [("correct_answer_num", "0"), ("correct_answer_num", 5), ("correct_answer_num", "A"),
     ("mc_answer4", " "), ("question", 3)],
)  # fmt: skip
def test_a_value_out_of_range_names_file_line_and_field(field, value, write, files) -> None:
    write("belebele/data/swh_Latn.jsonl", [row(question_number=2), row(**{field: value})])
    with pytest.raises(DataError, match=rf"swh_Latn\.jsonl, line 2: field '{field}'"):
        read(files)


SAMPLE = Sample(id="0", fields={**TEXTS, "flores_passage": " P. "}, gold=("2",))


def test_the_letter_form_lists_the_answers_and_ranks_their_letters() -> None:
    request = load_task("belebele").request(SAMPLE, "swh_Latn", PromptSettings())
    assert request == RankingRequest(
        context="Passage: P.\nQuery: Q?\nChoices:\nA: Answer 1.\nB: Answer 2.\nC: Answer 3.\n"
        "D: Answer 4.\nAnswer:",
        continuations=("A", "B", "C", "D"),
        delimiter="\n",
    )


def test_the_cloze_form_lists_nothing_and_ranks_the_answers() -> None:
    request = load_task("belebele").request(SAMPLE, "swh_Latn", PromptSettings(choices="cloze"))
    assert request == RankingRequest(
        context="Passage: P.\nQuery: Q?\nAnswer:",
        continuations=("Answer 1.", "Answer 2.", "Answer 3.", "Answer 4."),
        delimiter="\n",
    )


def test_chinese_labels_carry_no_ascii_space() -> None:
    native = PromptSettings(instruction_language="native")
    request = load_task("belebele").request(SAMPLE, "zho_Hans", native)
    assert request.context.startswith("文章：P.\n问题：Q?\n选项：\nA: ")  # type: ignore[union-attr]


def test_lm_evals_form_has_no_cloze() -> None:
    prompt = PromptSettings(form="lm-eval", choices="cloze")
    with pytest.raises(UsageError, match=r"form has no cloze.*choices: letter"):
        load_task("belebele").request(SAMPLE, "swh_Latn", prompt)

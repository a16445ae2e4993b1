"""XCOPA's release layouts, English COPA's hidden labels, and what is said of broken files."""

from __future__ import annotations

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import RankingRequest, Sample
from maple.errors import DataError, SourceError
from maple.files import Files
from maple.study import PromptSettings

GOLD = [0, 1, 1, 0, 1, 0, 0, 1, 1]


def row(idx: int, **changes: object) -> dict[str, object]:
    fields = {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "effect"}
    return {**fields, "label": GOLD[idx], "idx": idx, "changed": False, **changes}


def read(files: Files, language: str = "swh_Latn", split: str = "test") -> list[Sample]:
    return list(load_task("xcopa").samples(files, language, split))


@pytest.mark.parametrize("folder", ["xcopa/", ""])
def test_items_are_named_by_their_index(folder, write, files) -> None:
    write(f"{folder}data/sw/test.sw.jsonl", [row(3), row(1)])
    assert [(s.id, s.gold) for s in read(files)] == [("3", ("0",)), ("1", ("1",))]


@pytest.mark.parametrize("hidden", [0, -1])
def test_hidden_labels_of_english_come_by_index_from_any_language(hidden, write, files) -> None:
    write("xcopa/xtreme-en/test-en.jsonl", [row(i, label=hidden) for i in reversed(range(9))])
    other = write("xcopa/data/yo/test.yo.jsonl", [row(i) for i in range(9)])
    samples = read(files, "eng_Latn")
    assert {int(s.id): int(s.gold[0]) for s in samples} == dict(enumerate(GOLD))
    assert load_task("xcopa").paths(files, "eng_Latn", "test")[1] == other


def test_labels_that_english_has_are_its_own(write, files) -> None:
    write("xcopa/xtreme-en/test-en.jsonl", [row(i) for i in range(9)])
    assert [int(s.gold[0]) for s in read(files, "eng_Latn")] == GOLD
    assert len(load_task("xcopa").paths(files, "eng_Latn", "test")) == 1


def test_a_hidden_label_without_its_item_names_file_line_and_index(write, files) -> None:
    write("xcopa/xtreme-en/test-en.jsonl", [row(i, label=0) for i in range(9)])
    write("xcopa/data/sw/test.sw.jsonl", [row(i) for i in range(8)])
    with pytest.raises(DataError, match=r"test-en\.jsonl, line 9: .*idx 8"):
        read(files, "eng_Latn")


def test_hidden_labels_without_another_language_name_what_to_put_there(write, files) -> None:
    write("xcopa/xtreme-en/test-en.jsonl", [row(i, label=-1) for i in range(9)])
    with pytest.raises(SourceError, match=r"xcopa/data/\*/test\.\*\.jsonl"):
        read(files, "eng_Latn")


def test_the_hub_has_english_in_super_glue_and_its_labels_in_xcopa(write, from_hub) -> None:
    english = write("copa/test-00000.parquet", [row(i, label=-1) for i in range(9)])
    estonian = write("et/test-00000.parquet", [row(i) for i in range(9)])
    files, hub = from_hub({"aps/super_glue": [english], "cambridgeltl/xcopa": [estonian]})
    assert [int(s.gold[0]) for s in read(files, "eng_Latn")] == GOLD
    assert hub.asked == [
        ("aps/super_glue", ["copa/test*.parquet"]),
        ("cambridgeltl/xcopa", ["et/test*.parquet"]),
    ]


@pytest.mark.parametrize("field", ["premise", "choice1", "choice2", "question", "label", "idx"])
def test_a_missing_field_names_file_line_and_field(field, write, files) -> None:
    broken = row(1)
    del broken[field]
    write("xcopa/data/sw/test.sw.jsonl", [row(0), broken])
    with pytest.raises(DataError, match=rf"test\.sw\.jsonl, line 2: field '{field}' is missing"):
        read(files)


@pytest.mark.parametrize(
    ("field", "value"),
    [("label", 2), ("label", -1), ("label", "b"), ("question", "reason"), ("choice2", " ")],
)
def test_a_value_out_of_range_names_file_line_and_field(field, value, write, files) -> None:
    write("xcopa/data/sw/test.sw.jsonl", [row(0), row(1, **{field: value})])
    with pytest.raises(DataError, match=rf"test\.sw\.jsonl, line 2: field '{field}'"):
        read(files)


def test_an_index_used_twice_names_both_lines(write, files) -> None:
    write("xcopa/data/sw/test.sw.jsonl", [row(0), row(1), row(0)])
    with pytest.raises(DataError, match=r"line 3: idx 0 was already used in .*line 1"):
        read(files)


def test_a_truncated_line_names_file_and_line(write, files) -> None:
    path = write("xcopa/data/sw/test.sw.jsonl", [row(0), row(1)])
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.sw\.jsonl, line 2: not JSON"):
        read(files)


def test_a_file_without_rows_is_refused(write, files) -> None:
    write("xcopa/data/sw/test.sw.jsonl", "\n")
    with pytest.raises(DataError, match="holds no rows"):
        read(files)


# --------------------------------------------------------------------- the release's own mistake


def test_release_asks_for_the_effect_of_every_thai_item_and_copa_does_not(shared) -> None:
    # 250 of COPA's 500 items ask for the cause. Known upstream: allenai/natural-instructions#522.
    samples = read(shared, "tha_Thai")
    assert {s.fields["question"] for s in samples} == {"effect"}
    assert sum(s.fields["asks"] == "cause" for s in samples) == 250


@pytest.mark.parametrize("split", ["test", "validation"])
def test_what_an_item_asks_is_copas_own_question_in_every_language(split, shared) -> None:
    copa = {s.id: s.fields["question"] for s in read(shared, "eng_Latn", split)}
    found = 0
    for code in load_task("xcopa").info.languages:
        try:
            samples = read(shared, code, split)
        except SourceError:
            continue
        found += 1
        assert {s.id: s.fields["asks"] for s in samples} == copa
    assert found > 1


def test_the_mega_form_asks_what_copa_asks_and_the_lm_eval_form_what_the_release_asks(
    shared,
) -> None:
    task = load_task("xcopa")
    sample = read(shared, "tha_Thai")[0]
    mega = task.request(sample, "tha_Thai", PromptSettings())
    lm_eval = task.request(sample, "tha_Thai", PromptSettings(form="lm-eval"))
    assert mega.context.endswith("We are looking for a cause")
    assert lm_eval.context.endswith(" ดังนั้น")


def test_files_that_are_not_the_release_keep_their_question(write, files) -> None:
    write("xcopa/data/th/test.th.jsonl", [row(0), row(1, question="cause")])
    assert [s.fields["asks"] for s in read(files, "tha_Thai")] == ["effect", "cause"]


def test_mega_form_is_the_follow_up_papers_wording(shared) -> None:
    sample = read(shared, "eng_Latn")[0]
    assert load_task("xcopa").request(sample, "eng_Latn", PromptSettings()) == RankingRequest(
        context="The item was packaged in bubble wrap.\nWhat's the best option?\n"
        "-choice1 : It was fragile.\n-choice2 : It was small.\nWe are looking for a cause",
        continuations=("It was fragile.", "It was small."),
        delimiter="\n",
    )

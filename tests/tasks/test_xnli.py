"""XNLI's release layouts and what is said of broken ones."""

from __future__ import annotations

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import RankingRequest, Sample
from maple.errors import DataError, SourceError
from maple.files import Files
from maple.study import PromptSettings

PAIRS = [("Yeye ni mrefu.", "Yeye ni mfupi."), ('"Ndiyo', "Labda\u2028sivyo."), ("A", "B")]
GOLD = [2, 1, 0]
TWO_COLUMNS = "".join(f"{p}\t{h}\n" for p, h in PAIRS)


def read(files: Files, language: str = "swh_Latn", split: str = "test") -> list[Sample]:
    return list(load_task("xnli").samples(files, language, split))


def expected() -> list[Sample]:
    return [
        Sample(id=str(n), fields={"premise": p, "hypothesis": h}, gold=(str(g),))
        for n, ((p, h), g) in enumerate(zip(PAIRS, GOLD, strict=True))
    ]


@pytest.mark.parametrize("folder", ["xnli/", ""])
def test_rows_without_labels_take_them_from_the_english_gold_file(folder, write, files) -> None:
    write(f"{folder}test-sw.tsv", TWO_COLUMNS)
    gold = write(f"{folder}gold_labels_jsonl/en.test.jsonl", [{"label": g} for g in GOLD])
    assert read(files) == expected()
    assert gold in load_task("xnli").paths(files, "swh_Latn", "test")


@pytest.mark.parametrize("words", [["contradiction", "neutral", "entailment"], ["2", "1", "0"]])
def test_a_third_column_holds_labels_as_words_or_numbers(words, write, files) -> None:
    rows = zip(PAIRS, words, strict=True)
    write("xnli/test-sw.tsv", "".join(f"{p}\t{h}\t{w}\n" for (p, h), w in rows))
    assert read(files) == expected()


@pytest.mark.parametrize("folder", ["xnli/", "xnli/XNLI-1.0/", "XNLI-1.0/", ""])
def test_the_original_release_holds_every_language_in_one_file(folder, write, files) -> None:
    lines = ["language\tgold_label\tgenre\tsentence1\tsentence2"]
    for name in ("ar", "sw"):
        for (p, h), w in zip(PAIRS, ["contradiction", "neutral", "entailment"], strict=True):
            lines.append(f"{name}\t{w}\tfiction\t{p if name == 'sw' else 'x'}\t{h}")
    write(f"{folder}xnli.test.tsv", "\n".join(lines) + "\n")
    assert read(files) == expected()
    with pytest.raises(DataError, match=r"xnli\.test\.tsv: no row has language 'th'"):
        read(files, "tha_Thai")


def test_the_hub_ships_parquet_with_whole_number_labels(write, from_hub) -> None:
    rows = [{"premise": s.fields["premise"], "hypothesis": s.fields["hypothesis"],
             "label": int(s.gold[0])} for s in expected()]  # fmt: skip
    path = write("sw/test-00000-of-00001.parquet", rows)
    files, hub = from_hub({"facebook/xnli": [path]})
    assert read(files) == expected()
    assert set(hub.asked[0][1]) == {"sw/test*.parquet"}


def test_a_language_outside_xnli_is_read_by_its_tag(write, files) -> None:
    write("xnli/test-yo.tsv", "A.\tB.\t1\n")
    assert read(files, "yor_Latn")[0].gold == ("1",)


def test_the_dev_split_is_called_validation(write, files) -> None:
    write("xnli/dev-sw.tsv", "A.\tB.\tneutral\n")
    assert read(files, split="validation")[0].gold == ("1",)


def test_rows_and_labels_of_different_number_are_refused(write, files) -> None:
    write("xnli/test-sw.tsv", TWO_COLUMNS)
    write("xnli/gold_labels_jsonl/en.test.jsonl", [{"label": g} for g in GOLD[:2]])
    with pytest.raises(DataError, match=r"test-sw\.tsv has 3 rows and .*en\.test\.jsonl labels 2"):
        read(files)


@pytest.mark.parametrize("label", ["3", "-", "maybe"])
def test_a_label_out_of_range_names_file_and_line(label, write, files) -> None:
    write("xnli/test-sw.tsv", f"A.\tB.\tneutral\nC.\tD.\t{label}\n")
    with pytest.raises(DataError, match=rf"test-sw\.tsv, line 2: field 'label' is '{label}'"):
        read(files)


def test_a_gold_row_without_its_label_names_file_and_line(write, files) -> None:
    write("xnli/test-sw.tsv", TWO_COLUMNS)
    write("xnli/gold_labels_jsonl/en.test.jsonl", [{"label": 0}, {"lable": 1}, {"label": 2}])
    with pytest.raises(DataError, match=r"en\.test\.jsonl, line 2: field 'label' is None"):
        read(files)


def test_a_truncated_gold_line_names_file_and_line(write, files) -> None:
    write("xnli/test-sw.tsv", TWO_COLUMNS)
    write("xnli/gold_labels_jsonl/en.test.jsonl", '{"label": 0}\n{"label": 1}\n{"lab')
    with pytest.raises(DataError, match=r"en\.test\.jsonl, line 3: not JSON.*truncated"):
        read(files)


def test_a_row_without_its_hypothesis_names_file_and_line(write, files) -> None:
    write("xnli/test-sw.tsv", "A.\tB.\t0\nC.\n")
    with pytest.raises(DataError, match=r"test-sw\.tsv, line 2: 1 columns"):
        read(files)


def test_a_file_without_rows_is_refused(write, files) -> None:
    write("xnli/test-sw.tsv", "")
    write("xnli/gold_labels_jsonl/en.test.jsonl", [{"label": 0}])
    with pytest.raises(DataError, match=r"test-sw\.tsv: holds no rows"):
        read(files)


def test_missing_labels_name_the_file_to_put_there(write, files) -> None:
    write("xnli/test-sw.tsv", TWO_COLUMNS)
    with pytest.raises(SourceError, match=r"gold_labels_jsonl/en\.test\.jsonl"):
        read(files)


def test_mega_form_is_megas_wording(shared) -> None:
    sample = next(load_task("xnli").samples(shared, "eng_Latn", "test"))
    request = load_task("xnli").request(sample, "eng_Latn", PromptSettings())
    assert request == RankingRequest(
        context="Well, I wasn't even thinking about that, but I was so frustrated, and, I ended up "
        "talking to him again.\nQuestion: I havent spoken to him again. True, False, or Neither?",
        continuations=("True", "Neither", "False"),
        delimiter="\n",
    )
    assert sample.gold == ("2",)

"""XStoryCloze's release and Hub columns, its prompts, and what is said of broken files."""

from __future__ import annotations

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import RankingRequest, Sample
from maple.errors import DataError
from maple.files import Files
from maple.study import PromptSettings

HEADER = [
    "InputStoryid",
    *(f"InputSentence{n}" for n in (1, 2, 3, 4)),
    "RandomFifthSentenceQuiz1",
    "RandomFifthSentenceQuiz2",
    "AnswerRightEnding",
]
STORY = ["id1", 'One "1".', "Two.", "Three.", "Four.", "Good end.", "Bad end.", "2"]
FIELDS = {
    "sentence1": 'One "1".',
    "sentence2": "Two.",
    "sentence3": "Three.",
    "sentence4": "Four.",
    "ending1": "Good end.",
    "ending2": "Bad end.",
}
SAMPLE = Sample(id="id1", fields=FIELDS, gold=("1",))
NAME = "spring2016.val.sw.tsv.split_20_80_eval.tsv"


def table(*rows: list[str], header: list[str] = HEADER) -> str:
    return "".join("\t".join(row) + "\n" for row in (header, *rows))


def read(files: Files, language: str = "swh_Latn", split: str = "eval") -> list[Sample]:
    return list(load_task("xstorycloze").samples(files, language, split))


@pytest.mark.parametrize("folder", ["xstorycloze/", ""])
def test_upstream_counts_endings_from_one(folder, write, files) -> None:
    write(f"{folder}{NAME}", table(STORY, ["id2", *STORY[1:-1], "1"]))
    assert read(files) == [SAMPLE, Sample(id="id2", fields=FIELDS, gold=("0",))]


def test_the_training_split_is_a_file_of_its_own(write, files) -> None:
    write(f"xstorycloze/{NAME.replace('eval', 'train')}", table(STORY))
    assert read(files, split="train") == [SAMPLE]


def test_the_hub_has_its_own_column_names(write, from_hub) -> None:
    row = {"story_id": "id1", "answer_right_ending": 2}
    row |= {f"input_sentence_{n}": FIELDS[f"sentence{n}"] for n in (1, 2, 3, 4)}
    row |= {f"sentence_quiz{n}": FIELDS[f"ending{n}"] for n in (1, 2)}
    path = write("sw/xstory_cloze-eval.parquet", [row])
    files, hub = from_hub({"juletxara/xstory_cloze": [path]})
    assert read(files) == [SAMPLE]
    assert hub.asked == [("juletxara/xstory_cloze", ["sw/*eval*.parquet", NAME])]


def test_a_language_outside_xstorycloze_is_read_by_its_tag(write, files) -> None:
    write("xstorycloze/spring2016.val.yo.tsv.split_20_80_eval.tsv", table(STORY))
    assert read(files, "yor_Latn") == [SAMPLE]


@pytest.mark.parametrize("field", HEADER)
def test_a_missing_column_names_file_line_and_field(field, write, files) -> None:
    at = HEADER.index(field)
    header, story = HEADER[:at] + HEADER[at + 1 :], STORY[:at] + STORY[at + 1 :]
    write(f"xstorycloze/{NAME}", table(story, header=header))
    with pytest.raises(DataError, match=rf"eval\.tsv, line 2: field '{field}' is missing"):
        read(files)


@pytest.mark.parametrize(
    ("field", "value"),
    [("AnswerRightEnding", "0"), ("AnswerRightEnding", "x"), ("InputSentence3", " ")],
)
def test_a_value_out_of_range_names_file_line_and_field(field, value, write, files) -> None:
    broken = ["id2", *STORY[1:]]
    broken[HEADER.index(field)] = value
    write(f"xstorycloze/{NAME}", table(STORY, broken))
    with pytest.raises(DataError, match=rf"eval\.tsv, line 3: field '{field}'"):
        read(files)


def test_a_row_of_another_width_names_file_and_line(write, files) -> None:
    write(f"xstorycloze/{NAME}", table(STORY, STORY[:-1]))
    with pytest.raises(DataError, match=r"eval\.tsv, line 3: 7 columns where 8 were expected"):
        read(files)


def test_a_story_used_twice_names_both_lines(write, files) -> None:
    write(f"xstorycloze/{NAME}", table(STORY, STORY))
    with pytest.raises(DataError, match=r"line 3: story 'id1' was already used in .*line 2"):
        read(files)


def test_mega_form_lists_both_endings() -> None:
    request = load_task("xstorycloze").request(SAMPLE, "swh_Latn", PromptSettings())
    assert request == RankingRequest(
        context='One "1". Two. Three. Four.\n'
        "What is a possible continuation for the story given the following options?\n"
        "-Option1: Good end.\n-Option2: Bad end.",
        continuations=("Good end.", "Bad end."),
        delimiter="\n",
    )


@pytest.mark.parametrize(("code", "space"), [("zho_Hans", ""), ("jpn_Jpan", ""), ("tha_Thai", " ")])
def test_sentences_are_joined_as_the_script_joins_them(code: str, space: str) -> None:
    request = load_task("xstorycloze").request(SAMPLE, code, PromptSettings())
    story = space.join(FIELDS[f"sentence{n}"] for n in (1, 2, 3, 4))
    assert request.context.split("\n")[0] == story  # type: ignore[union-attr]


def test_lm_evals_form_joins_with_spaces_everywhere() -> None:
    lm_eval = PromptSettings(form="lm-eval")
    assert load_task("xstorycloze").request(SAMPLE, "zho_Hans", lm_eval) == RankingRequest(
        context='One "1". Two. Three. Four.', continuations=("Good end.", "Bad end.")
    )

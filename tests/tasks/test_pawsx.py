"""PAWS-X's three layouts, its words against lm-evaluation-harness, and broken files."""

from __future__ import annotations

from typing import Any

import pytest
from tests.parity import lm_eval_oracle

from maple.catalog import load_task
from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    RankingRequest,
    RankingResponse,
    Sample,
)
from maple.errors import DataError, SourceError, UsageError
from maple.files import Files
from maple.languages import find
from maple.study import PromptSettings

HEADER = "id\tsentence1\tsentence2\tlabel\n"
ROWS = HEADER + '1\tDer "Zug" , der\tDer Zug .\t0\n2\tA\tB\t1\n'
PAIR = Sample(id="1", fields={"sentence1": " A . ", "sentence2": "B ."}, gold=("1",))
LANGUAGES = load_task("pawsx").info.languages


def read(files: Files, language: str = "deu_Latn", split: str = "test") -> list[Sample]:
    return list(load_task("pawsx").samples(files, language, split))


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "folder", ["pawsx/x-final/", "paws-x/x-final/", "x-final/", "pawsx/", "paws-x/", ""]
)
@pytest.mark.parametrize(("split", "part"), [("test", "test_2k"), ("validation", "dev_2k")])
def test_a_row_of_the_release_becomes_a_sample_of_its_id(folder, split, part, write, files) -> None:
    write(f"{folder}de/{part}.tsv", ROWS)
    first, second = read(files, split=split)
    fields = {"sentence1": 'Der "Zug" , der', "sentence2": "Der Zug ."}
    assert first == Sample(id="1", fields=fields, gold=("0",))
    assert (second.id, second.gold) == ("2", ("1",))


@pytest.mark.parametrize("folder", ["pawsx", "paws-x"])
def test_xtremes_files_name_rows_as_the_release_does(folder, write, files) -> None:
    write(f"{folder}/test-de.tsv", "a\tb\t0\nc\td\t1\n")
    assert [s.id for s in read(files)] == ["1", "2"]
    assert [s.fields["sentence1"] for s in read(files)] == ["a", "c"]


@pytest.mark.parametrize("names", [True, False], ids=["with ids", "without"])
def test_the_hub_ships_parquet(names: bool, write, from_hub) -> None:
    rows: list[dict[str, Any]] = [
        {"id": n, "sentence1": "A", "sentence2": None if n == 2 else "B", "label": n - 1}
        for n in (1, 2)
    ]
    if not names:
        rows = [{key: row[key] for key in row if key != "id"} for row in rows]
    path = write("de/test-00000-of-00001.parquet", rows)
    files, hub = from_hub({"google-research-datasets/paws-x": [path]})
    assert [(s.id, s.fields["sentence2"], s.gold) for s in read(files)] == [
        ("1", "B", ("0",)),
        ("2", "", ("1",)),
    ]
    assert hub.asked == [("google-research-datasets/paws-x", ["de/test*.parquet"])]


def test_a_language_outside_pawsx_is_read_by_its_tag(write, files) -> None:
    write("pawsx/x-final/sw/test_2k.tsv", ROWS)
    assert len(read(files, "swh_Latn")) == 2


def test_rows_without_a_sentence_are_kept(write, files) -> None:
    write("pawsx/x-final/de/test_2k.tsv", f"{HEADER}1\tNS\tNS\t0\n2\t\t\t1\n")
    assert [s.fields["sentence1"] for s in read(files)] == ["NS", ""]


def test_xnlis_files_at_the_top_of_the_directory_are_not_taken_for_pawsxs(write, files) -> None:
    write("test-de.tsv", "Prämisse\tHypothese\t0\n")
    with pytest.raises(SourceError, match=r"x-final/de/test_2k\.tsv"):
        read(files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tsentence1\tlabel\n1\tA\t0\n", r"test_2k\.tsv, line 2: field 'sentence2' is missing"),
        ("sentence1\tsentence2\tlabel\nA\tB\t0\n", r"test_2k\.tsv, line 2: field 'id' is missing"),
        (HEADER + "1\tA\tB\n", r"test_2k\.tsv, line 2: 3 columns where 4"),
        (HEADER + "1\tA\tB\t0\n1\tC\tD\t1\n", r"test_2k\.tsv, line 3: the id '1' is used twice"),
        (HEADER + "1\tA\tB\t2\n", r"test_2k\.tsv, line 2: field 'label' is 2; .* 0, 1"),
        (HEADER + "1\tA\tB\tja\n", r"test_2k\.tsv, line 2: field 'label' must be a whole number"),
        (HEADER, r"test_2k\.tsv: holds no rows"),
    ],
)
def test_a_broken_release_names_file_and_line(text, message, write, files) -> None:
    write("pawsx/x-final/de/test_2k.tsv", text)
    with pytest.raises(DataError, match=message):
        read(files)


def test_a_file_that_is_not_utf8_names_file_and_line(write, files) -> None:
    path = write("pawsx/x-final/de/test_2k.tsv", "")
    path.write_bytes((HEADER + "1\tTür\tB\t0\n").encode("latin-1"))
    with pytest.raises(DataError, match=r"test_2k\.tsv, line 2: not UTF-8 at byte 32"):
        read(files)


def test_xtremes_unlabelled_test_files_say_what_is_missing(write, files) -> None:
    write("pawsx/test-de.tsv", "a\tb\n")
    with pytest.raises(DataError, match=r"test-de\.tsv, line 1: 2 columns where 3.*label"):
        read(files)


# --------------------------------------------------------------------------------------- prompts


def documents(name: str) -> list[dict[str, Any]]:
    """Rows in the Hub's columns, tokenized as the release is, with quotes and backslashes."""
    texts = {
        "ja": ["彼は「本」を 書いた 。", "本は 彼が書いた 。"],
        "ko": ["그는 책을 썼다 .", "책은 그가 썼다 ."],
        "zh": ["他写了 “ 书 ” 。", "书是他写的 。"],
    }.get(name, ["In Paris , he did n't say ( much ) .", 'He \'s " the \\ man " , {he} said ;'])
    return [
        {"id": n, "sentence1": first, "sentence2": second, "label": n % 2}
        for n, (first, second) in enumerate([texts, texts[::-1], [texts[0]] * 2], start=1)
    ]


def ours(name: str, rows: list[dict[str, Any]], write: Any, files: Files) -> list[Any]:
    lines = [f"{r['id']}\t{r['sentence1']}\t{r['sentence2']}\t{r['label']}\n" for r in rows]
    write(f"pawsx/x-final/{name}/test_2k.tsv", HEADER + "".join(lines))
    task, code = load_task("pawsx"), find(name).code
    found = []
    for sample in task.samples(files, code, "test"):
        request = task.request(sample, code, PromptSettings(form="lm-eval"))
        assert isinstance(request, RankingRequest)
        texts = [(request.context, request.delimiter + c) for c in request.continuations]
        found.append((texts, int(sample.gold[0])))
    return found


@pytest.mark.parametrize("name", sorted(LANGUAGES.values()))
def test_pawsx_words_its_prompts_as_lm_eval_does(name: str, write, files) -> None:
    rows = documents(name)
    theirs = lm_eval_oracle.lm_eval_requests("pawsx", name, rows)
    expected = [(sample.arguments, int(sample.target)) for sample in theirs]
    assert ours(name, rows, write, files) == expected


@pytest.mark.parametrize(("name", "is_dropped"), [("de", True), ("ja", False)])
def test_a_row_without_a_sentence_is_dropped_by_lm_eval_in_some_languages(
    name: str, is_dropped: bool, write, files
) -> None:
    rows = [*documents(name), {"id": 9, "sentence1": "", "sentence2": "B", "label": 0}]
    theirs = lm_eval_oracle.lm_eval_requests("pawsx", name, rows)
    assert len(theirs) == len(rows) - is_dropped
    assert len(ours(name, rows, write, files)) == len(rows)


def test_mega_form_is_the_papers_wording() -> None:
    assert load_task("pawsx").request(PAIR, "deu_Latn", PromptSettings()) == RankingRequest(
        context="A . Question: B . True or False?", continuations=("False", "True"), delimiter="\n"
    )


def test_native_words_are_the_languages_own() -> None:
    native = PromptSettings(instruction_language="native")
    request = load_task("pawsx").request(PAIR, "deu_Latn", native)
    assert request == RankingRequest(
        context="A . Frage: B . Wahr oder falsch?", continuations=("Falsch", "Wahr"), delimiter="\n"
    )


def test_completion_form_asks_about_the_second_sentence() -> None:
    request = load_task("pawsx").request(PAIR, "eng_Latn", PromptSettings(form="completion"))
    assert request == RankingRequest(
        context="A .\nQuery: B .\nAnswer:", continuations=("False", "True"), delimiter=" "
    )


def test_a_generated_answer_may_be_in_either_language() -> None:
    task, generation = load_task("pawsx"), PromptSettings(scoring="generation")
    request = task.request(PAIR, "deu_Latn", generation)
    assert isinstance(request, GenerationRequest)
    for text, value in {"True": 1.0, "Wahr.": 1.0, "Falsch": 0.0, "hmm": 0.0}.items():
        response = GenerationResponse(text=text, finish="stop", n_tokens=1)
        score = task.score(PAIR, request, response)
        assert (score.value, score.was_extracted) == (value, text != "hmm")
    with pytest.raises(UsageError, match="lm-eval"):
        task.request(PAIR, "deu_Latn", PromptSettings(form="lm-eval", scoring="generation"))


def test_label_one_is_yes() -> None:
    task = load_task("pawsx")
    request = task.request(PAIR, "eng_Latn", PromptSettings(form="lm-eval"))
    assert isinstance(request, RankingRequest)
    assert request.continuations == ("A, right? No, b.", "A, right? Yes, b.")
    response = RankingResponse(
        loglikelihoods=(-2.0, -1.0), is_greedy=(False, False), n_tokens=(1, 1)
    )
    assert task.score(PAIR, request, response).value == 1.0

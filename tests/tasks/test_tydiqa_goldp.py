"""TyDiQA-GoldP's layouts, its words against lm-evaluation-harness, and broken files."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, GenerationResponse, Sample
from maple.errors import DataError, SourceError
from maple.files import Files
from maple.study import PromptSettings


def question(name: str, text: str = "308", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "question": "Q?",
        "answers": [{"text": text, "answer_start": 0}],
        **changes,
    }


def release(*questions: dict[str, Any]) -> dict[str, Any]:
    paragraphs = [{"context": "308 C.", "qas": [q]} for q in questions]
    return {"version": "1.1", "data": [{"title": "T", "paragraphs": paragraphs}]}


WHOLE = release(question("arabic-5-0"), question("swahili-7-1"), question("swahili-8-0", "nane"))
SWAHILI = release(question("swahili-7-1"), question("swahili-8-0", "nane"))


def read(
    files: Files, language: str = "swh_Latn", split: str = "validation"
) -> list[tuple[str, str]]:
    samples = load_task("tydiqa-goldp").samples(files, language, split)
    return [(s.id, *s.gold) for s in samples]


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("folder", ["tydiqa/", "tydiqa-goldp/", ""])
@pytest.mark.parametrize(("split", "part"), [("validation", "dev"), ("train", "train")])
def test_a_language_is_taken_out_of_the_file_of_all(folder, split, part, write, files) -> None:
    write(f"{folder}tydiqa-goldp-v1.1-{part}.json", WHOLE)
    assert read(files, split=split) == [("swahili-7-1", "308"), ("swahili-8-0", "nane")]
    assert read(files, "arb_Arab", split=split) == [("arabic-5-0", "308")]


@pytest.mark.parametrize(
    "name",
    [
        "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-swahili.json",
        "tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-swahili.json",
        "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.sw.dev.json",
        "tydiqa.goldp.sw.dev.json",
    ],
)
def test_a_language_may_have_its_own_file(name, write, files) -> None:
    write(name, SWAHILI)
    (sample, _) = load_task("tydiqa-goldp").samples(files, "swh_Latn", "validation")
    fields = {"context": "308 C.", "question": "Q?", "language": "swh_Latn"}
    assert sample == Sample(id="swahili-7-1", fields=fields, gold=("308",))


def test_a_language_outside_tydiqa_has_files_by_its_tag_or_english_name(write, files) -> None:
    write("tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.yo.dev.json", release(question("q")))
    assert read(files, "yor_Latn") == [("q", "308")]
    write("tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-hausa.json", release(question("q")))
    assert read(files, "hau_Latn") == [("q", "308")]


def test_xtremes_train_files_have_lost_their_ids(write, files) -> None:
    # XTREME keeps what follows the last hyphen, so that most ids are 0, 1 or 2.
    path = "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.sw.train.json"
    write(path, release(question("1"), question("0", "nane"), question("1", "tisa")))
    assert read(files, split="train") == [("0", "308"), ("1", "nane"), ("2", "tisa")]
    write("tydiqa/tydiqa-goldp-v1.1-train/tydiqa-goldp-v1.1-train.json", WHOLE)
    assert read(files, split="train")[0] == ("swahili-7-1", "308")


def test_the_hub_ships_all_languages_in_one_parquet_file(write, from_hub) -> None:
    answers = {"text": ["308"], "answer_start": [0]}
    rows = [
        {"id": name, "title": "T", "context": "C", "question": "Q?", "answers": answers}
        for name in ("arabic-5-0", "swahili-7-1")
    ]
    path = write("secondary_task/validation-00000-of-00001.parquet", rows)
    files, hub = from_hub({"google-research-datasets/tydiqa": [path]})
    assert read(files) == [("swahili-7-1", "308")]
    assert hub.asked == [
        ("google-research-datasets/tydiqa", ["secondary_task/validation*.parquet"])
    ]


def test_a_language_that_a_whole_file_lacks_is_missed_before_anything_runs(write, files) -> None:
    write("tydiqa/tydiqa-goldp-v1.1-dev.json", WHOLE)
    with pytest.raises(SourceError, match=r"no question .* 'telugu-', only: arabic, swahili"):
        load_task("tydiqa-goldp").paths(files, "tel_Telu", "validation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (release(question("swahili-7-1", id=None)), r"qas\[0\]: field 'id' must be a str"),
        (release({"id": "swahili-7-1", "question": "Q?"}), r"qas\[0\]: field 'answers' is missing"),
        (
            release(question("swahili-7-1"), question("swahili-7-1")),
            r"dev\.json, data\[0\]\.paragraphs\[1\]\.qas\[0\]: the id 'swahili-7-1' is used twice",
        ),
        (release(question("swahili-7-1", "")), r"qas\[0\]: the answers are \[''\]"),
        (
            json.dumps(release(question("swahili-7-1", "\ud83d"))),
            r"answers\[0\]: field 'text' holds half of a surrogate pair at character 0",
        ),
        (release(), r"dev\.json: holds no questions"),
        ('{"data": [\n{"paragraphs": [', r"dev\.json, line 2: not JSON.*truncated"),
    ],
)
@pytest.mark.parametrize("name", ["tydiqa-goldp-v1.1-dev.json", "tydiqa.goldp.sw.dev.json"])
def test_a_broken_release_names_file_and_place(name, content, message, write, files) -> None:
    write(name, content)
    with pytest.raises(DataError, match=message):
        read(files)


def test_a_file_that_is_not_utf8_names_file_and_line(write, files) -> None:
    path = write("tydiqa-goldp-v1.1-dev.json", "")
    path.write_bytes(b'{"data":\n["swahili-1 \xe9"]}')
    with pytest.raises(DataError, match=r"dev\.json, line 2: not UTF-8 at byte 21"):
        read(files)


# --------------------------------------------------------------------------------------- prompts


def test_mega_form_is_the_one_of_xquad() -> None:
    fields = {"context": "C. ", "question": "Q?", "language": "swh_Latn"}
    sample = Sample(id="1", fields=fields, gold=("x",))
    for prompt in (PromptSettings(), PromptSettings(form="completion")):
        requests = [
            load_task(name).request(sample, "swh_Latn", prompt)
            for name in ("tydiqa-goldp", "xquad")
        ]
        assert requests[0] == requests[1]


# ---------------------------------------------------------------------------------------- scores


def test_lm_eval_scores_with_another_normaliser() -> None:
    # The release asks for SQuAD v1.1's, which knows ASCII punctuation and English articles only.
    theirs = importlib.import_module("lm_eval.tasks.tydiqa.utils")
    task = load_task("tydiqa-goldp")
    for code, name, gold, answer, expected in [
        ("arb_Arab", "ar", "الكتاب", "كتاب", (0.0, 1.0)),
        ("rus_Cyrl", "ru", "«Мир»", "Мир", (0.0, 1.0)),
        ("fin_Latn", "fi", "the", "a", (1.0, 0.0)),
        ("eng_Latn", "en", "The cat.", "cat", (1.0, 1.0)),
    ]:
        sample = Sample(id="1", fields={"language": code}, gold=(gold,))
        response = GenerationResponse(text=answer, finish="stop", n_tokens=1)
        ours = task.score(sample, GenerationRequest(context=""), response).value
        assert (ours, theirs.f1_score(answer, gold, name)) == expected

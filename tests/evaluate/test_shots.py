"""Examples in the prompt: of the right split, in the sample's language, never the sample itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maple.catalog import entry_names, load_task
from maple.catalog.contracts import RankingRequest, Sample
from maple.errors import DataError, UsageError
from maple.evaluate.prepare import heeded, read_paths, word_requests
from maple.files import Files
from maple.study import PromptSettings

LANGUAGES = {"swh_Latn": "sw", "tha_Thai": "th"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("release")
    for name in LANGUAGES.values():
        for part, count in (("test", 5), ("val", 6)):
            rows = [
                {"premise": f"{part}-{n}-{name}.", "choice1": f"one {n}.", "choice2": f"two {n}.",
                 "question": "cause", "label": n % 2, "idx": n, "changed": False}
                for n in range(count)
            ]  # fmt: skip
            path = root / "xcopa" / "data" / name / f"{part}.{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    questions = [
        {"id": f"q{n}", "question": f"Question {n}?", "answers": [{"text": f"answer {n}",
         "answer_start": 0}]}
        for n in range(6)
    ]  # fmt: skip
    paragraphs = [{"context": "answer 0 to answer 5", "qas": questions}]
    (root / "xquad").mkdir()
    (root / "xquad" / "xquad.th.json").write_text(
        json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8"
    )
    return Files(directory=root)


def contexts(files: Files, task: str, language: str, prompt: PromptSettings) -> dict[str, str]:
    entry = load_task(task)
    split = entry.info.split
    samples = tuple(entry.samples(files, language, split))
    requests = word_requests(entry, samples, files, language, split, prompt)
    return {s.id: r.context for s, r in zip(samples, requests, strict=True)}


def test_examples_come_answered_from_the_validation_split(files: Files) -> None:
    prompt = PromptSettings(shots=3)
    found = contexts(files, "xcopa", "swh_Latn", prompt)
    alone = contexts(files, "xcopa", "swh_Latn", PromptSettings())
    preambles = {text.removesuffix(alone[name]) for name, text in found.items()}
    (preamble,) = preambles
    examples = preamble.removesuffix("\n\n").split("\n\n")
    assert len(examples) == 3
    for example in examples:
        number = int(example.split("-")[1])
        assert example.startswith(f"val-{number}-sw.")
        assert example.endswith(f"\n{'two' if number % 2 else 'one'} {number}.")


def test_parallel_languages_get_parallel_examples(files: Files) -> None:
    first, second = (
        contexts(files, "xcopa", language, PromptSettings(shots=2))["0"] for language in LANGUAGES
    )
    assert first.replace("-sw.", "-th.") == second


def test_a_sample_is_never_its_own_example_where_there_is_but_one_split(files: Files) -> None:
    found = contexts(files, "xquad", "tha_Thai", PromptSettings(shots=4))
    for name, context in found.items():
        assert context.count(f"Question {name[1:]}?") == 1
        assert context.count("\nQuestion: ") == 5
        assert f"answer {name[1:]}\n\n" not in context


def test_a_generated_choice_is_shown_answered_by_its_listed_answer(files: Files) -> None:
    ranked = contexts(files, "xcopa", "swh_Latn", PromptSettings(shots=2))
    generated = contexts(files, "xcopa", "swh_Latn", PromptSettings(shots=2, scoring="generation"))
    assert ranked == generated


def test_the_examples_file_is_part_of_the_data(files: Files) -> None:
    task = load_task("xcopa")
    with_shots = read_paths(task, files, "swh_Latn", "test", PromptSettings(shots=1))
    assert [p.name for p in with_shots] == ["test.sw.jsonl", "val.sw.jsonl"]
    assert [p.name for p in read_paths(task, files, "swh_Latn", "test", PromptSettings())] == [
        "test.sw.jsonl"
    ]


def test_more_examples_than_there_are_is_an_error(files: Files) -> None:
    with pytest.raises(DataError, match="6 samples"):
        contexts(files, "xcopa", "swh_Latn", PromptSettings(shots=6))


def test_a_task_without_examples_says_so() -> None:
    task = load_task("atlas-open")
    sample = Sample(id="0", fields={"instruction": "I", "checks": "[]"}, gold=("x",))
    with pytest.raises(UsageError, match="no examples"):
        task.request(sample, "eng_Latn", PromptSettings(shots=1))


@pytest.mark.parametrize("name", entry_names("tasks"))
def test_settings_a_task_does_not_heed_are_no_part_of_its_identity(name: str) -> None:
    task = load_task(name)
    asked = PromptSettings(choices="cloze", scoring="generation", shots=2)
    kept = heeded(task, asked)
    assert kept.shots == 2
    for setting, default in (("choices", "letter"), ("scoring", "ranking")):
        is_kept = getattr(kept, setting) != default
        assert is_kept == (setting in task.info.settings), setting


def test_an_example_of_the_lm_eval_form_is_its_own_sentence(tmp_path: Path) -> None:
    (tmp_path / "xnli").mkdir()
    rows = "".join(f"P{n}\tH{n}\t{n % 3}\n" for n in range(4))
    for part in ("test", "dev"):
        (tmp_path / "xnli" / f"{part}-en.tsv").write_text(rows, encoding="utf-8")
    files = Files(directory=tmp_path)
    task = load_task("xnli")
    samples = tuple(task.samples(files, "eng_Latn", "test"))
    prompt = PromptSettings(form="lm-eval", shots=2)
    for request in word_requests(task, samples, files, "eng_Latn", "test", prompt):
        assert isinstance(request, RankingRequest)
        examples = request.context.removesuffix("\n\n").split("\n\n")
        for example in examples:
            number = int(example[1])
            label = ("Yes", "Also", "No")[number % 3]
            assert example == f"P{number}, right? {label}, H{number}"

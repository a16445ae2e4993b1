"""What every task of the catalog owes, on the real release files where they are at hand."""

from __future__ import annotations

import unicodedata

import pytest

from maple.catalog import entry_names, load_task
from maple.catalog.contracts import (
    GenerationResponse,
    RankingRequest,
    RankingResponse,
    Request,
    Response,
    Sample,
)
from maple.errors import SourceError, UsageError
from maple.files import Files
from maple.languages import find
from maple.study import PromptSettings

ATLAS = ["en", "es", "de", "zh", "ar", "ru", "hi", "tr", "th", "sw", "yo", "am", "so"]
"""The languages of the embedded world, which has files in the format of each of these tasks."""

FORMS = [
    PromptSettings(form="lm-eval"),
    PromptSettings(form="mega"),
    PromptSettings(form="mega", instruction_language="native"),
]
CELLS = [
    pytest.param(task, code, split, id=f"{task}-{code}-{split}")
    for task in entry_names("tasks")
    for code in load_task(task).info.languages
    for split in load_task(task).info.samples
]
FIELDS = {
    "premise": "P.",
    "hypothesis": "H.",
    "choice1": "A.",
    "choice2": "B.",
    "question": "cause",
    "asks": "cause",
    "context": "C.",
}
SAMPLE = Sample(id="0", fields=FIELDS, gold=("0",))


def answer(sample: Sample, request: Request, *, is_right: bool) -> Response:
    if not isinstance(request, RankingRequest):
        return GenerationResponse(
            text=sample.gold[-1] if is_right else "zzqx", finish="stop", n_tokens=1
        )
    gold = int(sample.gold[0])
    n = len(request.continuations)
    best = gold if is_right else (gold + 1) % n
    return RankingResponse(
        loglikelihoods=tuple(-1.0 if i == best else -1e9 for i in range(n)),
        is_greedy=(False,) * n,
        n_tokens=(3,) * n,
    )


@pytest.mark.parametrize(("task", "code", "split"), CELLS)
def test_release_is_whole_and_gold_scores_one(
    task: str, code: str, split: str, shared: Files
) -> None:
    entry = load_task(task)
    try:
        samples = list(entry.samples(shared, code, split))
    except SourceError:
        pytest.skip(f"no release file of {task} in {code}")
    assert len(samples) == entry.info.samples[split]
    assert len({s.id for s in samples}) == len(samples)
    for sample in samples:
        request = entry.request(sample, code, FORMS[1])
        right = entry.score(sample, request, answer(sample, request, is_right=True))
        wrong = entry.score(sample, request, answer(sample, request, is_right=False))
        assert set(right.metrics.values()) == {1.0}
        assert set(wrong.metrics.values()) == {0.0}
        assert (right.value, wrong.value) == (1.0, 0.0)


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_languages_are_canonical_and_known(task: str) -> None:
    for code in load_task(task).info.languages:
        assert find(code).code == code


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_headline_is_a_metric_and_the_split_has_a_count(task: str) -> None:
    entry = load_task(task)
    request = entry.request(SAMPLE, "eng_Latn", FORMS[1])
    score = entry.score(SAMPLE, request, answer(SAMPLE, request, is_right=True))
    assert score.value == score.metrics[entry.info.headline]
    assert entry.info.split in entry.info.samples


@pytest.mark.parametrize("task", entry_names("tasks"))
@pytest.mark.parametrize("form", FORMS, ids=["lm-eval", "mega-english", "mega-native"])
def test_prompts_are_nfc_in_every_language(task: str, form: PromptSettings) -> None:
    entry = load_task(task)
    for code in {*entry.info.languages, *(find(tag).code for tag in ATLAS)}:
        if (task, code, form.instruction_language) == ("xcopa", "qve_Latn", "native"):
            continue
        request = entry.request(SAMPLE, code, form)
        texts = [request.context]
        texts += request.continuations if isinstance(request, RankingRequest) else request.stop
        for text in texts:
            assert unicodedata.is_normalized("NFC", text), (code, text)
            assert "{" not in text


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_native_instructions_hold_no_english_word(task: str) -> None:
    entry = load_task(task)
    english = {"Question:", "Context:", "Neither", "choice1", "option", "passage", "answer"}
    shared_with_english = {"ron_Latn": {"Context:"}}
    for code in {*entry.info.languages, *(find(tag).code for tag in ATLAS)} - {"eng_Latn"}:
        if (task, code) == ("xcopa", "qve_Latn"):
            continue
        words = set(entry.request(SAMPLE, code, FORMS[2]).context.split())
        assert not words & (english - shared_with_english.get(code, set())), code


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_words_that_are_missing_are_named_by_form_and_language(task: str) -> None:
    with pytest.raises(UsageError, match=r"lm-eval.*no words for kat_Geor.*instruction_language"):
        load_task(task).request(SAMPLE, "kat_Geor", FORMS[0])
    with pytest.raises(UsageError, match=r"mega.*native.*no words for kat_Geor"):
        load_task(task).request(SAMPLE, "kat_Geor", FORMS[2])
    assert load_task(task).request(SAMPLE, "kat_Geor", FORMS[1]).context


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_shots_are_refused_for_now(task: str) -> None:
    with pytest.raises(UsageError, match="shots: 3"):
        load_task(task).request(SAMPLE, "eng_Latn", PromptSettings(shots=3))


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_unknown_split_names_those_there_are(task: str, files: Files) -> None:
    with pytest.raises(UsageError, match=f"no split of {task} 'tset'.*Known: "):
        load_task(task).paths(files, "eng_Latn", "tset")


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_samples_of_all_languages_are_parallel(task: str, shared: Files) -> None:
    entry = load_task(task)
    ids = set()
    for code in entry.info.languages:
        try:
            samples = entry.samples(shared, code, entry.info.split)
            ids.add(tuple(s.id for s in samples))
        except SourceError:
            continue
    assert len(ids) <= 1

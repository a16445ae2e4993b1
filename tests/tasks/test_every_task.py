"""What every task of the catalog owes, on the real release files where they are at hand."""

from __future__ import annotations

import math
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
from maple.catalog.prompts import languages_with
from maple.errors import SourceError, UsageError
from maple.files import Files
from maple.languages import all_languages, find
from maple.study import PromptSettings

SECTIONS = {
    "xnli": "xnli",
    "pawsx": "pawsx",
    "xcopa": "xcopa",
    "xquad": "qa",
    "mlqa": "qa",
    "tydiqa-goldp": "qa",
    "belebele": "belebele",
    "xlsum": "xlsum",
    "xstorycloze": "xstorycloze",
}
"""The section of the prompt words that a task asks with; tasks not named here have none."""
LM_EVAL_WORDS = ["xnli", "pawsx", "xcopa", "xquad", "tydiqa-goldp"]
"""Tasks whose lm-eval form has words in each language; the others are worded alike in all."""
WITHOUT_LM_EVAL = ["xlsum"]
WORDED = [task for task in entry_names("tasks") if task != "lm-eval"]
"""Tasks with words of ours; lm-eval alone names no task, and the harness words those it does."""
PARALLEL = [task for task in entry_names("tasks") if task not in ("mlqa", "tydiqa-goldp", "xlsum")]
ATLAS = ["en", "es", "de", "zh", "ar", "ru", "hi", "tr", "th", "sw", "yo", "am", "so"]
"""Languages that the lm-eval forms have words of our own for, beside the benchmarks' own."""

FORMS = [
    PromptSettings(form="lm-eval"),
    PromptSettings(form="mega"),
    PromptSettings(form="mega", instruction_language="native"),
]
CELLS = [
    pytest.param(task, split, id=f"{task}-{split}")
    for task in entry_names("tasks")
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
    "language": "eng_Latn",
    "flores_passage": "F.",
    "mc_answer1": "A.",
    "mc_answer2": "B.",
    "mc_answer3": "C.",
    "mc_answer4": "D.",
    "sentence1": "S.",
    "sentence2": "T.",
    "sentence3": "U.",
    "sentence4": "V.",
    "ending1": "E.",
    "ending2": "F.",
    "text": "T.",
    "instruction": "I.",
    "checks": '[["0"]]',
}
SAMPLE = Sample(id="0", fields=FIELDS, gold=("0",))


def worded_languages(task: str, form: PromptSettings) -> set[str]:
    """Every language a form must be worded in: the benchmark's, Atlas's, the prompts folder's."""
    wanted = {*load_task(task).info.languages, *(find(tag).code for tag in ATLAS)}
    if form.instruction_language == "native" and task in SECTIONS:
        return set(languages_with(SECTIONS[task]))
    return wanted


def unworded_language(task: str) -> str:
    """A language that no form of a task has words of its own for."""
    known = {*load_task(task).info.languages, *(find(tag).code for tag in ATLAS)}
    known |= set(languages_with(SECTIONS[task]))
    return next(entry.code for entry in all_languages() if entry.code not in known)


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


@pytest.mark.parametrize(("task", "split"), CELLS)
def test_release_is_whole_and_gold_scores_one(task: str, split: str, shared: Files) -> None:
    entry = load_task(task)
    found = 0
    for code in entry.info.languages:
        try:
            samples = list(entry.samples(shared, code, split))
        except SourceError:
            continue
        found += 1
        assert len(samples) == entry.info.declared(split, code), code
        assert len({s.id for s in samples}) == len(samples), code
        if entry.info.is_judged:
            continue
        for sample in samples:
            request = entry.request(sample, code, FORMS[1])
            right = entry.score(sample, request, answer(sample, request, is_right=True))
            wrong = entry.score(sample, request, answer(sample, request, is_right=False))
            assert set(right.metrics.values()) == {1.0}, (code, sample.id)
            assert set(wrong.metrics.values()) == {0.0}, (code, sample.id)
            assert (right.value, wrong.value) == (1.0, 0.0)
    if not found:
        pytest.skip(f"no release file of {task}, {split}")


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_languages_are_canonical_and_known(task: str) -> None:
    for code in load_task(task).info.languages:
        assert find(code).code == code


@pytest.mark.parametrize("task", WORDED)
def test_headline_is_a_metric_and_the_split_has_a_count(task: str) -> None:
    entry = load_task(task)
    request = entry.request(SAMPLE, "eng_Latn", FORMS[1])
    score = entry.score(SAMPLE, request, answer(SAMPLE, request, is_right=True))
    if entry.info.is_judged:
        assert math.isnan(score.value)
        assert not score.metrics
    else:
        assert score.value == score.metrics[entry.info.headline]
    assert entry.info.split in entry.info.samples


@pytest.mark.parametrize("task", WORDED)
@pytest.mark.parametrize("form", FORMS, ids=["lm-eval", "mega-english", "mega-native"])
def test_prompts_are_nfc_in_every_language(task: str, form: PromptSettings) -> None:
    if form.form == "lm-eval" and task in WITHOUT_LM_EVAL:
        pytest.skip(f"lm-eval has no {task}")
    entry = load_task(task)
    for code in worded_languages(task, form):
        request = entry.request(SAMPLE, code, form)
        texts = [request.context]
        texts += request.continuations if isinstance(request, RankingRequest) else request.stop
        for text in texts:
            assert unicodedata.is_normalized("NFC", text), (code, text)
            assert "{" not in text


@pytest.mark.parametrize("task", ["xnli", "xcopa", "xquad"])
def test_instructions_are_native_in_every_language_but_quechua(task: str) -> None:
    wanted = {*load_task(task).info.languages, *(find(tag).code for tag in ATLAS)}
    assert wanted - set(languages_with(SECTIONS[task])) <= {"qve_Latn"}


@pytest.mark.parametrize("task", SECTIONS)
def test_words_that_are_missing_are_named_by_form_and_language(task: str) -> None:
    code = unworded_language(task)
    with pytest.raises(UsageError, match=rf"mega.*native.*no words for {code}.*instruction_lang"):
        load_task(task).request(SAMPLE, code, FORMS[2])
    assert load_task(task).request(SAMPLE, code, FORMS[1]).context


@pytest.mark.parametrize("task", LM_EVAL_WORDS)
def test_lm_eval_words_that_are_missing_are_named_by_form_and_language(task: str) -> None:
    code = unworded_language(task)
    with pytest.raises(UsageError, match=rf"lm-eval.*no words for {code}.*instruction_language"):
        load_task(task).request(SAMPLE, code, FORMS[0])


@pytest.mark.parametrize("task", WITHOUT_LM_EVAL)
def test_a_task_that_lm_eval_lacks_has_no_lm_eval_form(task: str) -> None:
    with pytest.raises(UsageError, match=rf"{task}: .*no lm-eval form.*form: mega"):
        load_task(task).request(SAMPLE, "eng_Latn", FORMS[0])


def test_examples_come_from_a_split_that_the_task_has() -> None:
    for name in entry_names("tasks"):
        info = load_task(name).info
        assert info.shots_split is None or info.shots_split in info.samples, name
        assert info.shots_split != info.split, name


@pytest.mark.parametrize("task", entry_names("tasks"))
def test_unknown_split_names_those_there_are(task: str, files: Files) -> None:
    with pytest.raises(UsageError, match=f"no split of {task} 'tset'.*Known: "):
        load_task(task).paths(files, "eng_Latn", "tset")


@pytest.mark.parametrize("task", PARALLEL)
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

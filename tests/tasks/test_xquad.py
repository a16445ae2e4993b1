"""XQuAD's release layout, SQuAD v1.1's scores, and what is said of broken files."""

from __future__ import annotations

import collections
import copy
import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, GenerationResponse, Sample
from maple.catalog.squad import normalise, token_scores
from maple.errors import DataError, SourceError
from maple.files import Files
from maple.study import PromptSettings

QUESTION = {"id": "a1", "question": "Q?", "answers": [{"text": "308", "answer_start": 0}]}
RELEASE = {"data": [{"title": "T", "paragraphs": [{"context": "308 C.", "qas": [QUESTION]}]}]}


def read(files: Files, language: str = "tur_Latn") -> list[Sample]:
    return list(load_task("xquad").samples(files, language, "validation"))


def changed(*path: Any, to: Any = None) -> dict[str, Any]:
    """The release with one value replaced, or removed."""
    release = copy.deepcopy(RELEASE)
    node: Any = release
    for step in path[:-1]:
        node = node[step]
    if to is None:
        del node[path[-1]]
    else:
        node[path[-1]] = to
    return release


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("folder", ["xquad/", ""])
def test_a_question_becomes_a_sample_of_its_id(folder, write, files) -> None:
    write(f"{folder}xquad.tr.json", RELEASE)
    fields = {"context": "308 C.", "question": "Q?", "language": "tur_Latn"}
    assert read(files) == [Sample(id="a1", fields=fields, gold=("308",))]


def test_the_hub_ships_parquet(write, from_hub) -> None:
    answers = {"text": ["308", "three"], "answer_start": [0, 0]}
    rows = [{"id": "a1", "context": "C", "question": "Q?", "answers": answers}]
    path = write("xquad.tr/validation-00000.parquet", rows)
    files, hub = from_hub({"google/xquad": [path]})
    assert read(files)[0].gold == ("308", "three")
    assert hub.asked == [("google/xquad", ["xquad.tr/validation*.parquet"])]


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (changed("data"), r"xquad\.tr\.json: field 'data' is missing"),
        (changed("data", 0, "paragraphs"), r"data\[0\]: field 'paragraphs' is missing"),
        (changed("data", 0, "paragraphs", 0, "context", to=3), r"paragraphs\[0\]: field 'context'"),
        (
            changed("data", 0, "paragraphs", 0, "qas", 0, "id"),
            r"data\[0\]\.paragraphs\[0\]\.qas\[0\]: field 'id' is missing; there is question",
        ),
        (
            changed("data", 0, "paragraphs", 0, "qas", 0, "answers", to=[]),
            r"qas\[0\]: the answers are \[\]",
        ),
        (
            changed("data", 0, "paragraphs", 0, "qas", 0, "answers", 0, "text"),
            r"qas\[0\]\.answers\[0\]: field 'text' is missing",
        ),
        (changed("data", 0, "paragraphs", 0, "qas", to=[QUESTION] * 2), r"qas\[1\]: the id 'a1'"),
        (changed("data", to=[]), r"xquad\.tr\.json: holds no questions"),
        ("[]", r"xquad\.tr\.json: field 'data' is missing"),
    ],
)
def test_a_broken_release_names_file_and_place(release, message, write, files) -> None:
    write("xquad/xquad.tr.json", release)
    with pytest.raises(DataError, match=message):
        read(files)


def test_a_truncated_file_names_file_and_line(write, files) -> None:
    write("xquad/xquad.tr.json", '{"data": [\n{"paragraphs": [')
    with pytest.raises(DataError, match=r"xquad\.tr\.json, line 2: not JSON.*truncated"):
        read(files)


def test_a_file_that_is_not_utf8_says_so(write, files) -> None:
    write("xquad/xquad.tr.json", "").write_bytes('{"data": "ı"}'.encode("iso8859-9"))
    with pytest.raises(DataError, match=r"xquad\.tr\.json, line 1: not UTF-8 at byte 10"):
        read(files)


# --------------------------------------------------------------------------------------- prompts


def test_mega_form_is_the_papers_wording_without_stray_marks(write, files) -> None:
    write("xquad/xquad.tr.json", changed("data", 0, "paragraphs", 0, "context", to="\ufeffC. "))
    request = load_task("xquad").request(read(files)[0], "tur_Latn", PromptSettings())
    assert request == GenerationRequest(
        context="Context: C.\nQuestion: Q?\n"
        "Referring to the passage above, the correct answer to the given question is",
        stop=("\n",),
        max_new_tokens=64,
        delimiter="\n",
    )


# ---------------------------------------------------------------------------------------- scores


def oracle_normalise(text: str) -> str:
    """SQuAD v1.1's evaluate script: lower, punctuation, articles, white space, in that order."""
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def oracle_f1(prediction: str, truth: str) -> float:
    predicted, true = oracle_normalise(prediction).split(), oracle_normalise(truth).split()
    same = sum((collections.Counter(predicted) & collections.Counter(true)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(true)
    return 2 * precision * recall / (precision + recall)


words = st.sampled_from(
    ["the", "a", "an", "The", "308", "points,", "أ", "四次", "Ünlü", "चार", "-"]
)
texts = st.one_of(st.text(), st.lists(words).map(" ".join))


@settings(max_examples=1000, deadline=None)
@given(texts, texts)
def test_scores_equal_squads_script(gold: str, answer: str) -> None:
    assert normalise(answer) == oracle_normalise(answer)
    f1, is_exact = token_scores((gold,), answer, lambda text: normalise(text).split())
    assert is_exact == (oracle_normalise(gold) == oracle_normalise(answer))
    if oracle_normalise(gold) or oracle_normalise(answer):
        assert f1 == pytest.approx(oracle_f1(answer, gold), abs=1e-12)
    else:
        # The script's one oddity, not kept: F1 0 where both are empty and the match is exact.
        assert (f1, oracle_f1(answer, gold)) == (1.0, 0.0)


@pytest.mark.parametrize("code", sorted(load_task("xquad").info.languages))
def test_scores_equal_squads_script_on_real_answers(code: str, shared: Files) -> None:
    try:
        samples = read(shared, code)
    except SourceError:
        pytest.skip(f"no XQuAD release file of {code}")
    task = load_task("xquad")
    for sample, other in zip(samples, samples[1:] + samples[:1], strict=True):
        for text in (
            other.gold[0],
            f" {sample.gold[0].upper()}, {other.gold[0]}",
            sample.gold[0][1:],
        ):
            response = GenerationResponse(text=text, finish="stop", n_tokens=1)
            score = task.score(sample, GenerationRequest(context=""), response)
            f1 = max(oracle_f1(text, gold) for gold in sample.gold)
            assert score.metrics["f1"] == score.value == pytest.approx(f1, abs=1e-12)
            exact = any(oracle_normalise(text) == oracle_normalise(g) for g in sample.gold)
            assert score.metrics["exact_match"] == exact
            assert score.prediction == text.strip()


def test_the_best_of_several_references_counts() -> None:
    sample = Sample(id="1", fields={"language": "eng_Latn"}, gold=("three hundred", "308"))
    response = GenerationResponse(text=" The 308.", finish="stop", n_tokens=2)
    score = load_task("xquad").score(sample, GenerationRequest(context=""), response)
    assert score.metrics == {
        "f1": 1.0,
        "exact_match": 1.0,
        # Articles stay: no other language loses its own.
        "f1_segmented": pytest.approx(2 / 3),
        "exact_match_segmented": 0.0,
    }


@pytest.mark.parametrize(
    ("code", "gold", "answer", "official", "segmented"),
    [
        # ["ใน", "กรุงเทพมหานคร"] against ["กรุงเทพมหานคร"]; the whole of it is a token otherwise.
        ("tha_Thai", "ในกรุงเทพมหานคร", "กรุงเทพมหานคร", 0.0, 2 / 3),
        ("zho_Hans", "北京市", "北京", 0.0, 4 / 5),
        ("tur_Latn", "kara kedi", "kedi", 2 / 3, 2 / 3),
    ],
)
def test_unspaced_scripts_are_segmented_beside_the_official_score(
    code, gold, answer, official, segmented
) -> None:
    if code == "tha_Thai":
        pytest.importorskip("pythainlp")
    sample = Sample(id="1", fields={"language": code}, gold=(gold,))
    response = GenerationResponse(text=answer, finish="stop", n_tokens=1)
    metrics = load_task("xquad").score(sample, GenerationRequest(context=""), response).metrics
    assert metrics["f1"] == pytest.approx(official)
    assert metrics["f1_segmented"] == pytest.approx(segmented)

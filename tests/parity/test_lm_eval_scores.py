"""Our engine against lm-evaluation-harness 0.4.13's, end to end in the lm-eval form.

Each takes the same documents, words them with its own task, tokenizes and batches them with its
own code, and runs the same random float32 model: log-likelihoods and greedy texts must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lm_eval_oracle
import pytest
import test_lm_eval_prompts as prompts

from maple.base import LoadedBase
from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.evaluate import Engine, prepare_task
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import PreparedTask, TaskRequest
from maple.files import Files
from maple.study import DecodingSettings, PromptSettings

LM_EVAL = PromptSettings(form="lm-eval")
N_REAL = {"xnli": 15, "xcopa": 15, "belebele": 4, "xquad": 4, "mlqa": 4}
"""Samples per language of the release files."""
REAL_TOKENS = 48
"""New tokens of an answer to a release file; those to the files written here may have all 256."""
TOLERANCE = 1e-3
"""Nats, float32: two padded batches of different shapes."""

SCRIPTS = {
    "xnli": ["ar", "de", "hi", "ru", "sw", "th", "ur", "zh"],
    "xcopa": ["en", "et", "sw", "ta", "th", "tr", "vi", "zh"],
    "xquad": ["ar", "el", "hi", "ru", "th", "vi", "zh"],
}
"""Languages of the files written here, by upstream's names: at least six scripts in all."""
MORE = {
    "belebele": ["swh_Latn", "tha_Thai", "zho_Hans"],
    "mlqa": ["ar", "hi", "zh"],
    "mlqa:en": ["hi"],
    "pawsx": ["de", "en", "es", "fr", "ja", "ko", "zh"],
    "tydiqa-goldp": ["bn", "te"],
    "xstorycloze": ["ar", "en", "es", "eu", "hi", "id", "my", "ru", "sw", "te", "zh"],
}
"""Tasks that have no release files here, or few; PAWS-X and XStoryCloze in every language."""


@pytest.fixture(scope="module")
def base(fresh_base: Callable[..., LoadedBase]) -> LoadedBase:
    """XQuAD paragraphs are long: some 4,000 bytes, a token each in most scripts."""
    return fresh_base(max_position_embeddings=8192, initializer_range=0.2)


def prepare(
    base: LoadedBase, root: Path, task: str, name: str, limit: int, tokens: int | None = None
) -> PreparedTask:
    encoder = Encoder(base.tokenizer, base.family, LM_EVAL, max_length=base.max_length)
    wanted = TaskRequest(
        task=task,
        language=prompts.code_of(name),
        # The release of MLQA that is at hand is its dev split.
        split="validation" if (task, root) == ("mlqa", prompts.SHARED) else None,
        limit=limit,
        decoding=DecodingSettings(max_new_tokens=tokens),
    )
    return prepare_task(wanted, Files(directory=root), encoder, max_tokens=8192)


def our_answers(base: LoadedBase, prepared: PreparedTask) -> list[list[Any]]:
    """In the harness's shape: (log-likelihood, is greedy) per option, or a text, per sample."""
    engine = Engine(base.model, base)
    found: dict[int, list[Any]] = {}
    for batch in prepared.batches:
        encoded = [prepared.encoded[i] for i in batch]
        if encoded[0].options:
            for i, ranking in zip(batch, engine.loglikelihoods(encoded), strict=True):
                found[i] = list(zip(ranking.loglikelihoods, ranking.is_greedy, strict=True))
        else:
            for i, generation in zip(batch, engine.generate(encoded), strict=True):
                found[i] = [generation.text]
    return [found[i] for i in range(len(prepared.samples))]


def their_answers(
    base: LoadedBase, task: str, name: str, documents: Sequence[Any], tokens: int | None = None
) -> tuple[list[Any], list[list[Any]]]:
    samples = lm_eval_oracle.lm_eval_requests(task, name, documents)
    for request in (r for sample in samples for r in sample.requests if tokens):
        if request.request_type == "generate_until":
            request.arguments = (request.args[0], {**request.args[1], "max_gen_toks": tokens})
    answers = lm_eval_oracle.lm_eval_responses(
        base.model, base.tokenizer, samples, batch_size=6, max_length=base.max_length
    )
    return samples, answers


def same_request(request: Any, sample: Any) -> bool:
    if isinstance(request, RankingRequest):
        ours = [(request.context, request.delimiter + text) for text in request.continuations]
        return ours == sample.arguments
    assert isinstance(request, GenerationRequest)
    return request.context == sample.arguments[0][0]


def assert_answers_agree(ours: list[Any], theirs: list[Any]) -> float:
    """One sample's answers; returns the largest log-likelihood difference."""
    if isinstance(ours[0], str):
        assert ours == theirs
        return 0.0
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    differences = [abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)]
    assert max(differences) < TOLERANCE
    return max(differences)


def compare(
    base: LoadedBase,
    root: Path,
    task: str,
    name: str,
    documents: Sequence[Any],
    tokens: int | None = None,
) -> int:
    """Asserts that every sample with the same request has the same answers; counts the others."""
    prepared = prepare(base, root, task, name, len(documents), tokens)
    samples, theirs = their_answers(base, task, name, documents, tokens)
    ours = our_answers(base, prepared)
    assert len(ours) == len(theirs) == len(documents)
    n_other, worst = 0, 0.0
    for request, sample, mine, its in zip(prepared.requests, samples, ours, theirs, strict=True):
        if same_request(request, sample):
            worst = max(worst, assert_answers_agree(mine, its))
        else:
            n_other += 1
    print(f"lm-eval {task} {name}: {len(ours)} samples, {n_other} worded otherwise, {worst:.1e}")
    return n_other


# ------------------------------------------------------------------------ files written here


@pytest.mark.parametrize(
    ("task", "name"), [(t, n) for t, names in (SCRIPTS | MORE).items() for n in names]
)
def test_answers_equal_lm_eval_on_written_files(
    base: LoadedBase, tmp_path: Path, task: str, name: str
) -> None:
    documents = prompts.small_documents(task, name)
    prompts.write_files(tmp_path, task, name, documents)
    n_other = compare(base, tmp_path, task, name, documents)
    # The harness cuts the last character off a premise, so an unpunctuated one loses a letter.
    cut = [d for d in documents if task == "xcopa" and not ends_in_punctuation(d["premise"])]
    assert n_other == len(cut)
    assert not cut or task == "xcopa"


def ends_in_punctuation(text: str) -> bool:
    return text.strip()[-1] in ".?!？。؟।!"


@pytest.mark.parametrize("name", ["th", "ta"])
def test_a_letter_less_changes_the_scores_of_xcopa(
    base: LoadedBase, tmp_path: Path, name: str
) -> None:
    # 500 of 500 Thai and 499 of 500 Tamil premises do not end in punctuation.
    (document,) = prompts.small_documents("xcopa", name)[-1:]
    assert not ends_in_punctuation(document["premise"])
    prompts.write_files(tmp_path, "xcopa", name, [document])
    prepared = prepare(base, tmp_path, "xcopa", name, 1)
    samples, theirs = their_answers(base, "xcopa", name, [document])
    assert not same_request(prepared.requests[0], samples[0])
    (ours,) = our_answers(base, prepared)
    # Given back the letter, the harness agrees with us.
    punctuated = document | {"premise": document["premise"] + "."}
    _, repaired = their_answers(base, "xcopa", name, [punctuated])
    for mine, its, whole in zip(ours, theirs[0], repaired[0], strict=True):
        assert abs(mine[0] - its[0]) > 10 * TOLERANCE
        assert mine[0] == pytest.approx(whole[0], abs=TOLERANCE)


# --------------------------------------------------------------------------- the release files


@pytest.mark.parametrize(
    ("task", "name"),
    [
        pytest.param(task, *getattr(name, "values", (name,)), marks=getattr(name, "marks", ()))
        for task in N_REAL
        for name in prompts.real_languages(task)
    ],
)
def test_answers_equal_lm_eval_on_the_release_files(base: LoadedBase, task: str, name: str) -> None:
    documents = list(islice(prompts.real_documents(task, name), N_REAL[task]))
    n_other = compare(base, prompts.SHARED, task, name, documents, REAL_TOKENS)
    assert n_other == (len(documents) if (task, name) == ("xcopa", "th") else 0)

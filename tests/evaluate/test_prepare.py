"""A task and language prepared once: limits, identities, and rows that resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maple.base import LoadedBase
from maple.catalog import load_task
from maple.errors import DataError
from maple.evaluate import Engine, PreparedTask, prepare_task, score_batches
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import TaskRequest, heeded
from maple.files import Files
from maple.study import PromptSettings

N_SAMPLES = 9


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("release")
    rows = [
        f"Mtu {n} alikwenda sokoni{' jana' * (n % 4)}.\tMtu {n} alikuwa sokoni.\t{n % 3}\n"
        for n in range(N_SAMPLES)
    ]
    (root / "xnli").mkdir()
    (root / "xnli" / "test-sw.tsv").write_text("".join(rows), encoding="utf-8")
    return Files(directory=root)


@pytest.fixture(scope="module")
def base(shared_base: Callable[..., LoadedBase]) -> LoadedBase:
    return shared_base()


def prepare(
    base: LoadedBase,
    files: Files,
    limit: int | None = None,
    task: str = "xnli",
    prompt: PromptSettings | None = None,
    **budget: Any,
) -> PreparedTask:
    prompt = prompt or PromptSettings(form="lm-eval")
    encoder = Encoder(base.tokenizer, base.family, prompt, max_length=512)
    wanted = TaskRequest(task=task, language="swh_Latn", limit=limit)
    return prepare_task(wanted, files, encoder, **({"max_tokens": 300} | budget))


def rows_of(base: LoadedBase, prepared: PreparedTask, stored: set[str] = frozenset()) -> list[Any]:  # type: ignore[assignment]
    engine = Engine(base.model, base)
    parts = score_batches(engine, prepared, eval_id="e", run_id="r", stored=stored)
    return [row for part in parts for row in part]


def test_every_sample_has_a_row_with_its_scores(base: LoadedBase, files: Files) -> None:
    prepared = prepare(base, files)
    rows = {row.sample_id: row for row in rows_of(base, prepared)}
    assert set(rows) == {s.id for s in prepared.samples}
    assert len(rows) == N_SAMPLES
    for prompt in prepared.prompts:
        row = rows[prompt.sample_id]
        assert row.prompt_hash == prompt.prompt_hash
        assert len(row.loglikelihoods) == len(prompt.continuations) == 3
        best = max(range(3), key=lambda i: row.loglikelihoods[i])
        assert row.prediction == str(best)
        assert row.score == float(row.gold == (str(best),))
        assert row.text is None


def test_a_limit_takes_the_first_samples(base: LoadedBase, files: Files) -> None:
    whole, cut = prepare(base, files), prepare(base, files, limit=4)
    assert cut.samples == whole.samples[:4]
    assert cut.data == whole.data
    assert cut.prompts_id != whole.prompts_id


def test_the_prompts_identity_is_their_content(base: LoadedBase, files: Files) -> None:
    assert prepare(base, files).prompts_id == prepare(base, files, max_tokens=50).prompts_id


def test_batches_depend_on_the_requests_alone(base: LoadedBase, files: Files) -> None:
    prepared = prepare(base, files)
    assert prepared.batches == prepare(base, files).batches
    assert sorted(i for batch in prepared.batches for i in batch) == list(range(N_SAMPLES))
    assert len(prepared.batches) > 1
    assert all(len(b) == 1 for b in prepare(base, files, max_requests=1).batches)


def test_scoring_continues_where_it_stopped(base: LoadedBase, files: Files) -> None:
    prepared = prepare(base, files)
    whole = {row.sample_id: row for row in rows_of(base, prepared)}
    stored = {prepared.samples[i].id for i in prepared.batches[0]}
    rest = {row.sample_id: row for row in rows_of(base, prepared, stored)}
    assert set(rest) == set(whole) - stored
    # The same batches as before, so the same numbers to the last bit.
    assert all(whole[name] == row for name, row in rest.items())


def test_a_benchmark_without_samples_names_its_file(base: LoadedBase, tmp_path: Path) -> None:
    path = tmp_path / "xcopa" / "data" / "sw" / "test.sw.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.sw\.jsonl"):
        prepare(base, Files(directory=tmp_path), task="xcopa")


def test_options_are_scored_alone_unless_that_is_switched_off(
    base: LoadedBase, files: Files
) -> None:
    with_pmi = prepare(base, files, prompt=PromptSettings())
    without = prepare(base, files, prompt=PromptSettings(unconditional=False))
    assert with_pmi.alone
    assert without.alone == ()
    assert with_pmi.prompts_id == without.prompts_id
    for one, other in zip(rows_of(base, with_pmi), rows_of(base, without), strict=True):
        assert len(one.unconditional) == 3
        assert other.unconditional == ()
        assert {**one.metrics} == {**other.metrics, "accuracy_pmi": one.metrics["accuracy_pmi"]}
        assert one.loglikelihoods == other.loglikelihoods


def test_only_a_ranking_heeds_that_its_options_are_not_scored_alone() -> None:
    off = PromptSettings(unconditional=False)
    assert heeded(load_task("xnli"), off) == off
    assert heeded(load_task("xquad"), off) == PromptSettings()
    written = PromptSettings(unconditional=False, scoring="generation")
    assert heeded(load_task("xnli"), written) == PromptSettings(scoring="generation")

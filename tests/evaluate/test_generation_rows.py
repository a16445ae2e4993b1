"""Prompts of a task through the stream: rows as they finish, resumed, drawn by the study's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from maple.base import LoadedBase
from maple.cli.decoding import decoding_settings
from maple.errors import UsageError
from maple.evaluate import Engine, PreparedTask, prepare_task, score_batches
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import TaskRequest
from maple.files import Files
from maple.study import DecodingSettings, PromptSettings

N_SAMPLES = 10
PASSAGE = "The capital of Kenya is Nairobi. Mji mkuu wa Kenya ni Nairobi. " * 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("release")
    questions = [
        {
            "id": str(n),
            "question": "Name the capital of Kenya" + " now" * (n % 3) + f" {n}?",
            "answers": [{"text": "Nairobi", "answer_start": 24}],
        }
        for n in range(N_SAMPLES)
    ]
    paragraphs = [
        {"context": f"{PASSAGE} {n}", "qas": questions[n : n + 5]} for n in range(0, N_SAMPLES, 5)
    ]
    (root / "xquad").mkdir()
    content = {"data": [{"title": "Kenya", "paragraphs": paragraphs}]}
    (root / "xquad" / "xquad.en.json").write_text(json.dumps(content), encoding="utf-8")
    return Files(directory=root)


def prepare(base: LoadedBase, files: Files, **decoding: Any) -> PreparedTask:
    encoder = Encoder(base.tokenizer, base.family, PromptSettings(form="lm-eval"), max_length=512)
    settings = DecodingSettings(**({"max_new_tokens": 8} | decoding))
    wanted = TaskRequest(task="xquad", language="eng_Latn", decoding=settings)
    return prepare_task(wanted, files, encoder, max_tokens=4096)


def parts(base: LoadedBase, prepared: PreparedTask, stored: set[str] | None = None) -> list[Any]:
    engine = Engine(base.model, base)
    found = score_batches(engine, prepared, eval_id="e", run_id="r", stored=stored or set())
    return list(found)


def test_rows_come_one_by_one_and_resume(
    shared_base: Callable[..., LoadedBase], files: Files
) -> None:
    base = shared_base()
    prepared = prepare(base, files)
    found = parts(base, prepared)
    assert [len(part) for part in found] == [1] * N_SAMPLES
    rows = {part[0].sample_id: part[0] for part in found}
    assert set(rows) == {s.id for s in prepared.samples}
    assert len({row.text for row in rows.values()}) > 1
    assert {row.finish for row in rows.values()} <= {"stop", "length"}
    stored = set(sorted(rows)[:7])
    rest = [row for part in parts(base, prepared, stored) for row in part]
    assert {row.sample_id for row in rest} == set(rows) - stored
    assert all(row == rows[row.sample_id] for row in rest)


def test_drawn_rows_belong_to_their_samples(
    shared_base: Callable[..., LoadedBase], files: Files
) -> None:
    base = shared_base()
    greedy = {part[0].sample_id: part[0].text for part in parts(base, prepare(base, files))}
    prepared = prepare(base, files, temperature=1.2, top_k=50)
    rows = {part[0].sample_id: part[0] for part in parts(base, prepared)}
    assert {name: row.text for name, row in rows.items()} != greedy
    stored = set(sorted(rows)[::2])
    rest = [row for part in parts(base, prepared, stored) for row in part]
    assert len(rest) == N_SAMPLES - len(stored)
    assert all(row == rows[row.sample_id] for row in rest)
    keys = {request.draw_key for request in prepared.encoded}
    assert len(keys) == N_SAMPLES


def test_the_commands_options_are_the_studys_settings() -> None:
    given = {"max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": None, "seed": 3}
    assert decoding_settings(given) == DecodingSettings(
        max_new_tokens=5, temperature=0.5, top_p=0.9, seed=3
    )
    with pytest.raises(UsageError, match="top_p means nothing where temperature is 0"):
        decoding_settings(given | {"temperature": 0.0})
    with pytest.raises(UsageError, match="top_p: Input should be less than or equal to 1"):
        decoding_settings(given | {"top_p": 1.5})

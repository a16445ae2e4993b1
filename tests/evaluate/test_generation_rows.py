"""Prompts of a task through the stream: rows as they finish, resumed, drawn by the study's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from maple.base import LoadedBase
from maple.cli.decoding import decoding_settings
from maple.errors import UsageError
from maple.evaluate import (
    Engine,
    PreparedTask,
    Written,
    prepare_task,
    score_batches,
    write_answers,
)
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import TaskRequest
from maple.files import Files
from maple.run import generating
from maple.run.generating import together
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


def test_several_tasks_in_one_stream_give_the_rows_of_each_alone(
    shared_base: Callable[..., LoadedBase], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    tasks = [prepare(base, files), prepare(base, files, max_new_tokens=3)]
    streams: list[int] = []
    own = Engine.generate_stream

    def counted(self: Engine, requests: Any, **named: Any) -> Any:
        streams.append(len(requests))
        return own(self, requests, **named)

    alone = [{row.sample_id: row for (row,) in parts(base, task)} for task in tasks]
    monkeypatch.setattr(Engine, "generate_stream", counted)
    stored = set(sorted(alone[0])[:4])
    asked = [Written(tasks[0], "e", "r", stored), Written(tasks[1], "e", "r", set())]
    found: list[dict[str, Any]] = [{}, {}]
    for place, row, tokens in write_answers(Engine(base.model, base), asked):
        assert row.sample_id not in found[place]
        found[place][row.sample_id] = row
        assert tokens > (row.n_tokens or (0,))[0] > 0
    assert streams == [2 * N_SAMPLES]
    assert found[0] == {name: row for name, row in alone[0].items() if name not in stored}
    assert found[1] == alone[1] != alone[0]
    nothing = [Written(task, "e", "r", set(alone[0])) for task in tasks]
    assert list(write_answers(Engine(base.model, base), nothing)) == []
    assert streams == [2 * N_SAMPLES]


def test_tasks_are_together_up_to_a_number_of_samples(
    shared_base: Callable[..., LoadedBase], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = prepare(shared_base(), files)
    assert [len(g) for g in together([written] * 7)] == [7]
    monkeypatch.setattr(generating, "MOST_TOGETHER", 3 * N_SAMPLES)
    assert [len(g) for g in together([written] * 7)] == [3, 3, 1]
    monkeypatch.setattr(generating, "MOST_TOGETHER", N_SAMPLES - 1)
    assert [len(g) for g in together([written] * 2)] == [1, 1]


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

"""The task that ``docs/add_a_task.md`` shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maple.catalog import entry_names, load_task
from maple.catalog.contracts import RankingRequest, RankingResponse
from maple.files import Files
from maple.study import PromptSettings

PAGE = Path(__file__).parents[2] / "docs" / "add_a_task.md"


def test_the_pages_task_is_found_read_worded_and_scored(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    write("catalog/tasks/weather.py", code)
    rows = [
        {"id": "w1", "text": "Mvua inanyesha.", "label": 0},
        {"id": "w2", "text": "Jua kali.", "label": 1},
    ]
    write("weather/test-sw.jsonl", rows)
    monkeypatch.setenv("MAPLE_CATALOG", str(tmp_path / "catalog"))
    assert "weather" in entry_names("tasks")
    task = load_task("weather")
    samples = list(task.samples(Files(directory=tmp_path), "swh_Latn", "test"))
    assert len(samples) == task.info.samples["test"]
    request = task.request(samples[1], "swh_Latn", PromptSettings(instruction_language="native"))
    assert isinstance(request, RankingRequest)
    assert request.context == "Jua kali.\nJe, hii ni kuhusu mvua au jua?"
    response = RankingResponse(
        loglikelihoods=(-2.0, -1.0), is_greedy=(False, True), n_tokens=(1, 1)
    )
    assert task.score(samples[1], request, response).value == 1.0

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from scipy.stats import binomtest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder
from tests.browser import browser, page

from maple.errors import StoreError, UsageError
from maple.records import CurveRow
from maple.watch import Watcher, WatchServer, open_server

BASE, TUNED = Run(method="none", rank=None), Run(rank=8)
FAILED, RUNNING = Run(rank=4, status="failed"), Run(rank=16, status="unfinished")
HITS = np.array([1.0] * 14 + [0.0] * 6)


@pytest.fixture
def builder(tmp_path: Path) -> StoreBuilder:
    made = StoreBuilder(tmp_path, name="<b>growing</b>")
    made.study([BASE, TUNED, FAILED, RUNNING])
    for run in (BASE, FAILED, RUNNING):
        made.run(run)
    made.evaluation(BASE, TASKS[0], "swh_Latn", HITS)
    return made


@contextmanager
def served(directory: Path) -> Iterator[WatchServer]:
    with open_server(directory) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: WatchServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_scores_so_far_have_wilsons_interval_and_say_that_they_are_unfinished(
    builder: StoreBuilder,
) -> None:
    builder.evaluation(TUNED, TASKS[0], "tha_Thai", HITS[:13], is_done=False)
    finished, partial = sorted(Watcher(builder.directory).look()["scores"], key=lambda s: s["code"])
    expected = binomtest(14, 20).proportion_ci(method="wilson")
    assert finished["is_done"]
    assert (finished["n"], finished["score"]) == (20, pytest.approx(0.7))
    assert (finished["low"], finished["high"]) == pytest.approx((expected.low, expected.high))
    assert not partial["is_done"]
    assert (partial["n"], partial["score"], partial["language"]) == (13, 1.0, "Thai")


def test_scores_that_a_judge_has_yet_to_give_are_no_score(builder: StoreBuilder) -> None:
    builder.evaluation(TUNED, TASKS[1], "eng_Latn", np.full(5, np.nan))
    score = next(s for s in Watcher(builder.directory).look()["scores"] if s["code"] == "eng_Latn")
    assert (score["n"], score["score"], score["low"]) == (0, None, None)


def test_files_that_stay_as_they_were_are_read_once(
    builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    import maple.watch.state as state

    column = state._column
    monkeypatch.setattr(state, "_column", lambda p, c: read.append(p.name) or column(p, c))
    watcher = Watcher(builder.directory)
    watcher.look()
    assert len(read) == 2
    watcher.look()
    assert len(read) == 2
    builder.evaluation(TUNED, TASKS[0], "tha_Thai", HITS)
    builder.run(TUNED)
    state_now = watcher.look()
    assert len(read) == 5
    assert [c["steps"] for c in state_now["curves"]] == [30]
    assert state_now["counts"] == {"done": 2, "unfinished": 1, "failed": 1, "missing": 0}


def test_the_loss_of_a_run_in_training_comes_from_its_checkpoint(builder: StoreBuilder) -> None:
    rows = [
        asdict(CurveRow(step=step, loss=loss, learning_rate=0.1, grad_norm=1.0, tokens=1,
                        label_tokens=1, step_seconds=1.0, tokens_per_second=1.0,
                        peak_memory_bytes=1))
        for step, loss in ((1, 3.0), (2, float("nan")), (3, 2.5))
    ]  # fmt: skip
    folder = builder.directory / "runs" / RUNNING.id / "checkpoint"
    folder.mkdir()
    header = {"maple": json.dumps({"step": 3, "curve": rows})}
    (folder / "state.safetensors").write_bytes(save({"x": np.zeros(3)}, header))
    (curve,) = Watcher(builder.directory).look()["curves"]
    assert (curve["x"], curve["y"], curve["last"]) == ([1, 2, 3], [3.0, None, 2.5], 2.5)


def test_a_broken_file_is_named_and_ends_nothing(builder: StoreBuilder) -> None:
    watcher = Watcher(builder.directory)
    folder = next((builder.directory / "evals").iterdir())
    (folder / "part-000099-1.parquet").write_bytes(b"PAR1")
    assert "part-000099-1.parquet" in watcher.look()["problem"]
    (folder / "part-000099-1.parquet").unlink()
    assert watcher.look()["problem"] == ""


def test_only_local_names_are_answered_and_nothing_but_the_two_paths(builder: StoreBuilder) -> None:
    with served(builder.directory) as server:
        assert server.server_address[0] == "127.0.0.1"
        local = f"127.0.0.1:{server.port}"
        assert ask(server, "/")[0] == 200
        assert ask(server, "/state", Host=f"localhost:{server.port}")[0] == 200
        for host in (
            "evil.example",
            f"evil.example:{server.port}",
            "127.0.0.1:1",
            "",
            f"[::1]:{server.port}",
        ):
            assert ask(server, "/state", Host=host)[0] == 403, host
        for path in (
            "/state?x",
            "/../study.json",
            "/study.json",
            "/state/",
            f"http://{local}/state",
        ):
            assert ask(server, path)[0] == 404, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(server, "/state", method)[0] == 501, method
        status, body = ask(server, "/", "HEAD")
        assert (status, body) == (200, b"")


def test_answers_cannot_be_read_framed_or_kept_by_others(builder: StoreBuilder) -> None:
    with served(builder.directory) as server, urllib.request.urlopen(server.url) as answer:
        headers, text = answer.headers, answer.read().decode()
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_looking_changes_nothing_in_the_store(builder: StoreBuilder) -> None:
    def content() -> dict[str, tuple[int, int]]:
        files = [p for p in builder.directory.rglob("*") if p.is_file()]
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}

    before = content()
    with served(builder.directory) as server:
        ask(server, "/state")
    assert content() == before


def test_what_is_no_store_and_a_taken_port_are_clear_errors(
    builder: StoreBuilder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(StoreError, match="is no store"):
        open_server(tmp_path_factory.mktemp("empty"))
    with served(builder.directory) as server, pytest.raises(UsageError, match="Name another"):
        open_server(builder.directory, server.port)


def test_a_browser_shows_a_store_that_grows(builder: StoreBuilder) -> None:
    failure = builder.directory / "runs" / FAILED.id / "failed.json"
    error = "<script>alert(1)</script>"
    failure.write_text(json.dumps({"stage": "train", "error": error, "traceback": "T" * 9000}))
    with (
        served(builder.directory) as server,
        browser() as chromium,
        page(chromium, server.url, 390) as (shown, problems),
    ):
        assert shown.text_content("#name") == "<b>growing</b>"
        assert shown.locator("#scores tbody tr").count() == 1
        assert shown.locator("#curves svg").count() == 0
        assert error in shown.text_content("#failures summary")
        builder.evaluation(TUNED, TASKS[0], "tha_Thai", HITS[:13], is_done=False)
        builder.run(TUNED)
        shown.wait_for_selector("#scores tbody tr:nth-child(2)", timeout=30_000)
        shown.wait_for_selector("#curves svg path", timeout=30_000)
        assert "≈ 100.0" in shown.text_content("#scores")
        assert "1 of 48 evaluations finished" in shown.text_content("#bar-text")
        width = shown.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        assert problems == []

"""The client against a real server: ``transformers serve`` on loopback, with the Atlas base.

That base ends sentences about an invented world and judges nothing, so what is held here is the
protocol: every request is answered and kept, and what cannot be read is counted, not scored.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.judge.judge_server import outputs_of

from maple.atlas import base_model_path
from maple.errors import SourceError
from maple.judge import (
    Endpoint,
    EndpointSettings,
    VerdictCache,
    annotate,
    ask_all,
    load_protocol,
    pair_outputs,
)

TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(base URL, model) of a server with the Atlas base, which is given a chat template."""
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("fastapi") is None:
        pytest.skip("transformers serve needs fastapi and uvicorn: pip install 'maple-peft[dev]'")
    folder = tmp_path_factory.mktemp("serve")
    model = shutil.copytree(base_model_path(), folder / "judge")
    (model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", str(model), *options],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}/v1", str(model)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while True:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        assert time.monotonic() < end, log.read_text(encoding="utf-8")[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)


def test_every_request_is_answered_kept_and_not_asked_again(served, tmp_path: Path) -> None:
    url, model = served
    endpoint = Endpoint(EndpointSettings(judge=model, base_url=url, api_key="none", tries=2))
    protocol, cache = load_protocol("pairwise"), VerdictCache(tmp_path / "v.jsonl")
    pairs = pair_outputs(outputs_of("ref", 3, str), outputs_of("model", 3, lambda i: f"{i}!"))
    try:
        assert ask_all(pairs, protocol, endpoint=endpoint, cache=cache, concurrency=2) == 3
        again = VerdictCache(cache.path)
        assert ask_all(pairs, protocol, endpoint=endpoint, cache=again) == 0
    finally:
        endpoint.close()
    rows = [json.loads(line) for line in cache.path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert row["raw"]["message"]["role"] == "assistant"
        assert 0 < row["completion_tokens"] <= 100
        assert row["prompt_tokens"] > 100
    found = annotate(pairs, protocol, judge=model, annotator="a", cache=cache)
    assert [a.preference for a in found] == [None] * 3


def test_the_server_gives_no_logprobs_and_is_asked_pairwise_instead(served, tmp_path) -> None:
    url, model = served
    endpoint = Endpoint(EndpointSettings(judge=model, base_url=url, api_key="none", tries=2))
    pairs = pair_outputs(outputs_of("ref", 1, str), outputs_of("model", 1, lambda i: f"{i}!"))
    cache = VerdictCache(tmp_path / "v.jsonl")
    with pytest.raises(SourceError, match=r"answers without log-probabilities.*--prompt pairwise"):
        ask_all(pairs, load_protocol("weighted"), endpoint=endpoint, cache=cache)
    endpoint.close()
    assert not len(cache)

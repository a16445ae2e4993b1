"""What the tests of the judge share: alpaca_eval's own code, and a server."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.judge.judge_server import JudgeServer

Oracle = Callable[..., Any]


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """``oracle("rates", annotations=...)`` -> what alpaca_eval 0.6.6 computes; one process."""
    if importlib.util.find_spec("alpaca_eval") is None:
        pytest.skip("alpaca_eval is not installed: pip install 'maple-peft[dev]'")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("alpaca_eval_oracle.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(what: str, **question: Any) -> Any:
        process.stdin.write(json.dumps({"do": what, **question}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=60)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()

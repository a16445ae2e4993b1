"""Servers of tiny bases, and the same bases' requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.engines.completion_server import CompletionServer
from tests.run.tiny import write_data

from maple.base import LoadedBase


@pytest.fixture
def base(shared_base: Callable[..., LoadedBase]) -> LoadedBase:
    """A tiny Llama in float32."""
    return shared_base("llama")


@pytest.fixture
def server(base: LoadedBase) -> Iterator[CompletionServer]:
    """Serves that base."""
    pytest.importorskip("openai", reason="an endpoint is asked through openai: [endpoint]")
    started = CompletionServer(base)
    yield started
    started.close()


@pytest.fixture
def other_server(shared_base: Callable[..., LoadedBase]) -> Iterator[CompletionServer]:
    """Serves a base of other weights under the same name."""
    pytest.importorskip("openai", reason="an endpoint is asked through openai: [endpoint]")
    started = CompletionServer(shared_base("llama", seed=1))
    yield started
    started.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of small files in the upstream layouts; not to be changed."""
    return write_data(tmp_path_factory.mktemp("data"), samples=6)

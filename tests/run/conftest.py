"""A tiny base, small data and the command line, for every test that runs a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.run.program import Program
from tests.run.tiny import write_data


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """``program("run", study, cwd=folder)``: the command line in a process of its own."""
    started = Program(tmp_path_factory.mktemp("calls"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def model(model_directory: Callable[..., Path]) -> Path:
    """Directory of a tiny Llama."""
    return model_directory("llama")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of small files in the upstream layouts; not to be changed."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def other_model(model_directory: Callable[..., Path]) -> Path:
    """Directory of another base: the same sizes, other weights."""
    return model_directory("llama", seed=1)

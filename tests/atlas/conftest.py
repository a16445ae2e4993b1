"""The built world, once for all tests of it."""

from pathlib import Path

import pytest

from maple.atlas import build


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("atlas") / "world")

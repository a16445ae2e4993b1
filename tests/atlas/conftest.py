"""The built world, once for all tests of it; and a world that takes no time to build."""

import json
import sys
from pathlib import Path

import pytest

from maple.atlas import build, world_version


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("atlas") / "world")


@pytest.fixture
def empty_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build writes its mark and nothing else."""
    # The package's function of the same name hides the module from an import.
    monkeypatch.setattr(sys.modules["maple.atlas.build"], "_write_world", _write_mark)


def _write_mark(root: Path) -> None:
    (root / "ATLAS.json").write_text(json.dumps({"world_version": world_version()}))

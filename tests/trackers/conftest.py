"""What the tests of every tracker write."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.analysis.synthetic import StoreBuilder
from tests.trackers.growing import BASE, FAILED, MISSING, RUNNING, TUNED


@pytest.fixture
def builder(tmp_path: Path) -> StoreBuilder:
    made = StoreBuilder(tmp_path / "store", name="a study")
    made.study([BASE, TUNED, FAILED, RUNNING, MISSING])
    for run in (BASE, TUNED, FAILED, RUNNING):
        made.run(run)
    return made

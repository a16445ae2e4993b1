"""Work in other processes: the same answers, the same errors, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.large_store import Size, write_store

from maple.analysis import summarise, summary
from maple.analysis.forgetting import forgetting_ledger
from maple.analysis.processes import Processes
from maple.errors import StoreError
from maple.store.read import Store, open_store

SIZE = Size(runs=14, tasks=2, languages=3, samples=30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    directory = tmp_path_factory.mktemp("large")
    write_store(directory, SIZE)
    return open_store(directory)


def double(numbers: np.ndarray) -> tuple[int, np.ndarray]:
    return os.getpid(), 2 * numbers


def fail_elsewhere(here: int) -> str:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done here"


def refuse(word: str) -> None:
    raise StoreError(word)


def is_alive(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_summary_is_the_same_to_the_last_bit_however_many_made_it(store: Store) -> None:
    alone, shared = (summarise(store, processes=count) for count in (1, 2))
    assert repr(shared) == repr(alone)
    for mine, theirs in zip(alone.panels, shared.panels, strict=True):
        assert mine.run_ids == theirs.run_ids
        for language, scores in mine.scores.items():
            np.testing.assert_array_equal(theirs.scores[language], scores)
            np.testing.assert_array_equal(theirs.items[language], mine.items[language])


def test_a_small_store_starts_no_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    monkeypatch.setattr(summary, "Processes", lambda n: started.append(n) or Processes(n))
    summarise(store)
    assert started == [1]


def test_answers_come_from_elsewhere_and_nobody_stays() -> None:
    with Processes(2) as processes:
        found = [processes.submit(double, np.arange(n)).result() for n in range(4)]
    assert os.getpid() not in {process for process, _ in found}
    assert [numbers.tolist() for _, numbers in found] == [[], [0], [0, 2], [0, 2, 4]]
    assert not any(is_alive(process) for process, _ in found)


def test_what_a_dead_process_had_to_do_is_done_here() -> None:
    with Processes(2) as processes:
        calls = [processes.submit(fail_elsewhere, os.getpid()) for _ in range(5)]
        assert [call.result() for call in calls] == ["done here"] * 5


def test_an_error_is_the_one_that_is_raised_here() -> None:
    with pytest.raises(StoreError, match="evals/x is broken"), Processes(2) as processes:
        processes.submit(refuse, "evals/x is broken").result()


def test_a_broken_part_is_named_by_any_number_of_processes(tmp_path: Path) -> None:
    write_store(tmp_path, Size(runs=3, tasks=1, languages=2, samples=5))
    part = sorted(tmp_path.glob("evals/*/part-*"))[2]
    part.write_bytes(part.read_bytes()[:-40])
    for count in (1, 2):
        with pytest.raises(StoreError, match=str(part)):
            summarise(open_store(tmp_path), processes=count)


def test_processes_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, time; from maple.analysis.processes import Processes; "
        "hands = Processes(2); "
        "print(*{hands.submit(os.getpid).result() for _ in range(20)}, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        started = [int(word) for word in parent.stdout.readline().split()]
        assert started
        assert all(map(is_alive, started))
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(is_alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, started))


def test_a_ledger_from_panels_at_hand_reads_no_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = summarise(store).panels
    whole = forgetting_ledger(store)

    def stored_rows(*_args: object) -> None:
        raise AssertionError("rows were read a second time")

    monkeypatch.setattr(Store, "stored_rows", stored_rows)
    assert forgetting_ledger(store, panels) == whole

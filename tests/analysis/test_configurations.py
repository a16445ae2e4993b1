"""Which runs are seeds of one configuration, as docs/results_format.md says."""

from __future__ import annotations

from typing import Any

from maple.analysis.configurations import configuration_label, find_configurations, run_labels
from maple.store.read import Cell, StoredRun


def run(name: str, seed: int, *, mixture: str, parts: list[Any] | None, rank: int = 8) -> StoredRun:
    cell = Cell(
        label=name, model="m", method="lora", parameters={"rank": rank}, quantization="nf4",
        bits=4, mixture=mixture, seed=seed,
    )  # fmt: skip
    spec = None if parts is None else {"mixture": {"name": mixture, "parts": parts}}
    return StoredRun(run_id=name, cell=cell, status="done", spec=spec)


def groups(runs: list[StoredRun]) -> list[list[str]]:
    return sorted([r.run_id for r in c.runs] for c in find_configurations(runs))


def test_runs_that_differ_by_their_seed_alone_are_one_configuration() -> None:
    runs = [
        run(f"{rank}-{s}", s, mixture="x", parts=[1], rank=rank) for rank in (8, 64) for s in (1, 0)
    ]
    assert groups(runs) == [["64-0", "64-1"], ["8-0", "8-1"]]
    labels = run_labels(runs)
    assert configuration_label(runs[0], labels) == "lora rank=8"


def test_mixtures_are_told_apart_by_name_where_a_store_has_no_parts() -> None:
    # A store of another program: both mixtures have the same parts, or none at all.
    for parts in ([], [{"dataset": "d"}], None):
        runs = [run(name, 0, mixture=name, parts=parts) for name in ("native", "translated")]
        assert groups(runs) == [["native"], ["translated"]]


def test_mixtures_of_one_name_are_told_apart_by_their_parts() -> None:
    runs = [run("a", 0, mixture="x", parts=[1]), run("b", 1, mixture="x", parts=[2])]
    assert groups(runs) == [["a"], ["b"]]

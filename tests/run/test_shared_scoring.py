"""Adapters scored in shared passes: the rows they have in turn, whatever their neighbours do."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.run.tiny import stored_rows

from maple.base import LoadedBase
from maple.evaluate.ranking import FusedRanking
from maple.files import Files
from maple.plan import Evaluation
from maple.run import Progress, evaluate_models
from maple.run.evaluate import EvaluationRequest
from maple.run.local import StudyOutcome


@pytest.fixture(scope="module")
def adapters(
    fresh_base: Callable[..., LoadedBase], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Three low-rank adapters as peft writes them, then one that changes nothing."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters")
    made = []
    for number, rank in enumerate((2, 4, 8, 2)):
        torch.manual_seed(number)
        base = fresh_base()
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False
        )
        model = get_peft_model(base.model, config)
        if number == 3:
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data.zero_()
        made.append(folder / str(number))
        model.save_pretrained(str(made[-1]))
    return made


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many models took part in each pass."""
    seen: list[int] = []
    call = FusedRanking.__call__

    def counted(self: FusedRanking, requests: Any) -> Any:
        seen.append(self.models)
        return call(self, requests)

    monkeypatch.setattr(FusedRanking, "__call__", counted)
    return seen


def score(
    model: Path, data: Path, chosen: list[Path], out: Path, shared: bool | None
) -> StudyOutcome:
    request = EvaluationRequest(
        model=str(model),
        adapters=tuple(chosen),
        quantization="fp32",
        evaluations=tuple(
            Evaluation(task=t, language="swh_Latn", english_only=False) for t in ("xnli", "xcopa")
        ),
        batch_size=4,
        share_passes=shared,
    )
    progress = Progress(Console(file=io.StringIO()))
    return evaluate_models(request, Files(directory=data), out, progress=progress)


def rows(out: Path) -> list[dict[str, Any]]:
    return sorted(stored_rows(out), key=lambda r: (r["eval_id"], r["sample_id"]))


def test_shared_passes_store_what_passes_in_turn_store(
    model: Path, data: Path, adapters: list[Path], tmp_path: Path, passes: list[int]
) -> None:
    chosen = adapters[:3]
    score(model, data, chosen, tmp_path / "turn", False)
    assert set(passes) == {1}
    passes.clear()
    score(model, data, chosen, tmp_path / "shared", True)
    # Nothing is left to score in turn. xcopa's and xnli's ten samples are three batches each.
    assert set(passes) == {3}
    passes.clear()
    score(model, data, chosen[::-1], tmp_path / "reversed", True)
    in_turn = rows(tmp_path / "turn")
    assert len(in_turn) == 3 * 2 * 10
    assert rows(tmp_path / "shared") == in_turn
    assert rows(tmp_path / "reversed") == in_turn
    passes.clear()
    score(model, data, chosen, tmp_path / "shared", True)
    assert passes == []


def test_one_adapter_that_fails_takes_no_other_with_it(
    model: Path, data: Path, adapters: list[Path], tmp_path: Path, passes: list[int]
) -> None:
    outcome = score(model, data, [adapters[0], adapters[3], adapters[1]], tmp_path / "all", True)
    assert len(outcome.failures) == 1
    assert "does not change the base" in outcome.failures[0][1]
    assert set(passes) == {2}
    score(model, data, adapters[:2], tmp_path / "two", False)
    assert rows(tmp_path / "all") == rows(tmp_path / "two")


def test_a_kill_between_two_batches_costs_no_stored_row(
    model: Path,
    data: Path,
    adapters: list[Path],
    tmp_path: Path,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score(model, data, adapters[:3], tmp_path / "whole", True)
    n_passes = len(passes)
    monkeypatch.setattr("maple.run.shared_scoring.PART_SECONDS", 0.0)
    call = FusedRanking.__call__

    def killed(self: FusedRanking, requests: Any) -> Any:
        if len(passes) == n_passes + 3:
            raise KeyboardInterrupt
        return call(self, requests)

    with monkeypatch.context() as patched:
        patched.setattr(FusedRanking, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            score(model, data, adapters[:3], tmp_path / "killed", True)
    kept = rows(tmp_path / "killed")
    assert 0 < len(kept) < 3 * 2 * 10
    passes.clear()
    score(model, data, adapters[:3], tmp_path / "killed", True)
    assert len(passes) < n_passes
    found = rows(tmp_path / "killed")
    assert found == rows(tmp_path / "whole")
    assert [row for row in found if row in kept] == kept


def test_what_was_scored_alone_is_not_scored_again(
    model: Path, data: Path, adapters: list[Path], tmp_path: Path, passes: list[int]
) -> None:
    score(model, data, adapters[:1], tmp_path / "out", None)
    passes.clear()
    score(model, data, adapters[:3], tmp_path / "out", True)
    assert set(passes) == {2}
    score(model, data, adapters[:3], tmp_path / "whole", False)
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


def test_small_tasks_share_unasked_and_larger_ones_do_not(
    model: Path,
    data: Path,
    adapters: list[Path],
    tmp_path: Path,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("maple.run.shared_scoring.SMALL_TOKENS", 10**6)
    monkeypatch.setattr("maple.evaluate.prepare.PreparedTask.batches", ((*range(10),),))
    score(model, data, adapters[:2], tmp_path / "small", None)
    assert set(passes) == {2}
    passes.clear()
    monkeypatch.setattr("maple.run.shared_scoring.SMALL_TOKENS", 10)
    score(model, data, adapters[:2], tmp_path / "large", None)
    assert set(passes) == {1}

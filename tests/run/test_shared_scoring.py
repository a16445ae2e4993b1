"""Adapters scored in shared passes: the rows they have in turn, whatever their neighbours do."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.run.tiny import stored_rows, study

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.evaluate.ranking import FusedRanking
from maple.files import Files, Hub, Lock
from maple.plan import Evaluation
from maple.run import Progress, evaluate_models, run_study
from maple.run.adapters import detach, load_alive
from maple.run.context import CohortContext
from maple.run.evaluate import EvaluationRequest
from maple.run.local import StudyOutcome
from maple.run.shared_scoring import low_rank_alone
from maple.store.read import open_store
from maple.study.file import StudySpec


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
    model: Path,
    data: Path,
    chosen: list[Path],
    out: Path,
    shared: bool | None,
    *,
    quantization: str = "fp32",
) -> StudyOutcome:
    request = EvaluationRequest(
        model=str(model),
        adapters=tuple(chosen),
        quantization=quantization,
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


@pytest.mark.parametrize(("quantization", "together"), [("nf4", 2), ("int8", 1)])
def test_only_rows_that_do_not_depend_on_their_neighbours_share_a_pass(
    model: Path,
    data: Path,
    adapters: list[Path],
    tmp_path: Path,
    passes: list[int],
    quantization: str,
    together: int,
) -> None:
    # LLM.int8 chooses its 16-bit columns over all rows of a pass.
    out = tmp_path / "out"
    outcome = score(model, data, adapters[:2], out, True, quantization=quantization)
    assert not outcome.failures
    assert set(passes) == {together}
    assert len(rows(out)) == 2 * 2 * 10


@pytest.mark.parametrize(("bias", "is_alone"), [("none", True), ("lora_only", False)])
def test_an_adapter_with_biases_is_more_than_low_rank(
    fresh_base: Callable[..., LoadedBase], bias: str, is_alone: bool
) -> None:
    from peft import LoraConfig, get_peft_model

    base = fresh_base("qwen2")
    config = LoraConfig(r=2, target_modules=["q_proj"], bias=bias, init_lora_weights=False)
    found = low_rank_alone(get_peft_model(base.model, config), base.dtype)
    assert (found is not None) == is_alone


def test_biases_that_an_adapter_wrote_into_the_base_are_taken_back(
    fresh_base: Callable[..., LoadedBase], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], bias="lora_only", init_lora_weights=False)
    foreign = get_peft_model(fresh_base("qwen2").model, config)
    for name, parameter in foreign.named_parameters():
        if name.endswith(".bias"):
            parameter.data.fill_(3.0)
    foreign.save_pretrained(tmp_path)
    base = fresh_base("qwen2")
    before = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    context = CohortContext(base=base, files=None, store=None, progress=None)  # type: ignore[arg-type]
    model = load_alive(load_method("lora"), tmp_path, "foreign", context)
    assert any(bool((p == 3.0).all()) for n, p in model.named_parameters() if n.endswith(".bias"))
    detach(model, base)
    after = dict(base.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], values) for name, values in before.items())


# ----------------------------------------------------------------------------- whole studies


def question(model: Path, *tasks: str) -> StudySpec:
    """Three ranks and the untouched base, in 16 and 4 bits: each task is one small pass."""
    methods = ["none", {"lora": {"rank": [2, 4, 8], "dropout": 0.1}}]
    content = study(model, methods=methods, quantization=["bf16", "nf4"])
    content["training"] |= {"max_steps": 2}
    content["evaluate"] = {"tasks": list(tasks), "languages": ["sw"], "limit": 3}
    return StudySpec.model_validate(content)


def run(asked: StudySpec, data: Path, out: Path, *, workers: int) -> tuple[StudyOutcome, str]:
    """How it ended, and what was shown."""
    said = io.StringIO()
    files = Files(directory=data, hub=Hub(Lock(out.parent / "maple.lock")))
    progress = Progress(Console(file=said, width=200))
    return run_study(asked, files, out, workers=workers, progress=progress), said.getvalue()


@pytest.fixture(scope="module")
def trained(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the study, trained and not scored."""
    out = tmp_path_factory.mktemp("trained") / "out"
    outcome, _ = run(question(model), data, out, workers=1)
    assert not outcome.failures
    return out


@pytest.fixture(scope="module")
def in_turn(
    model: Path, data: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The rows of two workers, which do one run after another each."""
    out = tmp_path_factory.mktemp("workers") / "out"
    shutil.copytree(trained, out)
    outcome, said = run(question(model, "xnli", "xcopa"), data, out, workers=2)
    assert not outcome.failures
    assert "2 workers" in said
    assert "shared passes" not in said
    return rows(out)


def test_a_study_in_one_process_stores_what_workers_store(
    model: Path,
    data: Path,
    trained: Path,
    in_turn: list[dict[str, Any]],
    tmp_path: Path,
    passes: list[int],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    outcome, said = run(question(model, "xnli", "xcopa"), data, out, workers=1)
    assert not outcome.failures
    # Three adapters and the base in every pass; none is left to any of them alone.
    assert set(passes) == {4}
    assert said.count("4 models in shared passes") == 2 * 2
    assert rows(out) == in_turn
    assert len(in_turn) == 2 * 4 * 2 * 3
    # The control: another adapter gives other rows.
    answers = {r["run_id"]: tuple(r["loglikelihoods"]) for r in in_turn if r["task"] == "xcopa"}
    assert len(set(answers.values())) == len(answers) == 2 * 4


def test_an_adapter_that_does_not_load_fails_in_its_turn_alone(
    model: Path,
    data: Path,
    trained: Path,
    in_turn: list[dict[str, Any]],
    tmp_path: Path,
    passes: list[int],
) -> None:
    out, asked = tmp_path / "out", question(model, "xnli", "xcopa")
    shutil.copytree(trained, out)
    weights = min(out.glob("runs/*/adapter/*.safetensors"))
    broken, whole = weights.parents[1].name, weights.read_bytes()
    weights.write_bytes(b"no adapter")
    outcome, said = run(asked, data, out, workers=1)
    assert len(outcome.failures) == 1
    assert broken in outcome.failures[0][0]
    assert "does not load on this base" in outcome.failures[0][1]
    assert set(passes) == {3, 4}
    assert said.index("3 models in shared passes") < said.index("FAILED")
    status = {r.run_id: r.status for r in open_store(out).runs()}
    assert status.pop(broken) == "failed"
    assert list(status.values()) == ["done"] * 7
    assert rows(out) == [r for r in in_turn if r["run_id"] != broken]
    weights.write_bytes(whole)
    passes.clear()
    assert not run(asked, data, out, workers=1)[0].failures
    assert set(passes) == {1}
    assert rows(out) == in_turn

"""``maple train``: a study's own run without a study, that plain ``peft`` loads."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from tests.int4_checkpoints import store_in_codes
from tests.run.program import Outcome, Program
from tests.run.tiny import INSTRUCTIONS, study, write_lines, write_study

from maple.atlas import base_model_path
from maple.base import load_base
from maple.catalog import load_method
from maple.errors import UsageError
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.files import Files
from maple.run import Progress, run_study
from maple.run.export import find_adapter, largest_value, plain_logits
from maple.run.loading import loading_lines
from maple.run.merge import export_merged
from maple.run.train_one import TrainedAdapter, train_one
from maple.run.train_request import TrainRequest
from maple.store.read import open_store
from maple.store.write import sha256_of_directory
from maple.study.file import load_study

SHORT = ["--batch-size", 4, "--max-length", 128, "--learning-rate", "1e-2"]


def call(model: Path | str, out: Path, *extra: Any, dataset: Any = INSTRUCTIONS) -> list[Any]:
    """The command on the tiny instructions of ``data``."""
    named = ["--model", model, "--dataset", dataset, "--out", out]
    return ["train", *named, *SHORT, *extra]


def lora(*extra: Any) -> list[Any]:
    return ["--method", "lora", "--rank", 2, "--quantization", "fp32", "--max-steps", 4, *extra]


def train_here(model: Path, data: Path, out: Path, **changes: Any) -> tuple[TrainedAdapter, str]:
    """The same run in this process, and what it said: the machine's peak is measured once."""
    said = io.StringIO()
    settings = {"batch_size": 4, "max_length": 128, "learning_rate": 1e-2, "max_steps": 4}
    settings |= changes.pop("training", {})
    named: dict[str, Any] = {"method": "lora", "quantization": "fp32", "parameters": {"rank": 2}}
    named |= {"model": str(model), "dataset": str(data / INSTRUCTIONS), "training": settings}
    progress = Progress(Console(file=said, width=300))
    done = train_one(TrainRequest(**named | changes), Files(), out, progress=progress)
    return done, said.getvalue()


def loaded_by(lines: list[str]) -> Any:
    """The model that lines of Python make."""
    made: dict[str, Any] = {}
    exec("\n".join(line.strip() for line in lines), made)
    return made["model"]


def printed_lines(outcome: Outcome) -> list[str]:
    return outcome.out.partition("load it:\n")[2].splitlines()


def maple_logits(directory: Path, source: Path, quantization: str) -> tuple[Any, Any, float]:
    """The tokenizer, the adapted logits as Maple computes them, and how far the base's are."""
    base = load_base(str(source), quantization=quantization, device=torch.device("cpu"))
    untouched = probe_logits(base.model, base)
    card = json.loads((directory / "maple.json").read_text())
    method = load_method(card["method"]["name"], card["method"]["parameters"])
    adapted = probe_logits(method.load(base.model, directory), base)
    return base.tokenizer, adapted, largest_difference(adapted, untouched)


def spec_of(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "spec.json").read_text())
    return content


@pytest.fixture(scope="module")
def trained(program: Program, model: Path, data: Path, tmp_path_factory: Any) -> Path:
    """A finished directory: LoRA of rank 2 at fp32, four steps."""
    out = Path(tmp_path_factory.mktemp("trained")) / "adapter"
    outcome = program(*call(model, out, *lora("--warmup-steps", 1)), cwd=data)
    assert outcome.code == 0, outcome.err
    return out


def test_an_nf4_adapter_of_atlas_loads_with_plain_peft(
    program: Program, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    extra = ["--method", "lora", "--rank", 16, "--quantization", "nf4", "--max-steps", 2]
    outcome = program(*call("atlas-base", out, *extra), cwd=data)
    assert outcome.code == 0, outcome.err
    assert f"adapter: {out}" in outcome.out
    files = {path.name for path in out.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "maple.json"} <= files
    assert {"curve.parquet", "train.json", "environment.json", "spec.json"} <= files
    assert ".maple" not in files
    tokenizer, ours, moved = maple_logits(out, base_model_path(), "nf4")
    theirs = plain_logits(loaded_by(printed_lines(outcome)), tokenizer)
    # Not bit by bit: Maple multiplies the adapter's factors in bfloat16 (autocast), a plain call in
    # float32; and plain transformers lets bitsandbytes repack the codes for another product.
    # bfloat16 holds 8 bits: 2^-8 of a logit of 10 is 0.04, and four blocks carry it on.
    tolerance = 0.02 * largest_value(ours)
    assert largest_difference(ours, theirs) < tolerance
    assert moved > 5 * tolerance


def test_in_float32_plain_peft_gives_the_same_logits(
    program: Program, model: Path, data: Path, trained: Path
) -> None:
    again = program(*call(model, trained, *lora("--warmup-steps", 1)), cwd=data)
    assert "trained already" in again.out
    tokenizer, ours, moved = maple_logits(trained, model, "fp32")
    theirs = plain_logits(loaded_by(printed_lines(again)), tokenizer)
    # Float32 sums in another order: of logits alone, or of all positions.
    assert largest_difference(ours, theirs) < 1e-5 * largest_value(ours)
    assert moved > 0.1


def test_an_adapter_of_a_gptq_checkpoint_loads_by_the_lines_and_is_not_merged(
    model: Path, data: Path, tmp_path: Path
) -> None:
    codes, out = tmp_path / "codes", tmp_path / "adapter"
    store_in_codes(model, codes, "gptq")
    done, _ = train_here(codes, data, out, quantization="gptq")
    assert done.failure is None
    lines = loading_lines(out, base=str(codes), quantization="gptq")
    tokenizer, ours, moved = maple_logits(out, codes, "gptq")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = plain_logits(loaded_by(lines), tokenizer)
    assert largest_difference(ours, theirs) < 0.01 * largest_value(ours)
    assert moved > 0.1
    adapter = find_adapter(out, Files(), run=None, model=None)
    with pytest.raises(UsageError, match="stored in few bits"):
        export_merged(adapter, Files(), tmp_path / "whole", onto_16bit=True, progress=silent())
    assert not (tmp_path / "whole").exists()


def silent() -> Progress:
    return Progress(Console(file=io.StringIO()))


@pytest.mark.parametrize(("method", "said"), [("houlsby", "load_bottleneck"), ("full", "AutoM")])
def test_what_peft_does_not_have_loads_by_the_lines_too(
    model: Path, data: Path, tmp_path: Path, method: str, said: str
) -> None:
    out = tmp_path / method
    done, _ = train_here(model, data, out, method=method, parameters={})
    lines = loading_lines(out, base=done.base, quantization="fp32")
    assert said in lines[-1]
    tokenizer, ours, moved = maple_logits(out, model, "fp32")
    theirs = plain_logits(loaded_by(lines), tokenizer)
    assert largest_difference(ours, theirs) < 1e-5 * largest_value(ours)
    assert moved > 0.01


def test_it_is_the_run_of_a_study_with_the_same_id_and_bytes(
    model: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    content = study(model, methods=[{"lora": {"rank": 2}}], quantization=["fp32"])
    content["evaluate"] = {"tasks": []}
    path = write_study(tmp_path / "study.yaml", content)
    progress = Progress(Console(file=io.StringIO()))
    outcome = run_study(
        load_study(path), Files(directory=data), tmp_path / "store", workers=1, progress=progress
    )
    assert outcome.failures == ()
    (run,) = open_store(tmp_path / "store").runs()
    assert run.run_id == spec_of(trained)["id"]
    adapter = tmp_path / "store" / "runs" / run.run_id / "adapter"
    weights = "adapter_model.safetensors"
    assert (adapter / weights).read_bytes() == (trained / weights).read_bytes()
    # What is kept beside the adapter is no part of it: both are scored as one.
    assert sha256_of_directory(trained) == sha256_of_directory(adapter)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    program: Program, model: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    arguments = call(model, out, *lora("--warmup-steps", 1))
    job = program.start(*arguments, cwd=data)
    job.kill_when(lambda: bool(list(out.glob(".maple/runs/*/checkpoint/state.safetensors"))))
    assert not (out / "maple.json").exists()
    other = program(*call(model, out, *lora("--seed", 7)), cwd=data)
    assert other.code == 1
    assert "unfinished run of another kind" in other.complaint
    assert program(*arguments, cwd=data).code == 0
    name = "adapter_model.safetensors"
    assert (out / name).read_bytes() == (trained / name).read_bytes()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in trained.iterdir())


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_directory_free(
    model: Path, data: Path, tmp_path: Path
) -> None:
    failed, _ = train_here(model, data, tmp_path / "x", method="pissa", parameters={"rank": 500})
    assert failed.failure is not None
    assert "Set rank to that at most" in failed.failure[1]
    done, _ = train_here(model, data, tmp_path / "x", method="pissa", parameters={"rank": 2})
    assert done.failure is None
    assert not (tmp_path / "x" / ".maple").exists()


def test_a_finished_directory_is_left_alone(
    program: Program, model: Path, data: Path, trained: Path
) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in trained.iterdir()}
    other = program(*call(model, trained, *lora("--alpha", 8)), cwd=data)
    assert other.code == 1
    assert "method.parameters.alpha 16.0, not 8.0" in other.complaint
    assert program(*call(model, trained, *lora("--warmup-steps", 1)), cwd=data).code == 0
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in trained.iterdir()} == before


def test_a_directory_of_something_else_is_not_written_into(
    program: Program, model: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    adapter = Path(shutil.copytree(trained, tmp_path / "plain"))
    (adapter / "spec.json").unlink()
    (tmp_path / "file").write_text("x")
    for out, word in (
        (tmp_path, "notes.txt"),
        (adapter, "adapter_config.json"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "a file stands where a directory is needed"),
    ):
        outcome = program(*call(model, out, *lora()), cwd=data)
        assert outcome.code == 1
        assert word in outcome.complaint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "notes.txt", "plain"]


def test_warm_up_is_a_tenth_of_the_steps_unless_it_is_stated(
    model: Path, data: Path, tmp_path: Path
) -> None:
    whole = {"epochs": 1, "max_steps": None}
    _, said = train_here(model, data, tmp_path / "a", training=whole)
    assert "steps: 12, of 48 examples by 4; warm-up takes 1 of them (a tenth" in said
    assert spec_of(tmp_path / "a")["training"]["warmup_steps"] == 1
    # Of the default of a study all twelve would have been warm-up.
    rates = pq.read_table(tmp_path / "a" / "curve.parquet")["learning_rate"].to_pylist()
    assert len(rates) == 12
    assert max(rates) == 1e-2
    never = {"max_steps": 1, "warmup_steps": 4}
    done, said = train_here(model, data, tmp_path / "b", training=never)
    assert "the learning rate never reaches its value" in said
    # A rate of zero trains nothing, and that is a failure and no adapter.
    assert done.failure is not None
    assert "does not change the base" in done.failure[1]
    assert not (tmp_path / "b" / "maple.json").exists()


def test_the_languages_are_those_of_the_rows(
    program: Program, model: Path, data: Path, trained: Path, tmp_path: Path
) -> None:
    assert spec_of(trained)["mixture"]["parts"][0]["languages"] == ["swh_Latn", "tur_Latn"]
    silent = tmp_path / "silent.jsonl"
    write_lines(silent, [{"instruction": f"Taja {n}", "output": str(n)} for n in range(4)])
    for stated, code in (((), "und"), (("sw",), "swh_Latn")):
        out = tmp_path / code
        _, said = train_here(model, data, out, dataset=str(silent), languages=stated)
        assert f"languages: {code} (" in said
        assert spec_of(out)["mixture"]["parts"][0]["languages"] == [code]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(silent.read_text() + '{"instruction": "a", "output": "b", "lang": "tr"}\n')
    for option in ([], ["--languages", "sw,tr"]):
        arguments = call(model, tmp_path / "x", *lora(*option), dataset=mixed)
        outcome = program(*arguments, cwd=data)
        assert outcome.code == 2
        assert "4 of 5 rows name no language" in outcome.complaint
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "lorra"], 2, ["no method 'lorra'", "'lora'"]),
        (["--method", "none"], 2, ["nothing to train"]),
        (["--method", "lora", "--rank", "0"], 2, ["lora: rank = 0"]),
        (["--method", "adalora", "--rank", 16], 2, ["adalora: initial_rank must exceed rank"]),
        (["--method", "lora", "--set", "rnak=8"], 2, ["no parameter 'rnak'", "'rank'"]),
        (["--method", "lora", "--set", "rank"], 2, ["KEY=VALUE"]),
        (["--method", "lora", "--rank", 2, "--set", "rank=4"], 2, ["stated twice"]),
        (["--method", "bitfit", "--rank", 2], 2, ["bitfit: no parameter 'rank'"]),
        (["--method", "lora", "--set", "training.epoch=2"], 2, ["'epoch'", "'epochs'"]),
        (["--method", "lora", "--scheduler", "cosin"], 2, ["training.scheduler = 'cosin'"]),
        (["--method", "lora", "--quantization", "nf5"], 2, ["'nf5'", "'nf4'"]),
        (["--method", "hra", "--quantization", "nf4"], 2, ["hra cannot be trained on nf4"]),
        (["--method", "lora", "--dataset", "multialpacca"], 2, ["'multialpacca'", "'multialpaca'"]),
        (["--method", "lora", "--model", "./gone"], 1, ["the base ./gone is not there"]),
        (["--method", "lora", "--dataset", "gone.jsonl"], 1, ["no file 'gone.jsonl'"]),
        (["--method", "lora", "--languages", "swahilli"], 2, ["'swahilli'", "Did you mean"]),
        (["--method", "lora", "--languages", "de"], 1, ["is empty"]),
        (["--method", "lora", "--set", "training.max_length=2"], 1, ["Raise training.max_length"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_what_cannot_be_is_named(
    program: Program,
    model: Path,
    data: Path,
    tmp_path: Path,
    arguments: list[Any],
    code: int,
    words: list[str],
) -> None:
    named = ["--model", model, "--dataset", INSTRUCTIONS, "--out", tmp_path / "out"]
    outcome = program("train", *named, *arguments, cwd=data)
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.complaint
    assert not (tmp_path / "out" / "maple.json").exists()


def test_any_parameter_is_read_as_the_type_of_its_field() -> None:
    from maple.cli.train import _stated

    stated = ["rslora=true", "targets=q_proj,v_proj", "training.examples=7", "dropout=1e-1"]
    groups = _stated("lora", "multialpaca", stated, {"method": {}, "training": {}, "dataset": {}})
    assert groups["method"] == {
        "rslora": True,
        "targets": ("q_proj", "v_proj"),
        "dropout": pytest.approx(0.1),
    }
    assert groups["training"] == {"examples": 7}
    tokens = _stated("trainable-tokens", "x", ["tokens=3,4"], {"method": {}, "dataset": {}})
    assert tokens["method"] == {"tokens": (3, 4)}

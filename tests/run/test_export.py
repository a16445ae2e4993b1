"""``maple export``: adapters for plain ``peft``, or merged into weights, the effect measured."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from tests.contract.method_lives import variants
from tests.run.program import Program
from tests.run.tiny import INSTRUCTIONS, study, write_study
from tests.tiny_models import make_pools, settings
from torch.nn import functional

from maple.base import LoadedBase
from maple.catalog import entry_names, load_method
from maple.catalog.contracts import AttachContext
from maple.data import StepSchedule
from maple.errors import UsageError
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.files import Files
from maple.run import Progress
from maple.run.adapters import detach
from maple.run.export import Adapter, largest_value, plain_logits
from maple.run.merge import EXACT, measure_effect, merge_weights
from maple.run.train_one import train_one
from maple.run.train_request import TrainRequest
from maple.study import ModelRef
from maple.train import calibration_rows

NOT_MERGED = {
    "bitfit": "Base layer has no bias, cannot merge bias adapter",
    "houlsby": "a non-linear step inside",
    "parallel-adapter": "a non-linear step inside",
    "pfeiffer": "a non-linear step inside",
    "p-tuning": "vectors that stand before the text",
    "prefix-tuning": "vectors that stand before the text",
    "prompt-tuning": "vectors that stand before the text",
}
"""Method -> a part of the reason why no weight of a Llama can hold it."""


@pytest.fixture(scope="module")
def trained(model: Path, data: Path, tmp_path_factory: Any) -> Path:
    """Adapters as ``maple train`` makes them, named by method or, of LoRA, by bits."""
    folder = Path(tmp_path_factory.mktemp("trained"))
    for name, method, bits in (
        ("fp32", "lora", "fp32"),
        ("bf16", "lora", "bf16"),
        ("nf4", "lora", "nf4"),
        ("houlsby", "houlsby", "fp32"),
        ("full", "full", "bf16"),
    ):
        request = TrainRequest(
            model=str(model),
            method=method,
            dataset=str(data / INSTRUCTIONS),
            quantization=bits,
            training={"batch_size": 4, "max_steps": 4, "learning_rate": 1e-2},
        )
        progress = Progress(Console(file=io.StringIO()))
        done = train_one(request, Files(), folder / name, progress=progress)
        assert done.failure is None
    return folder


def logits_of(directory: Path, dtype: torch.dtype) -> list[torch.Tensor]:
    """By one call of transformers each for model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=dtype)
    return plain_logits(model, AutoTokenizer.from_pretrained(str(directory)))


def card_of(directory: Path) -> dict[str, Any]:
    """The machine-readable head of a merged model's README."""
    head = (directory / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    content: dict[str, Any] = yaml.safe_load(head)
    return content


def moved_at_random(base: LoadedBase, name: str) -> Any:
    """A method's adapter with every trained number moved, as training would."""
    method = load_method(name, variants(name)[0])
    schedule = StepSchedule(
        make_pools(("eng_Latn",)), settings(), seed=0, tokenizer=base.tokenizer, family=base.family
    )
    context = AttachContext(
        family=base.family,
        quantizer=base.quantizer,
        seed=0,
        calibration=lambda: calibration_rows(schedule, base),
    )
    torch.manual_seed(0)
    model: Any = method.attach(base.model, context)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return method, model


@pytest.mark.parametrize("name", [name for name in entry_names("methods") if name != "none"])
def test_a_method_merges_into_one_function_or_is_refused_with_the_reason(
    shared_base: Callable[..., LoadedBase], model: Path, tmp_path: Path, name: str
) -> None:
    from transformers import AutoModelForCausalLM

    trained_on = shared_base("llama", "bf16" if name == "loftq" else "fp32")
    method, attached = moved_at_random(trained_on, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method.save(attached, tmp_path)
        detach(attached, trained_on)
        base = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)
        card = {"method": {"name": name}}
        adapter = Adapter(
            directory=tmp_path,
            card=card,
            method=method,
            model=ModelRef(name=str(model)),
            quantization="fp32",
        )
        if reason := NOT_MERGED.get(name):
            with pytest.raises(UsageError, match=reason):
                merge_weights(adapter, base, trained_on.tokenizer)
            return
        untouched = plain_logits(base, trained_on.tokenizer)
        merged, stated = merge_weights(adapter, base, trained_on.tokenizer)
        # The oracle is not the object that was merged: the adapter once more, on another base.
        fresh = shared_base("llama", "fp32")
        unmerged = method.load(fresh.model, tmp_path)
        expected = probe_logits(unmerged, fresh)
        detach(unmerged, fresh)
    found = plain_logits(merged, trained_on.tokenizer)
    # Float32: a sum of products in one matrix and in two.
    assert largest_difference(found, expected) < EXACT * largest_value(expected)
    assert stated < EXACT * largest_value(expected)
    assert largest_difference(found, untouched) > 10 * EXACT * largest_value(expected)
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert not [n for n, _ in merged.named_parameters() if "lora" in n or "base_layer" in n]


def test_merged_weights_are_the_sum_rounded_once(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    outcome = program("export", trained / "bf16", "--to", "merged", "--out", out, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    base = load_file(str(model / "model.safetensors"))
    factors = load_file(str(trained / "bf16" / "adapter_model.safetensors"))
    merged = load_file(str(out / "model.safetensors"))
    config = json.loads((trained / "bf16" / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    changed = 0
    for name, weight in base.items():
        exact = weight.to(torch.bfloat16).float()
        key = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in factors:
            low, high = factors[f"{key}.lora_A.weight"], factors[f"{key}.lora_B.weight"]
            exact = exact + scale * (high @ low)
            changed += 1
        assert merged[name].dtype == torch.bfloat16
        # Products of one float32 sum in another order may fall on the other side of a rounding.
        step = exact.abs().max() * 2**-8
        assert (merged[name].float() - exact).abs().max() <= step, name
        assert (merged[name] == exact.to(torch.bfloat16)).float().mean() > 0.999, name
    assert changed == 8


def test_the_effect_of_merging_is_measured_and_written_down(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    out = tmp_path / "merged"
    call = ["export", trained / "nf4", "--to", "merged", "--out", out, "--onto-16bit"]
    outcome = program(*call, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    card = card_of(out)["maple"]
    effect = card["effect"]
    assert card["trained_on"] == "nf4"
    assert card["merged_as"] == "bf16"
    assert f"at most and {effect['mean_difference']:.3g} in the mean" in outcome.out
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    source = json.loads((trained / "nf4" / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(
        source["base_model_name_or_path"], dtype=torch.bfloat16, quantization_config=bits
    )
    unmerged = PeftModel.from_pretrained(base, str(trained / "nf4"))
    adapted = torch.cat(plain_logits(unmerged, AutoTokenizer.from_pretrained(str(out))))
    merged = torch.cat(logits_of(out, torch.bfloat16))
    difference = (adapted - merged).abs()
    divergence = functional.kl_div(
        merged.log_softmax(-1), adapted.log_softmax(-1), reduction="batchmean", log_target=True
    )
    changed = (adapted.argmax(-1) != merged.argmax(-1)).float().mean()
    # The adapter's own product is rounded to bfloat16 by Maple and not by a plain call.
    assert effect["mean_difference"] == pytest.approx(float(difference.mean()), rel=0.1)
    assert effect["largest_difference"] == pytest.approx(float(difference.max()), rel=0.2)
    assert effect["mean_kl"] == pytest.approx(float(divergence), rel=0.2)
    assert effect["argmax_changed"] == pytest.approx(float(changed), abs=0.1)
    assert effect["tokens"] == len(adapted)
    # Four bits against sixteen: this is no rounding of the sum.
    assert effect["mean_difference"] > 0.01


def test_two_equal_models_have_no_effect_and_two_others_do() -> None:
    logits = [torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])]
    same = measure_effect(logits, logits, moved=1.0, exactness=0.0)
    assert (same.largest_difference, same.mean_kl, same.argmax_changed) == (0, 0, 0)
    other = [torch.tensor([[2.0, 0.0, -1.0], [1.5, 1.0, 0.0]])]
    found = measure_effect(logits, other, moved=1.0, exactness=0.0)
    assert found.largest_difference == 1.5
    assert found.mean_difference == pytest.approx(1.5 / 6)
    assert found.argmax_changed == 0.5


def test_an_adapter_of_four_bits_is_not_merged_in_silence(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    call = ["export", trained / "nf4", "--to", "merged", "--out", tmp_path / "merged"]
    outcome = program(*call, cwd=tmp_path)
    assert outcome.code == 1
    for word in ("was trained on nf4 weights", "--onto-16bit", "the figures say how far"):
        assert word in outcome.complaint
    assert list(tmp_path.iterdir()) == []


def test_merged_in_float32_it_is_the_adapter_to_rounding(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    call = ["export", trained / "fp32", "--to", "merged", "--dtype", "fp32", "--out", out]
    assert program(*call, cwd=tmp_path).code == 0
    effect = card_of(out)["maple"]["effect"]
    assert effect["largest_difference"] < 1e-4
    assert effect["argmax_changed"] == 0
    assert effect["adapter_moves"] > 0.1
    # A finished model: its card is read by no one as an adapter's.
    assert not (out / "maple.json").exists()
    assert not (out / "adapter_config.json").exists()


def test_a_whole_model_is_exported_with_its_tokenizer(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    assert program("export", trained / "full", "--to", "merged", "--out", out, cwd=".").code == 0
    exact = load_file(str(trained / "full" / "model.safetensors"))
    written = load_file(str(out / "model.safetensors"))
    assert exact.keys() == written.keys()
    assert all(torch.equal(written[name], exact[name].bfloat16()) for name in exact)
    assert len(logits_of(out, torch.bfloat16)) > 1


def test_a_peft_directory_is_unmodified_and_its_logits_are_compared(
    program: Program, trained: Path, tmp_path: Path
) -> None:
    for name, said in (("fp32", "to 0 on 6"), ("nf4", "not called within torch.autocast")):
        call = ["export", trained / name, "--to", "peft", "--out", tmp_path / name]
        outcome = program(*call, cwd=tmp_path)
        assert outcome.code == 0, outcome.err
        assert "plain peft gives Maple's logits to" in outcome.out
        assert said in outcome.out
        files = {path.name for path in (tmp_path / name).iterdir()}
        weights = {"adapter_config.json", "adapter_model.safetensors"}
        assert weights < files <= {*weights, "maple.json", "README.md"}
        for file in files:
            assert (tmp_path / name / file).read_bytes() == (trained / name / file).read_bytes()


def test_a_run_of_a_store_is_named_by_its_id(
    program: Program, model: Path, data: Path, tmp_path: Path
) -> None:
    content = study(model, methods=["none", {"lora": {"rank": [2, 4]}}], quantization=["fp32"])
    content["evaluate"] = {"tasks": []}
    write_study(tmp_path / "study.yaml", content)
    store = tmp_path / "store"
    assert program("run", tmp_path / "study.yaml", "--out", store, cwd=data).code == 0
    cells = json.loads((store / "study.json").read_text())["cells"]
    _, first, _ = (cell["run_id"] for cell in cells)
    for extra, word in (([], "2 trained runs"), (["--run", "zz"], "no finished run 'zz'")):
        call = ["export", store, "--to", "peft", "--out", tmp_path / "out", *extra]
        refused = program(*call, cwd=tmp_path)
        assert refused.code == 2
        assert word in refused.complaint
        assert first in refused.complaint
    weights = "adapter_model.safetensors"
    expected = (store / "runs" / first / "adapter" / weights).read_bytes()
    for n, source in enumerate(([store, "--run", first[:6]], [store / "runs" / first])):
        out = tmp_path / str(n)
        outcome = program("export", *source, "--to", "peft", "--out", out, cwd=tmp_path)
        assert outcome.code == 0, outcome.err
        assert (out / weights).read_bytes() == expected


def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    program: Program, other_model: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("x")
    broken = Path(shutil.copytree(trained / "fp32", tmp_path / "broken"))
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    moved = Path(shutil.copytree(trained / "fp32", tmp_path / "moved"))
    card = json.loads((moved / "maple.json").read_text()) | {"base": "/nowhere/base"}
    (moved / "maple.json").write_text(json.dumps(card))
    before = sorted(tmp_path.rglob("*"))
    new = ["--out", tmp_path / "new"]
    for arguments, code, words in (
        ([trained / "fp32", "--to", "peft", "--out", tmp_path / "taken"], 1, ["there already"]),
        ([trained / "fp32", "--to", "merged", "--out", tmp_path / "taken"], 1, ["overwritten"]),
        ([trained / "fp32", "--to", "merged"], 2, ["name it with --out"]),
        ([trained / "fp32", "--to", "merged", *new, "--run", "x"], 2, ["is none"]),
        ([trained / "fp32", "--to", "merged", *new, "--model", other_model], 1, ["trained on"]),
        ([trained / "houlsby", "--to", "merged", *new], 2, ["houlsby cannot be merged"]),
        ([trained / "houlsby", "--to", "peft", *new], 2, ["peft has no houlsby"]),
        ([trained / "full", "--to", "peft", *new], 2, ["a whole model"]),
        ([tmp_path / "taken", "--to", "peft", *new], 1, ["is no adapter"]),
        ([tmp_path / "gone", "--to", "peft", *new], 1, ["is no directory"]),
        ([broken, "--to", "peft", *new], 1, ["does not load", str(broken)]),
        ([broken, "--to", "merged", *new], 1, ["does not load", str(broken)]),
        ([moved, "--to", "merged", *new], 1, ["/nowhere/base is not there", "--model"]),
        ([trained / "fp32", "--to", "gguf", *new], 2, ["gguf"]),
        (
            [trained / "fp32", "--to", "peft", "--out", tmp_path / "taken/mine.txt/x"],
            1,
            ["cannot be written"],
        ),
    ):
        outcome = program("export", *arguments, cwd=tmp_path)
        assert outcome.code == code, (arguments, outcome.err)
        for word in words:
            assert word in outcome.complaint, arguments
    assert sorted(tmp_path.rglob("*")) == before

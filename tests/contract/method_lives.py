"""One life of a method on a tiny base: attached, trained, saved, taken off, loaded; its facts."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from tests.tiny_models import make_pools, settings

from maple.base import LoadedBase, compute_context, label_logits, let_autocast_choose
from maple.catalog import entry_names, family_for, load_method, load_quantizer, missing_library
from maple.catalog.contracts import AttachContext, Method
from maple.catalog.prompt import PromptMethod
from maple.data import StepSchedule
from maple.evaluate.probe import largest_difference
from maple.run.adapters import detach
from maple.store.write import sha256_of_directory
from maple.study import TrainingSettings
from maple.train import TrainResult, calibration_rows, train_run

Bases = Callable[..., LoadedBase]

SMALL: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 16},
    "corda": {"rank": 8, "calibration_rows": 4},
    "eva": {"rank": 8, "calibration_rows": 4},
    "kasa": {"rank": 8},
    "last-k-layers": {"layers": 1},
    "loftq": {"rank": 8},
    "miss": {"rank": 16},
    "oft": {"block_size": 8},
    "olora": {"rank": 8},
    "p-tuning": {"tokens": 16},
    "pissa": {"rank": 8},
    "prefix-tuning": {"tokens": 4},
    "prompt-tuning": {"tokens": 16},
    "randlora": {"rank": 8, "alpha": 160},
    "road": {"group_size": 16, "variant": "road_2"},
    "shira": {"rank": 4},
    "trainable-tokens": {"tokens": tuple(range(600))},
    "vblora": {"targets": "all-linear", "rank": 8, "vector_length": 16, "vectors": 32},
    "vera": {"rank": 16},
}
"""Parameters that suit layers 32 to 128 wide, where the defaults do not."""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "lora": [
        {},
        {"rank": 4, "alpha": 4, "targets": "all-linear", "rslora": True, "dropout": 0.1},
        {"rank": 2, "alpha": 1.5, "targets": ("q_proj", "down_proj")},
    ],
    "adalora": [{}, {"rank": 1, "initial_rank": 3, "interval": 2, "targets": "all-linear"}],
    "corda": [SMALL["corda"], SMALL["corda"] | {"mode": "kpm"}],
    "lokr": [{}, {"rank": 2}],
    "oft": [SMALL["oft"], {"block_size": 4, "neumann": False}],
    "pissa": [SMALL["pissa"], {"rank": 4, "iterations": 4, "rslora": True, "dropout": 0.0}],
    "prompt-tuning": [SMALL["prompt-tuning"], {"tokens": 3, "initial": "random"}],
    "road": [SMALL["road"], {"group_size": 16}, {"group_size": 16, "variant": "road_4"}],
}
"""Hyper-parameters to try; SMALL, or the defaults, where none are stated."""

RATES = {
    "bitfit": 0.1,
    "c3a": 0.3,
    "corda": 5e-3,
    "full": 1e-3,
    "ia3": 0.1,
    "ln-tuning": 0.1,
    "lora-plus": 3e-3,
    "p-tuning": 5e-3,
    "prefix-tuning": 0.3,
    "prompt-tuning": 0.1,
    "randlora": 3e-3,
    "road": 0.1,
    "trainable-tokens": 0.05,
    "vblora": 0.03,
    "vera": 0.1,
}
"""Learning rates that overfit two examples in 40 steps; 2e-2 where none is stated."""

EXACT_IN_FLOAT32 = {"hra", "corda", "kasa", "olora", "pissa"}
"""Methods whose beginning cancels: x + y - y, or two reflections; exact but for float32's sums."""

ROUNDED = EXACT_IN_FLOAT32 | {
    # A weight is divided by its norm and multiplied by it again, in bfloat16.
    "dora",
    # Masters and residual stream are float32, the base's are bfloat16.
    "full",
    # Trained at one rank, loaded without the values that were pruned to zero.
    "adalora",
    # Trained through a network of three layers, stored as what it answered in float32.
    "p-tuning",
    # On bitsandbytes' layers peft lifts the input or the output to float32 and lowers it again.
    "ia3", "randlora", "road", "shira",
}  # fmt: skip
"""Methods whose logits at step 0, or loaded, differ by roundings from those they should equal."""


def variants(name: str) -> list[dict[str, Any]]:
    return VARIANTS.get(name, [SMALL.get(name, {})])


def tolerance(name: str, quantization: str) -> float:
    """Largest logit difference that is a rounding: of logits up to 8, whose bfloat16 step is 0.03.

    Layers carry it on, and LLM.int8 rounds each row of activations by its largest value.
    """
    if name not in ROUNDED:
        return 0.0
    return 1e-4 if quantization == "fp32" else 0.4


def refusal(name: str, parameters: dict[str, Any], quantization: str) -> str | None:
    family = family_for(model_type="llama")
    return load_method(name, parameters).conflict(load_quantizer(quantization), family)


def runnable_quantizers() -> list[str]:
    """Those that need nothing this machine lacks."""
    names = entry_names("quantization")
    return [n for n in names if missing_library(load_quantizer(n)) is None]


def distinct_quantizers() -> list[str]:
    """The same, less those whose layers are nf4's or hqq4's with other constants.

    ``make methods-table`` walks them too; here they would repeat what nf4 and hqq4 have shown.
    """
    repeated = {"fp4", "fp4-single", "nf4-single", "gptq", "awq"}
    return [n for n in runnable_quantizers() if n not in repeated]


def home(name: str) -> str:
    """The quantizer a method is tried on where one must do: fp32, or nf4 where it needs codes."""
    return "fp32" if refusal(name, variants(name)[0], "fp32") is None else "nf4"


def base_for(bases: Bases, name: str, family: str, quantization: str) -> LoadedBase:
    """A tiny base; of those with a sliding window of 8, one with 256 where a prefix must fit."""
    if name == "prefix-tuning" and family in {"mistral", "gemma2"}:
        return bases(family, quantization, sliding_window=256)
    return bases(family, quantization)


@dataclass(frozen=True)
class Life:
    """What one life of a method on one base showed; differences are of logits."""

    trained_parameters: int
    wrong_dtypes: tuple[str, ...]
    """Parameters that require a gradient and are not float32."""
    moved_at_step_0: float
    losses: tuple[float, ...]
    moved_by_training: float
    changed_weights: tuple[str, ...]
    """The base's own, after training and taking off."""
    base_moved: float
    still_trainable: int
    moved_by_loading: float
    moved_by_plain_peft: float | None
    """Loaded by ``PeftModel.from_pretrained``; None where the format is not ``peft``'s."""
    digest: str
    files: tuple[str, ...]


def live(base: LoadedBase, method: Method, wanted: TrainingSettings, *, seed: int = 0) -> Life:
    """One life; leaves the base as it was, or says in its facts that it did not."""
    before = weights(base)
    untouched = probes(base.model, base)
    moved: list[float] = []
    counted: list[torch.nn.Parameter] = []
    named: list[str] = []

    def at_step_0(model: Any) -> None:
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        counted.extend(trained.values())
        named.extend(n for n, p in trained.items() if p.dtype != torch.float32)
        moved.append(largest_difference(untouched, probes(model, base)))

    model, result = attach_and_train(base, method, wanted, seed=seed, at_step_0=at_step_0)
    trained = probes(model, base)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        method.save(model, directory)
        detach(model, base)
        again, after = probes(base.model, base), weights(base)
        still = sum(p.requires_grad for p in base.model.parameters())
        loaded = moved_by_loading(lambda m: method.load(m, directory), base, trained)
        plain = None
        # peft's own forward of prompts drops position ids with a warning; test_prompts.py has it.
        if is_peft(directory) and not isinstance(method, PromptMethod):
            plain = moved_by_loading(
                lambda m: peft.PeftModel.from_pretrained(m, str(directory)), base, trained
            )
        digest = sha256_of_directory(directory)
        files = tuple(sorted(str(p.relative_to(directory)) for p in directory.rglob("*")))
    return Life(
        trained_parameters=sum(p.numel() for p in counted),
        wrong_dtypes=tuple(named),
        moved_at_step_0=moved[0],
        losses=tuple(row.loss for row in result.curve),
        moved_by_training=largest_difference(untouched, trained),
        changed_weights=differing(before, after),
        base_moved=largest_difference(untouched, again),
        still_trainable=still,
        moved_by_loading=loaded,
        moved_by_plain_peft=plain,
        digest=digest,
        files=files,
    )


def attach_and_train(
    base: LoadedBase,
    method: Method,
    wanted: TrainingSettings,
    *,
    seed: int = 0,
    at_step_0: Callable[[Any], None] | None = None,
    **arguments: Any,
) -> tuple[Any, TrainResult]:
    """As a study's run does, with a look at the attached model before the first step."""
    schedule = StepSchedule(
        make_pools(("eng_Latn", "tha_Thai")),
        wanted,
        seed=seed,
        tokenizer=base.tokenizer,
        family=base.family,
    )
    torch.manual_seed(seed)
    context = AttachContext(
        family=base.family,
        quantizer=base.quantizer,
        seed=seed,
        calibration=lambda: calibration_rows(schedule, base),
    )
    model = method.attach(base.model, context)
    if at_step_0:
        at_step_0(model)
    return model, train_run(model, base, method, schedule, settings=wanted, **arguments)


def context_of(base: LoadedBase) -> AttachContext:
    """What a method is attached with where no data is needed."""
    return AttachContext(family=base.family, quantizer=base.quantizer, seed=0)


def few_steps(name: str, **changes: Any) -> TrainingSettings:
    rate = min(RATES.get(name, 2e-2), 2e-2)
    return settings(**({"learning_rate": rate, "batch_size": 3, "max_steps": 3} | changes))


def probes(model: Any, base: LoadedBase) -> list[torch.Tensor]:
    """Logits of a short prompt, as the engine would compute them."""
    let_autocast_choose(model, base)
    model.eval()
    ids = torch.tensor([base.tokenizer("The capital of Kenya is 东京是日本的")["input_ids"]])
    with torch.inference_mode(), compute_context(base):
        logits = label_logits(
            model,
            input_ids=ids,
            positions=torch.arange(ids.shape[1])[None],
            selected=torch.ones_like(ids, dtype=torch.bool),
            use_cache=False,
        )
    return [logits.float()]


def weights(base: LoadedBase) -> dict[str, torch.Tensor]:
    """Copies of every weight and quantization constant of a base, by name."""
    return {n: v.detach().clone() for n, v in base.model.state_dict().items()}


def differing(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> tuple[str, ...]:
    names = before.keys() & after.keys()
    changed = {n for n in names if not torch.equal(before[n], after[n])}
    return tuple(sorted(changed | (before.keys() ^ after.keys())))


def moved_by_loading(load: Callable[[Any], Any], base: LoadedBase, trained: Any) -> float:
    with warnings.catch_warnings():
        # peft's, of adapters that cannot be merged, and of extensions that are not compiled here.
        warnings.simplefilter("ignore")
        loaded = load(base.model)
    try:
        return largest_difference(trained, probes(loaded, base))
    finally:
        detach(loaded, base)


def is_peft(directory: Path) -> bool:
    path = directory / "adapter_config.json"
    if not path.is_file():
        return False
    return json.loads(path.read_text())["peft_type"] in list(peft.PeftType)


def is_finite(losses: tuple[float, ...]) -> bool:
    return all(math.isfinite(loss) for loss in losses)

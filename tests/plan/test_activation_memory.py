"""The planned activations against what autograd really keeps of a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.method_lives import context_of

from maple.base import LoadedBase, let_autocast_choose
from maple.base.fused import low_rank, peft_updates
from maple.catalog import load_method
from maple.data import MicroBatch
from maple.plan import estimate
from maple.plan.estimate import activation_bytes, shape_from_config
from maple.run.adapters import detach
from maple.study import TrainingSettings
from maple.train.passes import passes

Bases = Callable[..., LoadedBase]

ROWS, WIDTH = 2, 128
SIZES = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}


def kept_bytes(base: LoadedBase, model: Any) -> int:
    """Bytes of the distinct tensors that one pass keeps for its backward, parameters left out."""
    ids = torch.arange(ROWS * WIDTH).view(ROWS, WIDTH) % 600
    predicts = torch.zeros_like(ids, dtype=torch.bool)
    predicts[:, WIDTH // 2 : -1] = True
    batch = MicroBatch(
        ids=ids,
        positions=torch.arange(WIDTH).repeat(ROWS, 1),
        predicts=predicts,
        targets=ids[torch.roll(predicts, 1, 1)],
        lengths=(WIDTH,) * ROWS,
        languages=(("eng_Latn",),) * ROWS,
    )
    tensors = [*model.parameters(), *model.buffers()]
    own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    model.train()
    watched = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with passes(model, base, [peft_updates(model)], [None]) as forward, watched:
        total, _, _ = forward.losses([batch], [1.0])
    model.eval()
    del total
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("intermediate", [256, 768])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lora", {"rank": 8}),
        ("lora", {"rank": 8, "dropout": 0.5}),
        ("lora", {"rank": 64, "dropout": 0.0}),
        ("lora", {"rank": 8, "targets": "all-linear"}),
        ("lora", {"rank": 8, "targets": "all-linear", "dropout": 0.0}),
        ("pissa", {"rank": 8}),
    ],
    ids=str,
)
def test_planned_activations_are_within_a_fifth_of_what_is_kept(
    fresh_base: Bases, name: str, parameters: dict[str, Any], intermediate: int
) -> None:
    kept, planned = [], []
    method = load_method(name, parameters)
    settings = TrainingSettings(
        max_length=WIDTH, micro_batch_tokens=ROWS * WIDTH, batch_size=ROWS, max_steps=1
    )
    for layers in (2, 4):
        changes = SIZES | {"intermediate_size": intermediate, "num_hidden_layers": layers}
        base = fresh_base("llama", "bf16", **changes)
        model = method.attach(base.model, context_of(base))
        let_autocast_choose(model, base)
        kept.append(kept_bytes(base, model))
        detach(model, base)
        shape = shape_from_config(base.model.config.to_dict())
        assert shape is not None
        sizes = activation_bytes(settings, shape, method=method, family=base.family, on_cpu=True)
        planned.append(sizes[0])
    # Of two blocks: what the head and the embedding keep is left out of both.
    assert (planned[1] - planned[0]) / (kept[1] - kept[0]) == pytest.approx(1, abs=0.2)


def test_the_plan_and_the_engine_draw_places_up_to_the_same_rate() -> None:
    assert estimate._SPARSE_DROPOUT == low_rank._SPARSE

"""Packed rows give the logits of separate ones, on every attention there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import FAMILIES, VOCABULARY

from maple.base import LoadedBase, label_logits
from maple.data import Example, MicroBatch, pack_rows, to_micro_batches

Bases = Callable[..., LoadedBase]
PAD = 2


def make_examples(lengths: Sequence[int], seed: int = 0) -> list[Example]:
    generator = np.random.default_rng(seed)
    return [
        Example(
            ids=tuple(int(i) for i in generator.integers(3, VOCABULARY, length)),
            label_start=length // 3,
            language="swh_Latn",
            dataset="made-up",
        )
        for length in lengths
    ]


def one_row(examples: list[Example], max_length: int = 64) -> MicroBatch:
    (batch,) = to_micro_batches(
        examples, max_length=max_length, micro_batch_tokens=max_length, pad_id=PAD
    )
    return batch


def logits_of(base: LoadedBase, batch: MicroBatch) -> torch.Tensor:
    with torch.no_grad():
        return label_logits(
            base.model,
            positions=batch.positions,
            selected=batch.predicts,
            input_ids=batch.ids,
            use_cache=False,
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_logits_equal_separate_logits(shared_base: Bases, family: str) -> None:
    base = shared_base(family)
    # Longest first, as they stand in a row; two rows, the second one padded.
    examples = make_examples([30, 21, 13, 29, 18])
    (batch,) = to_micro_batches(examples, max_length=64, micro_batch_tokens=128, pad_id=PAD)
    assert batch.ids.shape[0] == 2
    packed = logits_of(base, batch)
    rows = pack_rows([len(e.ids) for e in examples], 64)
    rows.sort(key=lambda row: -sum(len(examples[i].ids) for i in row))
    place = 0
    for index in [i for row in rows for i in row]:
        example = examples[index]
        with torch.no_grad():
            alone = base.model(torch.tensor([example.ids])).logits[0]
        expected = alone[example.label_start - 1 : -1]
        found = packed[place : place + len(expected)]
        # float32 sums in another order; logits are up to 5.
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        place += len(expected)
    assert place == len(packed)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_example_does_not_see_its_neighbours(shared_base: Bases, family: str) -> None:
    base = shared_base(family)
    first, second = make_examples([30, 20])
    other, _ = make_examples([30, 20], seed=1)
    assert first.ids != other.ids
    n_second = second.n_labels
    before = logits_of(base, one_row([first, second]))
    after = logits_of(base, one_row([other, second]))
    assert torch.equal(before[-n_second:], after[-n_second:])
    assert not torch.equal(before[:-n_second], after[:-n_second])


def test_without_restarting_positions_neighbours_are_seen(shared_base: Bases) -> None:
    # The control: the test above can fail.
    base = shared_base("llama")
    first, second = make_examples([30, 20])
    other, _ = make_examples([30, 20], seed=1)
    found = []
    for start in (first, other):
        batch = one_row([start, second])
        running = torch.arange(batch.ids.shape[1])[None]
        with torch.no_grad():
            found.append(base.model(batch.ids, position_ids=running).logits[0, -19:])
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_positions_restart_at_every_example_and_in_the_padding() -> None:
    (batch,) = to_micro_batches(
        make_examples([5, 4, 3, 8]), max_length=10, micro_batch_tokens=100, pad_id=PAD
    )
    assert batch.positions.tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5, 6, 7, 0],
        [0, 1, 2, 0, 1, 2, 3, 4, 5],
    ]
    assert batch.ids[1, 8] == PAD
    assert batch.n_tokens == 20


def test_targets_are_the_labels_in_row_major_order() -> None:
    examples = make_examples([9, 6, 4])
    batch = one_row(examples, max_length=32)
    rows, columns = batch.predicts.nonzero(as_tuple=True)
    assert torch.equal(batch.ids[rows, columns + 1], batch.targets)
    assert batch.targets.tolist() == [i for e in examples for i in e.ids[e.label_start :]]


def test_the_first_token_of_all_is_never_a_target() -> None:
    example = Example(ids=(5, 6, 7), label_start=0, language="swh_Latn", dataset="made-up")
    batch = one_row([example, example], max_length=6)
    assert batch.targets.tolist() == [6, 7, 6, 7]
    assert batch.predicts.tolist() == [[True, True, False, True, True, False]]
    assert example.n_labels == 2


lengths = st.lists(st.integers(1, 32), min_size=1, max_size=40)


@given(lengths)
def test_packing_keeps_every_example_once_within_the_capacity(sizes: list[int]) -> None:
    rows = pack_rows(sizes, 32)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    used = [sum(sizes[i] for i in row) for row in rows]
    assert max(used) <= 32
    # No two rows could have been one.
    assert len(rows) < 2 or sorted(used)[0] + sorted(used)[1] > 32


@given(lengths, st.integers(1, 300))
@settings(deadline=None)
def test_micro_batches_keep_every_label_within_the_budget(sizes: list[int], budget: int) -> None:
    examples = make_examples(sizes)
    batches = to_micro_batches(examples, max_length=32, micro_batch_tokens=budget, pad_id=PAD)
    assert sum(b.n_tokens for b in batches) == sum(sizes)
    assert sum(len(b.targets) for b in batches) == sum(e.n_labels for e in examples)
    assert all(b.ids.numel() <= budget or len(b.ids) == 1 for b in batches)
    assert sum(len(row) for b in batches for row in b.languages) == len(examples)


def test_an_example_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack_rows([3, 9], 8)

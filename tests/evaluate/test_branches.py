"""Branched rows: every option sees its own tokens at its own positions, and scores the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_models import FAMILIES, TEXTS

from maple.base import LoadedBase
from maple.evaluate import Engine
from maple.evaluate.branches import Row, branched_rows, padded_tables, plain_rows, seen
from maple.evaluate.encode import EncodedOption, EncodedRequest

Bases = Callable[..., LoadedBase]
Options = list[tuple[tuple[int, ...], int]]

tokens = st.lists(st.integers(1, 4), min_size=2, max_size=9).map(tuple)
# Few distinct tokens, so that options share beginnings of every length, or are one another's.
drawn_options = st.lists(
    tokens.flatmap(lambda ids: st.tuples(st.just(ids), st.integers(1, len(ids) - 1))),
    min_size=1,
    max_size=4,
)


def company(rows: Sequence[Row], row: Row, place: int) -> list[tuple[int, int]]:
    """What a place of a pass sees, as (position, token): by the mask, or causally without one."""
    ids, positions = padded_tables(rows, pad=0)
    sees = seen(rows, ids.shape[1])
    number = rows.index(row)
    places = np.arange(place + 1) if sees is None else np.flatnonzero(sees[number, place])
    return list(zip(positions[number, places].tolist(), ids[number, places].tolist(), strict=True))


@given(drawn_options)
def test_every_token_is_predicted_from_what_stands_before_it_in_its_option(
    options: Options,
) -> None:
    for rows in (branched_rows(options), plain_rows(options)):
        found = [(row, targets) for row in rows for targets in row.targets]
        for (ids, start), (row, targets) in zip(options, found, strict=True):
            assert [token for _, token in targets] == list(ids[start:])
            for index, (place, _) in enumerate(targets, start=start):
                assert company(rows, row, place) == list(enumerate(ids[:index]))


@given(drawn_options)
def test_branches_are_taken_only_where_they_save_a_fifth(options: Options) -> None:
    rows, plain = branched_rows(options), plain_rows(options)
    n_fed, n_plain = (sum(len(r.ids) for r in found) for found in (rows, plain))
    assert rows == plain or n_fed <= 0.8 * n_plain


def test_letters_cost_one_row_of_the_prompt() -> None:
    (row,) = branched_rows([((1, 2, 3, letter), 3) for letter in (7, 8, 9)])
    assert row.ids == (1, 2, 3)
    assert seen([row], 3) is None
    assert row.targets == (((2, 7),), ((2, 8),), ((2, 9),))


def requests(base: LoadedBase) -> list[EncodedRequest]:
    made = []
    for question, answer, other in TEXTS.values():
        prompt = tuple(base.tokenizer(question * 2)["input_ids"])
        options = [
            (*prompt, *base.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (answer, other, answer + other, answer)
        ]
        made.append(EncodedRequest(options=tuple(EncodedOption(o, len(prompt)) for o in options)))
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_score_what_plain_rows_score(
    shared_base: Bases, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base(family)
    encoded = requests(base)
    engine = Engine(base.model, base)
    branched = engine.loglikelihoods(encoded)
    monkeypatch.setattr(engine, "_takes_masks", False)
    plain = engine.loglikelihoods(encoded)
    for one, other in zip(branched, plain, strict=True):
        # float32, sums over some 20 tokens in another order.
        assert one.loglikelihoods == pytest.approx(other.loglikelihoods, rel=1e-6)
        assert (one.is_greedy, one.n_tokens) == (other.is_greedy, other.n_tokens)
        best = [max(range(4), key=r.loglikelihoods.__getitem__) for r in (one, other)]
        assert best[0] == best[1] or one.loglikelihoods[0] == pytest.approx(
            one.loglikelihoods[3], rel=1e-6
        )


def test_branches_are_used_where_the_model_allows_them(shared_base: Bases) -> None:
    base = shared_base("llama")
    encoded = requests(base)
    fed: list[int] = []

    def count(_: torch.nn.Module, arguments: tuple[object, ...], inputs: dict[str, object]) -> None:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        fed.append(ids.numel())

    handle = base.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        engine = Engine(base.model, base)
        engine.loglikelihoods(encoded[:1])
        engine._takes_masks = False
        engine.loglikelihoods(encoded[:1])
    finally:
        handle.remove()
    assert fed[0] < 0.6 * fed[1]

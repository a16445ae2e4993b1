"""Batches are a pure function of the requests and stay within their budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maple.evaluate.batches import token_budget_batches

requests = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), max_size=40)


@given(requests, st.integers(1, 400), st.one_of(st.none(), st.integers(1, 10)))
def test_batches_hold_every_request_once_within_the_budget(
    sizes: list[tuple[int, int]], max_tokens: int, max_requests: int | None
) -> None:
    widths, rows = [w for w, _ in sizes], [r for _, r in sizes]
    batches = token_budget_batches(widths, rows, max_tokens=max_tokens, max_requests=max_requests)
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        padded = max(widths[i] for i in batch) * sum(rows[i] for i in batch)
        assert padded <= max_tokens or len(batch) == 1
        assert max_requests is None or len(batch) <= max_requests


@given(requests)
def test_the_longest_come_first(sizes: list[tuple[int, int]]) -> None:
    widths, rows = [w for w, _ in sizes], [r for _, r in sizes]
    batches = token_budget_batches(widths, rows, max_tokens=100)
    assert [widths[i] for batch in batches for i in batch] == sorted(widths, reverse=True)


def test_ties_go_by_index() -> None:
    assert token_budget_batches([3] * 5, [1] * 5, max_tokens=6) == [[0, 1], [2, 3], [4]]

"""Scoring's attention and head against their definitions."""

from __future__ import annotations

import pytest
import torch

from maple.base.fused.scores import token_scores
from maple.base.fused.tree import tree_attention, tree_layout
from maple.evaluate.prefix_tree import Segment

SEGMENTS = (
    Segment(0, 7, -1, 0),  # two questions, the first with three options, the second with a branch
    Segment(7, 3, 0, 7),
    Segment(10, 1, 0, 7),
    Segment(11, 4, 0, 7),
    Segment(15, 5, -1, 0),
    Segment(20, 9, 4, 5),
    Segment(29, 2, 5, 14),
    Segment(31, 6, -1, 0),
)
TOKENS = 37


def sees(place: int) -> list[int]:
    (segment,) = (s for s in SEGMENTS if s.start <= place < s.start + s.length)
    seen = list(range(segment.start, place + 1))
    while segment.parent >= 0:
        segment = SEGMENTS[segment.parent]
        seen += range(segment.start, segment.start + segment.length)
    return seen


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"]
)
def test_tree_attention_is_softmax_over_what_a_token_sees(
    dtype: torch.dtype, tolerance: float, copies: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(copies * TOKENS, heads, 8, generator=generator).to(dtype) for heads in (4, 2, 2)
    )
    layout = tree_layout(SEGMENTS, copies=copies, dtype=dtype, device=torch.device("cpu"))
    assert layout.longest == 16
    found = tree_attention(query, key, value, layout, scale=0.5).double()
    for place in range(copies * TOKENS):
        seen = [place // TOKENS * TOKENS + p for p in sees(place % TOKENS)]
        for head in range(4):
            k, v = key[seen, head // 2].double(), value[seen, head // 2].double()
            expected = torch.softmax(k @ query[place, head].double() * 0.5, 0) @ v
            # Scores and weights are rounded to the dtype on the way.
            assert torch.allclose(found[place, head], expected, atol=tolerance, rtol=tolerance)


def test_long_rows_agree_with_short_ones_in_16_bits() -> None:
    # Beyond 256 keys another kernel is taken.
    generator = torch.Generator().manual_seed(1)
    pieces = (Segment(0, 300, -1, 0), Segment(300, 5, 0, 300), Segment(305, 8, -1, 0))
    query, key, value = (torch.randn(313, 2, 8, generator=generator) for _ in range(3))
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        layout = tree_layout(pieces, copies=1, dtype=dtype, device=torch.device("cpu"))
        parts = (x.to(dtype) for x in (query, key, value))
        answers.append(tree_attention(*parts, layout, scale=0.3).float())
    assert torch.allclose(*answers, atol=2e-2)


@pytest.mark.parametrize("rows", [1, 15, 16, 300])
def test_token_scores_are_a_float32_log_softmax(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of few rows, so that there are several.
    monkeypatch.setattr("maple.base.fused.scores._BLOCK_VALUES", 500 * 40)
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 12, generator=generator).to(torch.bfloat16)
    weight = torch.randn(500, 12, generator=generator).to(torch.bfloat16)
    places = torch.randint(0, rows, (90,), generator=generator)
    logits = (hidden @ weight.t()).double()
    tokens = torch.randint(0, 500, (90,), generator=generator)
    tokens[::3] = logits[places[::3]].argmax(-1)
    values, greedy = token_scores(hidden, weight, places, tokens)
    exact = torch.log_softmax(logits, -1)[places, tokens]
    if rows >= 16:  # fewer are another kernel's products, rounded otherwise
        assert torch.allclose(values.double(), exact, atol=3e-6)
        assert greedy.tolist() == (logits[places].argmax(-1) == tokens).tolist()
    assert torch.allclose(values.double(), exact, atol=0.1)
    assert greedy[::3].all()

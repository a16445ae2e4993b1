"""The product of few float32 rows, done the other way round, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maple.base.fused.scoring import FewRowsLinear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 5, 32, 33])
def test_it_is_the_layers_own_product(
    rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias)
    x = torch.randn(1, rows, 48)
    turned: list[int] = []
    own = torch.mm

    def counted(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        turned.append(right.shape[1])
        return own(left, right)

    monkeypatch.setattr(torch, "mm", counted)
    with torch.no_grad():
        found = FewRowsLinear(layer)(x)
        expected = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert found.shape == (1, rows, 80)
    assert found.is_contiguous()
    # One row goes as one of two.
    assert turned == ([max(2, rows)] if rows <= FewRowsLinear.MOST_ROWS else [])


def test_other_layers_keep_their_own() -> None:
    class Own(nn.Linear):
        pass

    assert FewRowsLinear.takes(nn.Linear(4, 4))
    assert not FewRowsLinear.takes(nn.Linear(4, 4).bfloat16())
    assert not FewRowsLinear.takes(Own(4, 4))
    assert not FewRowsLinear.takes(nn.Embedding(4, 4))

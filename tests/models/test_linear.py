from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from crossdna_interpret.models.crossdna import linear as products
from crossdna_interpret.models.crossdna.linear import sum_of_products, tiled


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_joined_linear_is_that_of_the_concatenation(gradients: bool, bias: bool) -> None:
    random = torch.Generator().manual_seed(0)
    wide = torch.randn(3, 9, 5, generator=random, dtype=torch.float64)
    parts = [
        torch.randn(3, 7, 4, generator=random, dtype=torch.float64),
        wide[:, :7],  # not contiguous
        torch.randn(1, 7, 2, generator=random, dtype=torch.float64).expand(3, -1, -1),
    ]
    parts = [part.requires_grad_(gradients) if part.is_leaf else part for part in parts]
    weight = torch.randn(6, 11, generator=random, dtype=torch.float64, requires_grad=gradients)
    offset = torch.randn(6, generator=random, dtype=torch.float64, requires_grad=gradients) if bias else None
    before = [part.clone() for part in parts]
    with torch.set_grad_enabled(gradients):
        result = sum_of_products(parts, weight, offset)
        expected = F.linear(torch.cat(parts, dim=-1), weight, offset)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    for part, kept in zip(parts, before, strict=True):
        assert torch.equal(part, kept)
    if gradients:
        aim = torch.randn(result.shape, generator=random, dtype=torch.float64)
        ours, theirs = (torch.autograd.grad(y, [parts[0], weight], aim) for y in (result, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 61])
def test_tiles_are_what_the_whole_is(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_TILE", 24)  # eight positions of three numbers
    x = torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(0)).mT.contiguous().mT  # not contiguous
    weight, sizes = torch.arange(8.0).view(2, 4), []

    def compute(tile: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tile))
        return F.linear(tile, weight).square_()

    kept = x.clone()
    result = tiled(compute, x, 3)
    assert result.shape == (2, rows, 2)
    torch.testing.assert_close(result, (x @ weight.T).square())
    assert torch.equal(x, kept)
    assert sum(sizes) == 2 * rows
    assert max(sizes) <= 8

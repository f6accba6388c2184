from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from crossdna_interpret.models.crossdna.products import joined_linear


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
        result = joined_linear(parts, weight, offset)
        expected = F.linear(torch.cat(parts, dim=-1), weight, offset)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    for part, kept in zip(parts, before, strict=True):
        assert torch.equal(part, kept)
    if gradients:
        aim = torch.randn(result.shape, generator=random, dtype=torch.float64)
        ours, theirs = (torch.autograd.grad(y, [parts[0], weight], aim) for y in (result, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)

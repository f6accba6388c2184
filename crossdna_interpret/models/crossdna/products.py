"""Matrix products with weights, written so that what goes in need not be copied first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["joined_linear"]


def joined_linear(parts: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear(torch.cat(parts, -1), weight, bias)`` as a sum of products, without the concatenation.

    Args:
        parts: (..., H_1), (..., H_2), and so on, of equal leading shape.
        weight: (out, H_1 + H_2 + ...).
        bias: (out,), or None.

    Returns:
        (..., out).
    """
    weights = weight.split([part.shape[-1] for part in parts], dim=1)
    total = F.linear(parts[0], weights[0], bias)
    rows = total.view(-1, total.shape[-1])
    for part, own in zip(parts[1:], weights[1:], strict=True):
        others = part.reshape(-1, part.shape[-1])
        rows = torch.addmm(rows, others, own.t()) if torch.is_grad_enabled() else rows.addmm_(others, own.t())
    return rows.view(total.shape)

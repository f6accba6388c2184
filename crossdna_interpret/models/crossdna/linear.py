"""Linear layers without copies of their inputs, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.plain import is_plain

__all__ = ["split_linear", "sum_of_products", "tiled"]

# Numbers between two products that stay in the caches until the second reads them: 4 MB of float32.
_TILE = 1 << 20


def split_linear(parts: Sequence[Tensor], linear: nn.Module) -> Tensor:
    """``linear(torch.cat(parts, -1))``, for a plain `nn.Linear` as a sum of products without the concatenation.

    Args:
        parts: (..., H_1), (..., H_2), and so on, of equal leading shape.
        linear: (..., H_1 + H_2 + ...) -> (..., out).

    Returns:
        (..., out).
    """
    if not is_plain(linear, nn.Linear):
        joined: Tensor = linear(torch.cat(list(parts), dim=-1))
        return joined
    return sum_of_products(parts, linear.weight, linear.bias)  # type: ignore[arg-type]


def sum_of_products(parts: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear(torch.cat(parts, -1), weight, bias)`` without the concatenation; `parts` as in `split_linear`."""
    weights = weight.split([part.shape[-1] for part in parts], dim=1)
    total = F.linear(parts[0], weights[0], bias)
    rows = total.view(-1, total.shape[-1])
    apart = torch.is_grad_enabled() or torch.is_autocast_enabled(total.device.type)  # which knows no product in place
    for part, own in zip(parts[1:], weights[1:], strict=True):
        others = part.reshape(-1, part.shape[-1])
        rows = torch.addmm(rows, others, own.t()) if apart else rows.addmm_(others, own.t())
    return rows.view(total.shape)


def tiled(compute: Callable[[Tensor], Tensor], x: Tensor, between: int) -> Tensor:
    """``compute(x)`` for a function of single positions, on so many at once that what it makes of them stays in caches.

    Args:
        compute: (rows, H) -> (rows, out). It may write over what it makes: without gradients nothing else needs it.
        x: (..., H).
        between: numbers that `compute` makes of a position before its last product.

    Returns:
        (..., out).
    """
    rows = x.reshape(-1, x.shape[-1])
    size = max(1, _TILE // between)
    # A graph that is captured takes any number of rows, so that it must not depend on how many there are.
    if torch.compiler.is_compiling() or len(rows) <= size:
        return compute(rows).unflatten(0, x.shape[:-1])
    return torch.cat([compute(tile) for tile in rows.split(size)]).unflatten(0, x.shape[:-1])

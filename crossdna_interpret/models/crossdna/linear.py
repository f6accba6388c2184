"""Linear layers that avoid copies of their inputs and work on tiles that fit the caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.plain import is_plain

__all__ = ["split_linear", "sum_of_products", "tiled"]

# Values of an intermediate result that fit the caches: 4 MB of float32.
_TILE = 1 << 20


def split_linear(parts: Sequence[Tensor], linear: nn.Module) -> Tensor:
    """Compute ``linear(torch.cat(parts, -1))``. A plain `nn.Linear` is computed without the concatenation.

    Args:
        parts: (..., H_1), (..., H_2) and so on, with equal leading shape.
        linear: (..., H_1 + H_2 + ...) -> (..., out).

    Returns:
        (..., out).
    """
    if not is_plain(linear, nn.Linear):
        joined: Tensor = linear(torch.cat(list(parts), dim=-1))
        return joined
    return sum_of_products(parts, linear.weight, linear.bias)  # type: ignore[arg-type]


def sum_of_products(parts: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``F.linear(torch.cat(parts, -1), weight, bias)`` without the concatenation. See `split_linear`."""
    weights = weight.split([part.shape[-1] for part in parts], dim=1)
    total = F.linear(parts[0], weights[0], bias)
    rows = total.view(-1, total.shape[-1])
    apart = torch.is_grad_enabled() or torch.is_autocast_enabled(total.device.type)  # neither allows in-place products
    for part, own in zip(parts[1:], weights[1:], strict=True):
        others = part.reshape(-1, part.shape[-1])
        rows = torch.addmm(rows, others, own.t()) if apart else rows.addmm_(others, own.t())
    return rows.view(total.shape)


def tiled(compute: Callable[[Tensor], Tensor], x: Tensor, between: int) -> Tensor:
    """Compute ``compute(x)`` in tiles of positions, so that intermediate results stay in the caches.

    Args:
        compute: (rows, H) -> (rows, out), for each position separately. It may overwrite its intermediate results.
        x: (..., H).
        between: number of intermediate values for each position.

    Returns:
        (..., out).
    """
    rows = x.reshape(-1, x.shape[-1])
    size = max(1, _TILE // between)
    # A captured graph must work for any number of rows, so it must not depend on the number here.
    if torch.compiler.is_compiling() or len(rows) <= size:
        return compute(rows).unflatten(0, x.shape[:-1])
    return torch.cat([compute(tile) for tile in rows.split(size)]).unflatten(0, x.shape[:-1])

"""The recurrence written as a loop, the reference for the one in chunks, and inputs for both."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from crossdna_interpret.models.crossdna.recurrence import RecurrenceTrace, chunked_comba

# q, k, v, what brings q, k and p to their lengths, g, beta
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def loop(
    q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The recurrence by its definition, position by position.

    Returns outputs (B, l, n, d_v), and the states before every position and after the last (l + 1, B, n, d, d_v).

    u_t = beta_t (v_t - S_{t-1}^T p_t);  S_t = exp(g_t) S_{t-1} + k_t u_t^T;  o_t = S_t^T q_t / sqrt(d)
    """
    batch, length, heads, d = q.shape
    zero = v.new_zeros(batch, heads, d, v.shape[-1])
    states = [zero if state is None else zero + state]
    outputs = []
    for t in range(length):
        u = beta[:, t, :, None] * (v[:, t] - torch.einsum("bndv,bnd->bnv", states[t], p[:, t]))
        kept = g[:, t].exp()[..., None, None] * states[t]
        states.append(kept + torch.einsum("bnd,bnv->bndv", k[:, t], u))
        outputs.append(torch.einsum("bndv,bnd->bnv", states[-1], q[:, t]) / math.sqrt(d))
    return torch.stack(outputs, dim=1), torch.stack(states)


def by_loop(x: Inputs | list[Tensor], state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`loop`, for q, k and p as they are once they have their lengths."""
    q, k, v, q_scale, k_scale, p_scale, g, beta = x
    return loop(q * q_scale[..., None], k * k_scale[..., None], v, k * p_scale[..., None], g, beta, state)


def by_chunks(
    q: Tensor, k: Tensor, v: Tensor, q_scale: Tensor, k_scale: Tensor, p_scale: Tensor, g: Tensor, beta: Tensor,
    state: Tensor | None = None, *, trace: RecurrenceTrace | None = None,
) -> Tensor:  # fmt: skip
    """`chunked_comba` with its tensors as separate arguments."""
    return chunked_comba(q, k, v, (q_scale, k_scale, p_scale), g, beta, state, trace)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(length: int, *, heads: int = 1, d: int = 3, d_v: int = 5, batch: int = 1, seed: int = 0) -> Inputs:
    """Inputs in float64. q and k have any length.

    The factors give q, k and p different lengths from 0.5 to 1, so that a mix-up of the factors is detected."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows = batch, length, heads
    q, k = (normal(*rows, d) * normal(*rows, 1).exp() for _ in range(2))
    v = normal(*rows, d_v)
    q_scale, k_scale, p_scale = ((0.5 + 0.5 * torch.sigmoid(normal(*rows))) / y.norm(dim=-1) for y in (q, k, k))
    return q, k, v, q_scale, k_scale, p_scale, -F.softplus(normal(*rows)), torch.sigmoid(normal(*rows))


def single(x: Inputs) -> Inputs:
    """The same in float32."""
    return tuple(y.float() for y in x)  # type: ignore[return-value]


def double(x: Inputs) -> Inputs:
    """The same in float64, so that a float32 result and the loop see the same numbers."""
    return tuple(y.double() for y in x)  # type: ignore[return-value]


def traced(x: Inputs, state: Tensor | None = None) -> tuple[Tensor, RecurrenceTrace]:
    """Outputs, and the trace that the pass leaves."""
    trace = RecurrenceTrace()
    return by_chunks(*x, state=state, trace=trace), trace


def gradients(result: Tensor, x: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a sum in which every output has another weight."""
    return torch.autograd.grad((result * random(1, *result.shape).to(result.dtype)).sum(), x)

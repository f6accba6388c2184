"""The recurrence of Comba, computed in chunks of positions instead of one position after the other.

    B  batch        n  heads        C    positions of a chunk
    l  positions    d  key size     d_v  value size

For one head, from the state S [d, d_v], with q, k and p of length one:

    u_t = beta_t (v_t - S_{t-1}^T p_t)           the correction reads the state before it decays
    S_t = exp(g_t) S_{t-1} + k_t u_t^T
    o_t = S_t^T q_t / sqrt(d)

p has the direction of k. So q and k come as they are, with the factors that bring q, k and p to length one: the factors
go into products of C x C numbers, and no tensor of l x d numbers is made for them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "CHUNK",
    "Chunks",
    "RecurrenceTrace",
    "by_position",
    "chunk_size",
    "chunked_comba",
    "fla_comba",
    "go_on",
    "prepare",
    "scan",
]

CHUNK = 32


def chunk_size(length: int) -> int:
    """Positions of a chunk: at most `CHUNK`, and such that the last chunk is nearly full."""
    chunks = -(-length // CHUNK)
    return min(length, -(-length // (4 * chunks)) * 4)


def _decay(log: Tensor) -> Tensor:
    """exp(log) for log of at most 0, but not below the cube root of the smallest normal number; see `_Flush`."""
    return log.clamp(math.log(torch.finfo(log.dtype).tiny) / 3, 0).exp()


class _Flush(torch.autograd.Function):
    """Identity with exact zeros for what has faded away, and for gradients that have.

    Denormal arithmetic is slow on x86, and a pulse in the recurrence fades through every magnitude down to zero. What
    is cut off is below 2e-13 in float32 (3e-103 in float64) next to terms of order one, so that products of three such
    factors stay normal; for gradients, whose scale is the caller's, below 1e-19 (1e-154).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.hardshrink(x, torch.finfo(x.dtype).tiny ** (1 / 3))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return F.hardshrink(gradient, torch.finfo(gradient.dtype).tiny ** (1 / 2))

    jvp = backward  # the same map either way


def _flush(x: Tensor) -> Tensor:
    """`_Flush`; without gradients as what it computes, which is much quicker to call."""
    flushed: Tensor = _Flush.apply(x) if torch.is_grad_enabled() else _Flush.forward(x)
    return flushed


@dataclass(frozen=True)
class Chunks:
    """Positions in chunks, with all that can be computed before the state is known. Each has (chunks, R, ...), with R
    the rows of a batch times its heads.

    Attributes:
        size: C.
        kq: (., 2 C, d) keys, then queries, as they came.
        v: (., C, d_v).
        inverse: (., C, C) of the triangular system, times beta.
        fade: (., C, C) exp(G_t - G_s) for s <= t, times the factor of k_s: what is left at t of the update at s.
        read: (., C, C) what an output takes from the updates of its chunk.
        p_state, q_state: (., C, 1) factors of what a correction and an output take from the state.
        keep: (., C, 1) exp(G_t): what is left at t of the state before the chunk.
    """

    size: int
    kq: Tensor
    v: Tensor
    inverse: Tensor
    fade: Tensor
    read: Tensor
    p_state: Tensor
    q_state: Tensor
    keep: Tensor

    def after(self, chunk: int) -> Chunks:
        """From a chunk on."""
        parts: dict[str, Any] = {name: x[chunk:] for name, x in vars(self).items() if isinstance(x, Tensor)}
        return dataclasses.replace(self, **parts)

    def tensors(self) -> list[Tensor]:
        """All that takes memory."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]


@dataclass
class RecurrenceTrace:
    """What a pass over one sequence leaves behind, so that another can start inside it. Filled by `chunked_comba`."""

    chunks: Chunks | None = None
    states: Tensor | None = None  # (chunks, n, d, d_v) before each chunk
    updates: Tensor | None = None  # (chunks, n, C, d_v): the U of each chunk

    def state_at(self, position: int) -> Tensor:
        """(n, d, d_v) the state before `position`."""
        assert self.chunks is not None
        assert self.states is not None
        assert self.updates is not None
        size = self.chunks.size
        chunk, inside = divmod(position, size)
        if chunk == len(self.states):  # the very end
            chunk, inside = chunk - 1, size
        state = self.states[chunk]
        if not inside:
            return state
        kept = self.chunks.keep[chunk, :, inside - 1 : inside] * state
        faded = self.chunks.fade[chunk, :, inside - 1, :inside].unsqueeze(-1) * self.updates[chunk][:, :inside]
        return _flush(torch.baddbmm(kept, self.chunks.kq[chunk, :, :inside].mT, faded))

    def tensors(self) -> list[Tensor]:
        """All that takes memory."""
        own = (self.states, self.updates)
        return [*(self.chunks.tensors() if self.chunks else []), *(x for x in own if x is not None)]


def chunked_comba(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scales: tuple[Tensor, Tensor, Tensor],
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    trace: RecurrenceTrace | None = None,
) -> Tensor:
    """The recurrence over all positions.

    Inside a chunk that starts from state S, with G the running sum of g, the corrections solve a unit lower-triangular
    system A, so that U = A^-1 (beta (V - exp(G_{t-1}) P S)). All the systems are inverted at once; only the C-fold
    shorter recurrence over chunk states is sequential.

    Args:
        q, k: (B, l, n, d), of any length.
        v: (B, l, n, d_v).
        scales: three of (B, l, n): what q, k, and k again, are multiplied by to give q, k and p of length one.
        g: (B, l, n), log-decay, at most 0.
        beta: (B, l, n), in 0 to 1.
        state: (n, d, d_v), before the first position, the same for the whole batch; zero if not given.
        trace: filled, for a batch of one.

    Returns:
        o: (B, l, n, d_v).
    """
    batch, length, heads, d = q.shape
    pad = -length % chunk_size(length)
    if pad:  # whatever comes after the last position does not reach back
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, pad)) for x in (q, k, v))
        g, beta = (F.pad(x, (0, 0, 0, pad)) for x in (g, beta))
        scales = tuple(F.pad(x, (0, 0, 0, pad)) for x in scales)  # type: ignore[assignment]
    chunks = prepare(q, k, v, scales, g, beta)
    outputs, states, updates = scan(chunks, None if state is None else state.repeat(batch, 1, 1))
    if trace is not None:
        zero = q.new_zeros(heads, d, v.shape[-1])
        trace.chunks = chunks
        trace.states = torch.stack([zero if state is None else state for state in states])
        trace.updates = torch.stack(updates)
    return by_position(outputs, batch)[:, :length]


def by_position(outputs: list[Tensor], batch: int) -> Tensor:
    """(B, l, n, d_v), from a list of (B n, C, d_v)."""
    o = torch.stack(outputs).unflatten(1, (batch, -1))  # (chunks, B, n, C, d_v)
    return o.movedim((0, 2), (1, 3)).flatten(1, 2)


def prepare(q: Tensor, k: Tensor, v: Tensor, scales: tuple[Tensor, Tensor, Tensor], g: Tensor, beta: Tensor) -> Chunks:
    """What can be computed without the state; arguments as for `chunked_comba`, l a multiple of its `chunk_size`."""
    batch, length, heads, d = q.shape
    size = chunk_size(length)

    def by_chunk(x: Tensor) -> Tensor:  # (B, l, n, ...) -> (chunks, B, n, C, ...)
        return x.unflatten(1, (-1, size)).movedim((1, 3), (0, 2))

    kq = torch.cat([by_chunk(k), by_chunk(q)], dim=3).flatten(1, 2)  # (chunks, B n, 2 C, d)
    k_t = kq[:, :, :size].mT
    v = by_chunk(v).flatten(1, 2)
    q_scale, k_scale, p_scale, beta = (by_chunk(x).flatten(1, 2) for x in (*scales, beta))  # (chunks, B n, C)
    exact = by_chunk(g).flatten(1, 2).double()
    exact_total = exact.cumsum(-1)  # G_t
    total, before = exact_total.to(g.dtype), (exact_total - exact).to(g.dtype)

    products = (kq.flatten(0, 1) @ k_t.flatten(0, 1)).unflatten(0, (-1, batch * heads))
    kk, qk = products.split(size, dim=2)
    # exp(G_t - G_s) for s <= t. One row up it is exp(G_{t-1} - G_s) for s < t.
    fade = _decay((exact_total.unsqueeze(-1) - exact_total.unsqueeze(-2)).to(g.dtype)).tril() * k_scale.unsqueeze(-2)
    system = F.pad((beta * p_scale)[..., 1:, None] * fade[:, :, :-1] * kk[:, :, 1:], (0, 0, 1, 0))
    read = (d**-0.5 * q_scale).unsqueeze(-1) * fade * qk  # (chunks, B n, C, C)
    identity = torch.eye(size, dtype=q.dtype, device=q.device).expand_as(system)
    inverse = torch.linalg.solve_triangular(system, identity, upper=False, unitriangular=True) * beta.unsqueeze(-2)

    keep = _decay(total).unsqueeze(-1)  # (chunks, B n, C, 1)
    p_state = -(p_scale * _decay(before)).unsqueeze(-1)
    q_state = (d**-0.5 * q_scale).unsqueeze(-1) * keep
    return Chunks(size, kq, v, inverse, fade, read, p_state, q_state, keep)


def scan(
    chunks: Chunks, state: Tensor | None, *, to_end: bool = False
) -> tuple[list[Tensor], list[Tensor | None], list[Tensor]]:
    """The recurrence over chunks, from a state (R, d, d_v) or from zero.

    Returns:
        For each chunk its outputs (R, C, d_v); the state before it (and after the last if asked `to_end`); its U.
    """
    # Taken apart at once: one chunk after the other, a backward pass would fill a tensor of all chunks for each.
    names = "kq", "v", "inverse", "fade", "read", "p_state", "q_state", "keep"
    parts = zip(*(getattr(chunks, name).unbind() for name in names), strict=True)
    size, count = chunks.size, len(chunks.kq)
    outputs: list[Tensor] = []
    states: list[Tensor | None] = [state]
    updates: list[Tensor] = []
    for c, (kq, v, inverse, fade, read, p_state, q_state, keep) in enumerate(parts):
        if state is None:
            u = _flush(inverse @ v)
            outputs.append(read @ u)
        else:
            from_state = kq @ state  # (R, 2 C, d_v)
            corrected = torch.addcmul(v, p_state, from_state[:, :size])
            u = _flush(inverse @ corrected)
            outputs.append(torch.baddbmm(q_state * from_state[:, size:], read, u))
        updates.append(u)
        if to_end or c + 1 < count:
            k_t = kq[:, :size].mT
            update = fade[:, -1].unsqueeze(-1) * u
            kept = None if state is None else keep[:, -1:] * state
            state = _flush(k_t @ update if kept is None else torch.baddbmm(kept, k_t, update))
            states.append(state)
    return outputs, states, updates


def go_on(chunks: Chunks, state: Tensor, batch: int) -> Tensor:
    """o (B, l, n, d_v) over chunks (R = n) that all rows of a batch share, from states (B n, d, d_v) of their own."""
    # Rows become columns, side by side: n wide products in place of B n small ones.
    wide = state.unflatten(0, (batch, -1)).movedim(0, 2).flatten(2)  # (n, d, B d_v)
    outputs, _, _ = scan(dataclasses.replace(chunks, v=chunks.v.repeat(1, 1, 1, batch)), wide)
    o = torch.stack(outputs).unflatten(-1, (batch, -1))  # (chunks, n, C, B, d_v)
    return o.permute(3, 0, 2, 1, 4).flatten(1, 2)


def fla_comba(
    q: Tensor, k: Tensor, v: Tensor, scales: tuple[Tensor, Tensor, Tensor], g: Tensor, beta: Tensor
) -> Tensor:
    """The same from a zero state by flash-linear-attention's kernel; CUDA only, shapes as in `chunked_comba`."""
    from fla.ops.comba import chunk_comba  # an extra that trails torch; see pyproject.toml

    q_scale, k_scale, p_scale = (scale.unsqueeze(-1) for scale in scales)
    q, k, p = q * q_scale, k * k_scale, k * p_scale
    q, k, v, p, g, beta = (x.contiguous() for x in (q, k, v, p, g, beta))
    out, _ = chunk_comba(q=q, k=k, v=v, p=p, g=g, beta=beta, scale=q.shape[-1] ** -0.5)
    return out

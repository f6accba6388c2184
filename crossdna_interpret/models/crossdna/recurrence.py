"""The recurrence of Comba, computed in chunks of positions instead of position by position.

    B  batch        n  heads        C    positions of a chunk
    l  positions    d  key size     d_v  value size

For one head, from the state S [d, d_v], with q, k and p of length one:

    u_t = beta_t (v_t - S_{t-1}^T p_t)           the correction uses the state before decay
    S_t = exp(g_t) S_{t-1} + k_t u_t^T
    o_t = S_t^T q_t / sqrt(d)

p has the direction of k. The inputs are q and k before normalization, and the factors that normalize q, k and p. The
factors are applied to C x C products, which avoids new tensors of size l x d.
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
    """Positions in a chunk: at most `CHUNK`, chosen so that the last chunk is nearly full."""
    chunks = -(-length // CHUNK)
    return min(length, -(-length // (4 * chunks)) * 4)


def _decay(log: Tensor) -> Tensor:
    """exp(log) for log <= 0, limited below by the cube root of the smallest normal number. See `_Flush`."""
    return log.clamp(math.log(torch.finfo(log.dtype).tiny) / 3, 0).exp()


class _Flush(torch.autograd.Function):
    """Identity that replaces tiny values and tiny gradients by exact zeros.

    Denormal arithmetic is slow on x86, and a value in the recurrence decays gradually to zero. Values below 2e-13 in
    float32 (3e-103 in float64) become zero, while other terms are of order one. Products of three remaining factors
    are normal numbers. Gradients have the caller's scale, so their limit is lower: 1e-19 (1e-154).
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

    jvp = backward  # forward and backward derivatives are the same map


def _flush(x: Tensor) -> Tensor:
    """Apply `_Flush`. Without gradients, compute it directly, which is much faster."""
    flushed: Tensor = _Flush.apply(x) if torch.is_grad_enabled() else _Flush.forward(x)
    return flushed


@dataclass(frozen=True)
class Chunks:
    """Chunks of positions, with everything that does not depend on the state.

    Each tensor is (chunks, R, ...), where R is the batch size times the number of heads.

    Attributes:
        size: positions in a chunk, C.
        kq: (., 2 C, d) keys, then queries, not normalized.
        v: (., C, d_v) values.
        inverse: (., C, C) inverse of the triangular system, times beta.
        fade: (., C, C) exp(G_t - G_s) for s <= t, times the factor of k_s: decay at t of the update at s.
        read: (., C, C) weights of the chunk's updates in each output.
        p_state, q_state: (., C, 1) factors of the state in a correction and in an output.
        keep: (., C, 1) exp(G_t): decay at t of the state before the chunk.
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
        """The chunks from this one on."""
        parts: dict[str, Any] = {name: x[chunk:] for name, x in vars(self).items() if isinstance(x, Tensor)}
        return dataclasses.replace(self, **parts)

    def tensors(self) -> list[Tensor]:
        """All that takes memory."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]


@dataclass
class RecurrenceTrace:
    """Stored states of a pass over one sequence, so that another pass can start inside it. Set by `chunked_comba`."""

    chunks: Chunks | None = None
    states: Tensor | None = None  # (chunks, n, d, d_v) before each chunk
    updates: Tensor | None = None  # (chunks, n, C, d_v): the U of each chunk

    def state_at(self, position: int) -> Tensor:
        """State (n, d, d_v) before `position`."""
        assert self.chunks is not None
        assert self.states is not None
        assert self.updates is not None
        size = self.chunks.size
        chunk, inside = divmod(position, size)
        if chunk == len(self.states):  # after the last position
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
    """Compute the recurrence over all positions.

    Let a chunk start from state S, and let G be the cumulative sum of g. The corrections solve a unit lower-triangular
    system A: U = A^-1 (beta (V - exp(G_{t-1}) P S)). All systems are inverted in parallel. Only the recurrence over
    chunk states is sequential, and it is C times shorter.

    Args:
        q, k: (B, l, n, d), not normalized.
        v: (B, l, n, d_v).
        scales: three tensors (B, l, n), the factors that normalize q, k and p (p has the direction of k).
        g: (B, l, n), log-decay, at most 0.
        beta: (B, l, n), 0 to 1.
        state: (n, d, d_v), state before the first position, the same for the whole batch. The default is zero.
        trace: if set, the states are stored in it. The batch must be 1.

    Returns:
        o: (B, l, n, d_v).
    """
    batch, length, heads, d = q.shape
    pad = -length % chunk_size(length)
    if pad:  # padding after the end does not affect earlier positions
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
    """Outputs (B, l, n, d_v) from a list of chunks (B n, C, d_v)."""
    o = torch.stack(outputs).unflatten(1, (batch, -1))  # (chunks, B, n, C, d_v)
    return o.movedim((0, 2), (1, 3)).flatten(1, 2)


def prepare(q: Tensor, k: Tensor, v: Tensor, scales: tuple[Tensor, Tensor, Tensor], g: Tensor, beta: Tensor) -> Chunks:
    """Compute everything that does not depend on the state. Arguments as in `chunked_comba`.

    l must be a multiple of `chunk_size(l)`.
    """
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
    # exp(G_t - G_s) for s <= t. The row above is exp(G_{t-1} - G_s) for s < t.
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
    """Run the recurrence over chunks, from a state (R, d, d_v) or from zero.

    Returns:
        Three lists over chunks: outputs (R, C, d_v); states before each chunk (with `to_end`, also after the last); U.
    """
    # Unbind all chunks at once. If each were indexed, its backward pass would create a tensor of all chunks.
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
    """Outputs (B, l, n, d_v) of rows that share chunks (R = n) but have different states (B n, d, d_v)."""
    # Rows become columns of one matrix: n wide products instead of B n small ones.
    wide = state.unflatten(0, (batch, -1)).movedim(0, 2).flatten(2)  # (n, d, B d_v)
    outputs, _, _ = scan(dataclasses.replace(chunks, v=chunks.v.repeat(1, 1, 1, batch)), wide)
    o = torch.stack(outputs).unflatten(-1, (batch, -1))  # (chunks, n, C, B, d_v)
    return o.permute(3, 0, 2, 1, 4).flatten(1, 2)


def fla_comba(
    q: Tensor, k: Tensor, v: Tensor, scales: tuple[Tensor, Tensor, Tensor], g: Tensor, beta: Tensor
) -> Tensor:
    """The recurrence from a zero state on the CUDA kernel of flash-linear-attention. Shapes as in `chunked_comba`."""
    from fla.ops.comba import chunk_comba  # an optional dependency that lags behind torch, see pyproject.toml

    q_scale, k_scale, p_scale = (scale.unsqueeze(-1) for scale in scales)
    q, k, p = q * q_scale, k * k_scale, k * p_scale
    q, k, v, p, g, beta = (x.contiguous() for x in (q, k, v, p, g, beta))
    out, _ = chunk_comba(q=q, k=k, v=v, p=p, g=g, beta=beta, scale=q.shape[-1] ** -0.5)
    return out

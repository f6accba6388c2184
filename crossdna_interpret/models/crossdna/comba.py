"""Comba: a gated bilinear recurrence with closed-loop correction (arXiv 2506.02475), computed in chunks.

    B  batch        n  heads        C    positions of a chunk
    l  positions    d  key size     d_v  value size

The recurrence, for one head, from S = 0 [d, d_v]:

    u_t = beta_t (v_t - S_{t-1}^T p_t)           the correction reads the state before it decays
    S_t = exp(g_t) S_{t-1} + k_t u_t^T
    o_t = S_t^T q_t / sqrt(d)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.config import CrossDNAConfig

__all__ = ["Backend", "Comba", "chunked_comba", "fla_comba"]

Backend = Literal["auto", "torch", "fla"]
Recurrence = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

CHUNK = 32


def _decay(log: Tensor) -> Tensor:
    """exp(log) with exact zeros below the cube root of the smallest normal number; see `_Flush`."""
    floor = math.log(torch.finfo(log.dtype).tiny) / 3
    return log.masked_fill(log < floor, -math.inf).exp()


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


def chunked_comba(q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """The recurrence over all positions, without a loop over positions.

    Inside a chunk that starts from state S, with G the running sum of g, the corrections solve a unit lower-triangular
    system, so that U = T^-1 (beta V) - T^-1 (beta exp(G_{t-1}) P) S: both right-hand sides are solved for all chunks at
    once, and only the C-fold shorter recurrence over chunk states is sequential.

    Args:
        q, k, p: (B, n, l, d), L2-normalised over d by the caller.
        v: (B, n, l, d_v).
        g: (B, n, l), log-decay, at most 0.
        beta: (B, n, l), in 0 to 1.

    Returns:
        o: (B, n, l, d_v).
    """
    length, d = q.shape[-2:]
    size = min(CHUNK, length)
    pad = -length % size
    if pad:  # positions with k = 0, beta = 0 and g = 0 leave the state as it is
        q, k, v, p = (F.pad(x, (0, 0, 0, pad)) for x in (q, k, v, p))
        g, beta = (F.pad(x, (0, pad)) for x in (g, beta))
    q, k, v, p = (x.unflatten(2, (-1, size)) for x in (q, k, v, p))  # (B, n, chunks, C, d)
    g, beta = (x.unflatten(2, (-1, size)) for x in (g, beta))  # (B, n, chunks, C)

    # Differences of running sums cancel: in float32 a strong decay would cost the digits of all that follow it.
    exact = g.double()
    exact_total = exact.cumsum(-1)
    exact_before = exact_total - exact
    total, before = exact_total.to(g.dtype), exact_before.to(g.dtype)  # G_t, G_{t-1}
    seen = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    # Masked before exp: above the diagonal the exponents are positive and may overflow.
    end = exact_total.unsqueeze(-2)
    past = _decay((exact_before.unsqueeze(-1) - end).to(g.dtype).masked_fill(~seen.tril(-1), -math.inf))
    upto = _decay((exact_total.unsqueeze(-1) - end).to(g.dtype).masked_fill(~seen, -math.inf))

    flush: Callable[[Tensor], Tensor] = _Flush.apply
    k_t = k.transpose(-1, -2)
    weight = beta.unsqueeze(-1)
    system = weight * past * (p @ k_t)  # strictly lower; the unit diagonal is implied below
    right = torch.cat([weight * v, weight * _decay(before).unsqueeze(-1) * p], dim=-1)
    solved = flush(torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True))
    u_own, u_state = solved.split([v.shape[-1], d], dim=-1)

    read = upto * (q @ k_t)  # (B, n, chunks, C, C)
    q_state = _decay(total).unsqueeze(-1) * q
    k_state = (_decay((exact_total[..., -1:] - exact_total).to(g.dtype)).unsqueeze(-1) * k).transpose(-1, -2)
    keep = _decay(total[..., -1])[..., None, None]

    state = q.new_zeros(*q.shape[:2], d, v.shape[-1])
    outputs = []
    chunks = q.shape[2]
    for c in range(chunks):
        u = flush(u_own[:, :, c] - u_state[:, :, c] @ state)
        outputs.append(q_state[:, :, c] @ state + read[:, :, c] @ u)
        if c + 1 < chunks:
            state = flush(keep[:, :, c] * state + k_state[:, :, c] @ u)
    return torch.cat(outputs, dim=2)[:, :, :length] * d**-0.5


def fla_comba(q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """The same by flash-linear-attention's compiled kernel; CUDA only, shapes as in `chunked_comba`."""
    from fla.ops.comba import chunk_comba  # an extra that trails torch; see pyproject.toml

    q, k, v, p = (x.transpose(1, 2).contiguous() for x in (q, k, v, p))
    g, beta = (x.transpose(1, 2).contiguous() for x in (g, beta))
    out, _ = chunk_comba(q=q, k=k, v=v, p=p, g=g, beta=beta, scale=q.shape[-1] ** -0.5)
    return out.transpose(1, 2)


def _fla_problem(x: Tensor) -> str | None:
    """Why flash-linear-attention cannot serve this tensor, or None if it can."""
    if not x.is_cuda:
        return f"the model is on {x.device.type}, and its kernels need CUDA"
    if x.dtype == torch.float64:
        return "its kernels have no float64"
    try:
        import fla.ops.comba  # noqa: F401
    except Exception as error:  # an import of compiled extras may fail in any way
        return f"flash-linear-attention cannot be imported ({type(error).__name__}: {error})"
    return None


def select_recurrence(backend: Backend, x: Tensor) -> Recurrence:
    """The function that computes the recurrence for tensors like `x`.

    Raises:
        RuntimeError: `backend="fla"` where it cannot run; the message says why.
    """
    if backend == "torch" or (backend == "auto" and not x.is_cuda):
        return chunked_comba
    problem = _fla_problem(x)
    if problem is None:
        return fla_comba
    if backend == "fla":
        raise RuntimeError(f"`backend`='fla' cannot be used: {problem}. Use backend='torch' or 'auto'.")
    return chunked_comba


def causal_depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise convolution over time in which the output at t sees t - width + 1 to t.

    Args:
        x: (B, l, channels).
        weight: (channels, 1, width), the layout of Conv1d.
    """
    width = weight.shape[-1]
    padded = F.pad(x.transpose(1, 2), (width - 1, 0))
    return F.conv1d(padded, weight, groups=weight.shape[0]).transpose(1, 2)


def unit(x: Tensor) -> Tensor:
    """L2-normalise over the last axis."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


class Comba(nn.Module):
    """(B, l, H) -> (B, l, H). All projections of the input are rows of one matrix: q, k, v, output gate, a, b."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        n, d, d_v = config.comba_heads, config.comba_head_dim, config.comba_value_dim
        self.heads, self.key_dim, self.value_dim = n, d, d_v
        self.eps = config.comba_norm_eps
        self.backend: Backend = "auto"
        self.splits = [2 * n * d + n * d_v, n * d_v, n, n]
        self.in_proj = nn.Linear(config.d_model, sum(self.splits), bias=False)
        self.conv: nn.Parameter | None = None
        if config.conv_size is not None:
            self.conv = nn.Parameter(torch.empty(self.splits[0], 1, config.conv_size))
            nn.init.kaiming_uniform_(self.conv, a=math.sqrt(5))
        # Initial values for training: decay rates 1 to 16 and time steps 1e-3 to 1e-1, spread evenly over the heads.
        self.A_log = nn.Parameter(torch.linspace(1, 16, n).log())
        step = torch.logspace(-3, -1, n)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.decay = nn.Parameter(torch.ones(n))
        self.D = nn.Parameter(torch.full((n,), 0.02))
        self.o_norm = nn.Parameter(torch.ones(d_v))
        self.o_proj = nn.Linear(n * d_v, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, d, d_v = self.heads, self.key_dim, self.value_dim
        qkv, out_gate, a, b = self.in_proj(x).split(self.splits, dim=-1)
        if self.conv is not None:
            qkv = causal_depthwise(qkv, self.conv)
        q, k, v = F.silu(qkv).split([n * d, n * d, n * d_v], dim=-1)
        q, k = q.unflatten(-1, (n, d)).transpose(1, 2), k.unflatten(-1, (n, d)).transpose(1, 2)
        v = v.unflatten(-1, (n, d_v)).transpose(1, 2)
        p = k * torch.sigmoid(self.decay).view(n, 1, 1)
        q = q - self.D.view(n, 1, 1) * p
        beta = torch.sigmoid(b).transpose(1, 2)
        g = (-self.A_log.exp() * F.softplus(a + self.dt_bias)).transpose(1, 2)
        recurrence = select_recurrence(self.backend, x)
        o = recurrence(unit(q), unit(k), v, unit(p), g, beta).transpose(1, 2)  # (B, l, n, d_v)
        o = F.rms_norm(o, (d_v,), self.o_norm, self.eps) * torch.sigmoid(out_gate).unflatten(-1, (n, d_v))
        return self.o_proj(o.flatten(2))

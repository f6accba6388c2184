"""Comba: projections, short convolution, the recurrence and its gated output (arXiv 2506.02475).

B  batch        n  heads        l  positions
H  width        d  key size     d_v  value size
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.kernels import KernelUser
from crossdna_interpret.models.crossdna.recurrence import RecurrenceTrace, chunk_size, chunked_comba, fla_comba

__all__ = ["Backend", "Comba", "CombaPast", "CombaTrace", "causal_depthwise", "choose_backend"]

Backend = Literal["auto", "torch", "fla"]


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


def choose_backend(backend: Backend, x: Tensor) -> Literal["torch", "fla"]:
    """What computes the recurrence for tensors like `x`.

    Raises:
        RuntimeError: `backend="fla"` where it cannot run; the message says why.
    """
    if backend == "torch" or (backend == "auto" and not x.is_cuda):
        return "torch"
    problem = _fla_problem(x)
    if problem is None:
        return "fla"
    if backend == "fla":
        raise RuntimeError(f"`backend`='fla' cannot be used: {problem}. Use backend='torch' or 'auto'.")
    return "torch"


def causal_depthwise(x: Tensor, weight: Tensor, before: Tensor | None = None, pad: int = 0) -> Tensor:
    """Depthwise convolution over time in which the output at t sees t - width + 1 to t.

    Args:
        x: (B, l, channels).
        weight: (channels, 1, width), the layout of Conv1d.
        before: (1, width - 1, channels), what came before the first position; zeros if not given.
        pad: positions after the last to go on for, with zeros.

    Returns:
        (B, l + pad, channels).
    """
    width = weight.shape[-1]
    length = x.shape[1] + pad
    if x.dtype == torch.float64 and not x.is_cuda:  # for which the CPU has only a loop over the channels
        padded = F.pad(x, (0, 0, width - 1, pad))
        taps = weight[:, 0].unbind(-1)
        out = padded[:, :length] * taps[0]
        for back in range(1, width):
            out = torch.addcmul(out, padded[:, back : back + length], taps[back])
    else:
        # As an image of one row whose channels lie side by side in memory, it is convolved without being copied.
        around = max(width - 1, pad)
        image = x.mT.unsqueeze(2)
        out = F.conv2d(image, weight.unsqueeze(2), padding=(0, around), groups=len(weight)).squeeze(2).mT
        out = out[:, around - width + 1 :][:, :length]
    if before is not None and width > 1:
        reach = min(width - 1, length)
        out[:, :reach] += causal_depthwise(before, weight, pad=reach)[:, -reach:]
    return out


@dataclass(frozen=True)
class CombaPast:
    """What Comba needs of the positions before the first: `tail` (1, conv_size - 1, channels) of the projections that
    are convolved (None without convolution), and `state` (n, d, d_v) of the recurrence."""

    tail: Tensor | None
    state: Tensor


@dataclass
class CombaTrace:
    """What a pass over one sequence leaves behind: all projections (1, l, ...), and the recurrence."""

    projected: Tensor | None = None
    recurrence: RecurrenceTrace = field(default_factory=RecurrenceTrace)


class Comba(KernelUser):
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

    def past_at(self, position: int, trace: CombaTrace) -> CombaPast:
        """What is needed to go on at `position` of the sequence that left the trace."""
        assert trace.projected is not None
        tail = None
        if self.conv is not None:
            reach = self.conv.shape[-1] - 1
            tail = trace.projected[:, max(0, position - reach) : position, : self.splits[0]]
            tail = F.pad(tail, (0, 0, reach - tail.shape[1], 0))
        return CombaPast(tail, trace.recurrence.state_at(position))

    def forward(self, x: Tensor, past: CombaPast | None = None, trace: CombaTrace | None = None) -> Tensor:
        return self.mix(self.project(x, trace), past, trace)

    def project(self, x: Tensor, trace: CombaTrace | None = None) -> Tensor:
        """(B, l, ...) the input's projections; without a trace, good until the next call."""
        kernels = self.kernels_for(x) if trace is None else None
        return self.in_proj(x) if kernels is None else kernels.project(x, self.in_proj.weight)

    def mix(
        self,
        projected: Tensor,
        past: CombaPast | None = None,
        trace: CombaTrace | None = None,
        shared: Tensor | None = None,
    ) -> Tensor:
        """(B, l, H) from the input's projections (B, l, ...); further positions `shared` are the same for the batch."""
        n, d, d_v = self.heads, self.key_dim, self.value_dim
        kernels = self.kernels_for(projected) if trace is None else None
        if kernels is not None:
            taps = None if self.conv is None else self.conv[:, 0].t().contiguous()
            to_p = torch.sigmoid(self.decay)
            per_head = self.A_log.exp(), self.dt_bias, to_p, self.D * to_p
            return self.o_proj(kernels.comba(projected, shared, taps, past, per_head, self.o_norm, self.eps))
        if shared is not None:
            projected = torch.cat([projected, shared.expand(len(projected), -1, -1)], dim=1)
        length = projected.shape[1]
        qkv, out_gate, a, b = projected.split(self.splits, dim=-1)
        pad = -length % chunk_size(length)
        if self.conv is not None:
            qkv = causal_depthwise(qkv, self.conv, None if past is None else past.tail, pad)
        elif pad:
            qkv = F.pad(qkv, (0, 0, 0, pad))
        q, k, v = F.silu(qkv).split([n * d, n * d, n * d_v], dim=-1)
        q, k, v = q.unflatten(-1, (n, d)), k.unflatten(-1, (n, d)), v.unflatten(-1, (n, d_v))
        to_p = torch.sigmoid(self.decay)  # p = to_p k
        q = torch.addcmul(q, k, -(self.D * to_p).unsqueeze(-1))
        k_squared = torch.linalg.vecdot(k, k)
        scales = (
            torch.rsqrt(torch.linalg.vecdot(q, q) + 1e-6),
            torch.rsqrt(k_squared + 1e-6),
            torch.rsqrt(to_p.square() * k_squared + 1e-6) * to_p,
        )
        a, b = (F.pad(y, (0, 0, 0, pad)) for y in (a, b))
        g = -self.A_log.exp() * F.softplus(a + self.dt_bias)
        beta = torch.sigmoid(b)
        if past is None and trace is None and choose_backend(self.backend, projected) == "fla":
            o = fla_comba(q, k, v, scales, g, beta)
        else:
            state = None if past is None else past.state
            o = chunked_comba(q, k, v, scales, g, beta, state, None if trace is None else trace.recurrence)
        o = o[:, :length]  # (B, l, n, d_v)
        if trace is not None:
            trace.projected = projected
        rms = torch.rsqrt(torch.linalg.vecdot(o, o) / d_v + self.eps).unsqueeze(-1)
        gated = torch.sigmoid(out_gate).unflatten(-1, (n, d_v)) * (o * rms)
        # The norm's weight goes into the projection, which is smaller than what it would be applied to.
        return F.linear(gated.flatten(2), self.o_proj.weight * self.o_norm.repeat(n))

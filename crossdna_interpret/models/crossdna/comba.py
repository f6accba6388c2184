"""Comba: projections, short convolution, recurrence and gated output (arXiv 2506.02475).

B  batch        n  heads        l  positions
H  width        d  key size     d_v  value size
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.native.bindings import Kernels, active_kernels
from crossdna_interpret.models.crossdna.plain import is_plain
from crossdna_interpret.models.crossdna.recurrence import (
    by_position,
    chunk_size,
    chunked_comba,
    fla_comba,
    go_on,
    prepare,
    scan,
)
from crossdna_interpret.models.crossdna.states import CombaPast, CombaTrace, Resumed

__all__ = ["Backend", "Comba", "CombaPast", "CombaTrace", "causal_depthwise", "choose_backend"]

Backend = Literal["auto", "torch", "fla"]


def _fla_problem(x: Tensor) -> str | None:
    """Reason why flash-linear-attention cannot process this tensor, or None."""
    if not x.is_cuda:
        return f"the model is on {x.device.type}, and its kernels need CUDA"
    if x.dtype == torch.float64:
        return "its kernels have no float64"
    try:
        import fla.ops.comba  # noqa: F401
    except Exception as error:  # importing compiled code can raise any error
        return f"flash-linear-attention cannot be imported ({type(error).__name__}: {error})"
    return None


def choose_backend(backend: Backend, x: Tensor) -> Literal["torch", "fla"]:
    """The implementation of the recurrence to use for tensors like `x`.

    Raises:
        RuntimeError: `backend="fla"` cannot run here. The message says why.
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
    """Causal depthwise convolution: the output at t depends on the inputs at t - width + 1 to t.

    Args:
        x: (B, l, channels).
        weight: (channels, 1, width), the layout of Conv1d.
        before: (1, width - 1, channels), inputs before the first position. The default is zeros.
        pad: additional output positions after the last input, for which the input is zero.

    Returns:
        (B, l + pad, channels).
    """
    width = weight.shape[-1]
    length = x.shape[1] + pad
    if x.dtype == torch.float64 and not x.is_cuda:  # the CPU's float64 convolution is a slow loop over channels
        padded = F.pad(x, (0, 0, width - 1, pad))
        taps = weight[:, 0].unbind(-1)
        out = padded[:, :length] * taps[0]
        for back in range(1, width):
            out = torch.addcmul(out, padded[:, back : back + length], taps[back])
    else:
        # An image of one row has the channels-last memory layout, so the convolution makes no copy.
        around = max(width - 1, pad)
        image = x.mT.unsqueeze(2)
        out = F.conv2d(image, weight.unsqueeze(2), padding=(0, around), groups=len(weight)).squeeze(2).mT
        out = out[:, around - width + 1 :][:, :length]
    if before is not None and width > 1:
        reach = min(width - 1, length)
        out[:, :reach] += causal_depthwise(before, weight, pad=reach)[:, -reach:]
    return out


class Comba(nn.Module):
    """(B, l, H) -> (B, l, H). One matrix holds all input projections: q, k, v, output gate, a, b."""

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
        # Initial values for training, spaced evenly over the heads: decay rates 1 to 16, time steps 1e-3 to 1e-1.
        self.A_log = nn.Parameter(torch.linspace(1, 16, n).log())
        step = torch.logspace(-3, -1, n)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.decay = nn.Parameter(torch.ones(n))
        self.D = nn.Parameter(torch.full((n,), 0.02))
        self.o_norm = nn.Parameter(torch.ones(d_v))
        self.o_proj = nn.Linear(n * d_v, config.d_model, bias=False)

    def past_at(self, position: int, trace: CombaTrace) -> CombaPast:
        """The state from which to continue at `position` of the traced sequence."""
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
        """Projections (B, l, ...) of the input. Without a trace, they are valid until the next call."""
        kernels = active_kernels(x) if trace is None else None
        plain = is_plain(self.in_proj, nn.Linear)
        return self.in_proj(x) if kernels is None or not plain else kernels.project(x, self.in_proj.weight)

    def mix(self, projected: Tensor, past: CombaPast | None = None, trace: CombaTrace | None = None) -> Tensor:
        """Output (B, l, H) from the projections (B, l, ...)."""
        kernels = self._kernels(projected) if trace is None else None
        if kernels is not None:
            return self._by_kernels(kernels, projected, past)
        length = projected.shape[1]
        pad = -length % chunk_size(length)
        if past is None and trace is None and choose_backend(self.backend, projected) == "fla":
            o = fla_comba(*self._inputs(projected, None, 0))
        else:
            o = chunked_comba(
                *self._inputs(projected, None if past is None else past.tail, pad),
                None if past is None else past.state,
                None if trace is None else trace.recurrence,
            )
        if trace is not None:
            trace.projected = projected
        return self._leave(self._gated(o[:, :length], projected))

    def resume(self, projected: Tensor, start: int, trace: CombaTrace) -> Tensor:
        """Continue at `start` of the traced sequence to its end: (B, l - start, H).

        Args:
            projected: (B, ., ...) projections of the positions from `start` on. Later positions use the trace.
            start: first position.
            trace: trace of a full pass over a sequence of l positions.
        """
        assert trace.projected is not None
        plan = self._plan(start, start + projected.shape[1], trace)
        if plan is None:
            shared = trace.projected[:, start + projected.shape[1] :].expand(len(projected), -1, -1)
            past = self.past_at(start, trace) if start else None
            return self.mix(torch.cat([projected, shared], dim=1), past)
        # `end` is a chunk boundary of the trace. Before it, everything is computed for each row. After it, only what
        # depends on the state. The rows begin slightly before `start`, so that their last chunk is full at `end`.
        begin, end = plan
        chunks = trace.recurrence.chunks
        assert chunks is not None
        batch, stop = len(projected), start + projected.shape[1]
        around = [trace.projected[:, begin:start], projected, trace.projected[:, stop:end]]
        own = torch.cat([part.expand(batch, -1, -1) for part in around], dim=1)
        past = self.past_at(begin, trace) if begin else None
        of_own = prepare(*self._inputs(own, None if past is None else past.tail, 0))
        outputs, states, _ = scan(of_own, None if past is None else past.state.repeat(batch, 1, 1), to_end=True)
        state = states[-1]
        assert state is not None
        o = by_position(outputs, batch)[:, start - begin :]
        rest = trace.projected[:, end:]
        o_rest = go_on(chunks.after(end // chunks.size), state, batch)[:, : rest.shape[1]]
        gated = [self._gated(o, own[:, start - begin :]), self._gated(o_rest, rest)]
        return self._leave(torch.cat(gated, dim=1))

    def resume_each(
        self, projected: Tensor, resumed: Resumed, trace: CombaTrace, owned: Tensor | None = None
    ) -> Tensor:
        """Continue n sequences, each at its own position of the traced sequence, on kernels: (1, T, H).

        Args:
            projected: (1, ., ...) projections of all positions. With `owned`, only of the first positions of each
                sequence. Later positions use the trace.
            resumed: the sequences.
            trace: trace of a full pass over a sequence of the same length.
            owned: (n + 1,) offsets of the sequences in `projected`.
        """
        kernels = self._kernels(projected)
        assert kernels is not None
        past = CombaPast(None, kernels.states_at(resumed.places, trace.recurrence))
        return self._by_kernels(kernels, projected, past, resumed, trace.projected, owned)

    def _kernels(self, x: Tensor) -> Kernels | None:
        """The active kernels for `x`, if they are compiled for heads of these sizes."""
        kernels = active_kernels(x)
        taps = 0 if self.conv is None else self.conv.shape[-1]
        own = self.key_dim, self.value_dim, taps
        fits = kernels is not None and (kernels.sizes.key, kernels.sizes.value, kernels.sizes.taps) == own
        return kernels if fits else None

    def _plan(self, start: int, stop: int, trace: CombaTrace) -> tuple[int, int] | None:
        """(begin, end) of the positions computed for each row, or None if sharing the rest is not faster."""
        assert trace.projected is not None
        assert trace.recurrence.chunks is not None
        size, length = trace.recurrence.chunks.size, trace.projected.shape[1]
        reach = 0 if self.conv is None else self.conv.shape[-1] - 1
        end = -(-(stop + reach) // size) * size
        if end + size > length:
            return None
        begin = start
        while (end - begin) % chunk_size(end - begin):
            begin -= 1
        return (begin, end) if begin >= 0 else None

    def _inputs(
        self, projected: Tensor, tail: Tensor | None, pad: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """Inputs of the recurrence for l + pad positions: q, k, v, their scales, g and beta."""
        n, d, d_v = self.heads, self.key_dim, self.value_dim
        qkv, _, a, b = projected.split(self.splits, dim=-1)
        if self.conv is not None:
            qkv = causal_depthwise(qkv, self.conv, tail, pad)
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
        return q, k, v, scales, g, torch.sigmoid(b)

    def _gated(self, o: Tensor, projected: Tensor) -> Tensor:
        """Normed and gated outputs (B, l, n d_v) from (B, l, n, d_v), without the weight of the norm."""
        gate = torch.sigmoid(projected.split(self.splits, dim=-1)[1]).unflatten(-1, o.shape[-2:])
        rms = torch.rsqrt(torch.linalg.vecdot(o, o) / self.value_dim + self.eps).unsqueeze(-1)
        return (gate * (o * rms)).flatten(2)

    def _leave(self, gated: Tensor) -> Tensor:
        if not is_plain(self.o_proj, nn.Linear):
            left: Tensor = self.o_proj(gated * self.o_norm.repeat(self.heads))
            return left
        # Multiply the norm's weight into the projection, which is smaller than the activations.
        return F.linear(gated, self.o_proj.weight * self.o_norm.repeat(self.heads))

    def _by_kernels(
        self,
        kernels: Kernels,
        projected: Tensor,
        past: CombaPast | None,
        resumed: Resumed | None = None,
        around: Tensor | None = None,
        owned: Tensor | None = None,
    ) -> Tensor:
        taps = None if self.conv is None else self.conv[:, 0].t().contiguous()
        to_p = torch.sigmoid(self.decay)
        per_head = self.A_log.exp(), self.dt_bias, to_p, self.D * to_p
        gated = kernels.comba(
            projected, taps, past, per_head, self.o_norm, self.eps, resumed=resumed, around=around, owned=owned
        )
        return self.o_proj(gated)

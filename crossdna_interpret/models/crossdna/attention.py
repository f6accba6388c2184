"""Causal sliding-window attention with rotary positions, and the gated MLP: the transformer half of a layer."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.linear import tiled
from crossdna_interpret.models.crossdna.native.bindings import active_kernels
from crossdna_interpret.models.crossdna.plain import is_plain
from crossdna_interpret.models.crossdna.states import AttentionPast, AttentionTrace, Resumed

__all__ = ["Attention", "AttentionPast", "AttentionTrace", "GatedMLP", "rotary_table", "windowed_attention"]


def rotary_table(length: int, dim: int, theta: float, like: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
    """cos and sin, each (length, dim / 2), of the rotary embedding from position `start` on.

    Angles are computed in float64. The tables are at least float32, as `rotate` needs complex numbers.
    """
    longest = 1 << (start + length - 1).bit_length()
    models = longest, dim, theta, torch.promote_types(like.dtype, torch.float32), like.device
    # A table that is made during graph capture belongs to that graph, so it must not be cached.
    cos, sin = _make_table(*models) if torch.compiler.is_compiling() else _kept_table(*models)
    return cos[start : start + length], sin[start : start + length]


def _make_table(length: int, dim: int, theta: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    angle = torch.arange(length, dtype=torch.float64, device=device).unsqueeze(-1) * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


@functools.lru_cache(maxsize=8)
def _kept_table(length: int, dim: int, theta: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # a cached tensor must also work outside inference mode
        return _make_table(length, dim, theta, dtype, device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (B, l, heads, d) with tables (l, d / 2). Channels 2i and 2i + 1 are pair i."""
    exact = x if x.dtype == torch.float64 else x.float()  # complex numbers need at least float32
    pairs = torch.view_as_complex(exact.unflatten(-1, (-1, 2)))
    reverse = pairs * torch.complex(cos, sin).to(pairs.dtype).unsqueeze(1)
    return torch.view_as_real(reverse).flatten(-2).to(x.dtype)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int, past: AttentionPast | None = None) -> Tensor:
    """Attention in which position i sees position j if 0 <= i - j < window. Memory grows as l * window.

    Args:
        q: (B, heads, l, d).
        k, v: (B, kv_heads, l, d). kv_heads must divide heads.
        window: positions that a query sees, including its own.
        past: keys and values before the first position, the same for the whole batch.

    Returns:
        (B, heads, l, d).
    """
    length = q.shape[2]
    before_k, before_v = (None, None) if past is None else (past.keys, past.values)
    if q.shape[1] != k.shape[1]:
        groups = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        if before_k is not None and before_v is not None:
            before_k, before_v = (x.repeat_interleave(groups, dim=1) for x in (before_k, before_v))
    if length <= window:
        if before_k is None or before_v is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        reach = min(window - 1, before_k.shape[2])
        before_k, before_v = (x[:, :, x.shape[2] - reach :] for x in (before_k, before_v))
        k, v = (torch.cat([x.expand(len(q), -1, -1, -1), y], 2) for x, y in ((before_k, k), (before_v, v)))
        behind = torch.arange(length, device=q.device).unsqueeze(-1) + reach
        behind = behind - torch.arange(reach + length, device=q.device)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind < window))
    # Split into tiles as long as the window. A query then sees only its own tile and the previous one.
    q, k, v = (F.pad(x, (0, 0, 0, -length % window)).unflatten(2, (-1, window)) for x in (q, k, v))
    missing = window
    if before_k is None or before_v is None:
        k, v = (torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3) for x in (k, v))
    else:
        missing = max(0, window - before_k.shape[2])
        before_k, before_v = (
            F.pad(x[:, :, -window:], (0, 0, missing, 0)).unsqueeze(2).expand(len(q), -1, -1, -1, -1)
            for x in (before_k, before_v)
        )
        k, v = (
            torch.cat([torch.cat([before, x[:, :, :-1]], dim=2), x], dim=3)
            for before, x in ((before_k, k), (before_v, v))
        )
    row = torch.arange(window, device=q.device)
    behind = row.unsqueeze(-1) + window - torch.arange(2 * window, device=q.device)  # distance from query to key
    mask = ((behind >= 0) & (behind < window)).expand(q.shape[2], -1, -1).clone()
    mask[0, :, :missing] = False  # there are no keys before the first tile
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.flatten(2, 3)[:, :, :length]


class Attention(nn.Module):
    """(B, l, H) -> (B, l, H). Query, key and value projections are rows of one matrix."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        self.dim = config.d_model // config.attention_heads
        self.splits = [config.d_model, config.key_value_heads * self.dim, config.key_value_heads * self.dim]
        self.window, self.theta = config.window_size, config.rope_theta
        self.qkv_proj = nn.Linear(config.d_model, sum(self.splits), bias=False)
        self.o_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        past: AttentionPast | None = None,
        trace: AttentionTrace | None = None,
        resumed: Resumed | None = None,
    ) -> Tensor:
        start = 0 if past is None or resumed is not None else past.keys.shape[2]
        length = x.shape[1] if resumed is None else resumed.length
        cos, sin = rotary_table(length, self.dim, self.theta, x, start)
        kernels = active_kernels(x) if trace is None else None
        if kernels is not None and kernels.sizes.head == self.dim:
            kv_heads = self.splits[1] // self.dim
            return self.o_proj(kernels.attention(self.qkv_proj(x), kv_heads, self.window, past, (cos, sin), resumed))
        # The published rotation pairs channel i of a head with channel i + d / 2. Scores do not depend on the order of
        # channels, so the projection puts both channels side by side. `rotate` then treats them as a complex number.
        if is_plain(self.qkv_proj, nn.Linear):
            projected = F.linear(x, self._partners_together(self.qkv_proj.weight))
        else:
            projected = self._partners_together(self.qkv_proj(x).movedim(-1, 0)).movedim(0, -1).contiguous()
        heads = projected.unflatten(-1, (-1, self.dim))  # (B, l, all heads, d)
        rotated = rotate(heads[:, :, : -(self.splits[2] // self.dim)], cos, sin)
        q, k = (y.transpose(1, 2) for y in rotated.split([y // self.dim for y in self.splits[:2]], dim=2))
        v = heads[:, :, -(self.splits[2] // self.dim) :].transpose(1, 2)
        if trace is not None:
            trace.keys, trace.values = k.contiguous(), v.contiguous()  # so that `resume` does not copy them each time
        out = windowed_attention(q, k, v, self.window, past)
        return self.o_proj(out.transpose(1, 2).flatten(2))

    def _partners_together(self, rows: Tensor) -> Tensor:
        """Reorder rows of queries and keys, so that the two channels of a rotary pair are adjacent."""
        qk, v = rows.split([self.splits[0] + self.splits[1], self.splits[2]])
        return torch.cat([qk.unflatten(0, (-1, 2, self.dim // 2)).transpose(1, 2).flatten(0, 2), v])


class GatedMLP(nn.Module):
    """down(silu(gate x) * up x). The weights of gate and up are one matrix."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.d_model, 2 * config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not is_plain(self.gate_up_proj, nn.Linear):
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
            return self.down_proj(F.silu(gate) * up)
        weight = self.gate_up_proj.weight
        kernels = active_kernels(x)

        def tile(rows: Tensor) -> Tensor:
            if kernels is not None:
                return self.down_proj(kernels.gated(kernels.project(rows, weight)))
            gate, up = (F.linear(rows, each) for each in weight.chunk(2))
            return self.down_proj(F.silu(gate, inplace=True).mul_(up))

        return tiled(tile, x, len(weight))

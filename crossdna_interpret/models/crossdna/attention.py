"""Causal sliding-window attention with rotary positions, and the gated MLP: the transformer half of a layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.config import CrossDNAConfig

__all__ = ["Attention", "GatedMLP", "rotary_table", "windowed_attention"]


def rotary_table(length: int, dim: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin, each (length, dim / 2), of the rotary embedding; angles are computed in float64."""
    frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=like.device) / dim)
    angle = torch.arange(length, dtype=torch.float64, device=like.device).unsqueeze(-1) * frequency
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary embedding of x (B, heads, l, d)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attention in which position i sees j with 0 <= i - j < window; memory grows as l * window.

    Args:
        q: (B, heads, l, d).
        k, v: (B, kv_heads, l, d), with kv_heads dividing heads.

    Returns:
        (B, heads, l, d).
    """
    length = q.shape[2]
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    if length <= window:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    # Cut into tiles of one window: a query sees only its own tile and the one before it.
    q, k, v = (F.pad(x, (0, 0, 0, -length % window)).unflatten(2, (-1, window)) for x in (q, k, v))
    k, v = (torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3) for x in (k, v))
    row = torch.arange(window, device=q.device)
    behind = row.unsqueeze(-1) + window - torch.arange(2 * window, device=q.device)  # how far the key is behind
    mask = ((behind >= 0) & (behind < window)).expand(q.shape[2], -1, -1).clone()
    mask[0, :, :window] = False  # nothing comes before the first tile
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

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (-1, self.dim)).transpose(1, 2) for y in self.qkv_proj(x).split(self.splits, dim=-1))
        cos, sin = rotary_table(x.shape[1], self.dim, self.theta, like=x)
        out = windowed_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, self.window)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    """down(silu(gate x) * up x); gate and up are rows of one matrix."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.d_model, 2 * config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)

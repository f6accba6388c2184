"""Inputs of the compiled kernels in tests, and what Comba computes of them on kernels and in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.attention import rotary_table, rotate, windowed_attention
from crossdna_interpret.models.crossdna.comba import Comba
from crossdna_interpret.models.crossdna.native.bindings import Kernels
from crossdna_interpret.models.crossdna.states import AttentionPast, CombaPast
from tests.models.kernel_sizes import SIZES, config_of

# A busy machine is no reason to fail, so examples have no deadline; `make_model` keeps nothing from one to the next.
unhurried = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])

every_size = pytest.mark.parametrize("size", SIZES)


class Random:
    """Numbers in float64 that float32 has too, so that both types and their reference see the same."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).double()


def comba_of(size: str, heads: int, random: Random, decay: float = 1.0) -> Comba:
    """In float64, with random parameters, and without the last projection."""
    # The norm's usual epsilon lets it blow the rounding of tiny outputs up three hundredfold.
    layer = Comba(config_of(size, comba_heads=heads, comba_norm_eps=0.01)).double().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(random(*parameter.shape))
    layer.A_log.copy_((decay * layer.A_log.exp()).log().float())
    width = heads * layer.value_dim
    layer.o_proj = nn.Linear(width, width, bias=False, dtype=torch.float64)
    layer.o_proj.weight.copy_(torch.eye(width))
    return layer


def projections_of(layer: Comba, random: Random, batch: int, length: int) -> Tensor:
    return random(batch, length, sum(layer.splits))


def past_of(layer: Comba, random: Random) -> CombaPast:
    """A random state, and what comes before the first position."""
    tail = None if layer.conv is None else random(1, layer.conv.shape[-1] - 1, layer.splits[0])
    return CombaPast(tail, random(layer.heads, layer.key_dim, layer.value_dim))


def past_in(past: CombaPast | None, dtype: torch.dtype) -> CombaPast | None:
    if past is None:
        return None
    return CombaPast(None if past.tail is None else past.tail.to(dtype), past.state.to(dtype))


def comba_by_kernels(
    kernels: Kernels, layer: Comba, projected: Tensor, past: CombaPast | None = None, **resumed: Any
) -> Tensor:
    """What the kernels give for the layer, before its last projection."""
    dtype = kernels.dtype
    taps = None if layer.conv is None else layer.conv[:, 0].t().contiguous().to(dtype)
    to_p = torch.sigmoid(layer.decay)
    rate, step, to_p, skip = (x.to(dtype) for x in (layer.A_log.exp(), layer.dt_bias, to_p, layer.D * to_p))
    norm, per_head = layer.o_norm.to(dtype), (rate, step, to_p, skip)
    return kernels.comba(projected.to(dtype), taps, past_in(past, dtype), per_head, norm, layer.eps, **resumed)


def comba_by_torch(layer: Comba, projected: Tensor, past: CombaPast | None = None) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: copy.deepcopy(layer).to(dtype).mix(projected.to(dtype), past_in(past, dtype))


def rotated(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys (B, heads, l, d) as published (channel i with i + d / 2), rotated, partners adjacent."""
    adjacent = x.unflatten(-1, (2, -1)).mT.flatten(-2)
    return rotate(adjacent.transpose(1, 2), *table).transpose(1, 2)


def attention_by_torch(
    projections: Tensor, heads: tuple[int, int], window: int, past: AttentionPast | None = None
) -> Tensor:
    """From projections (B, l, .) to as many heads of queries, and of keys and values; after what came before."""
    query_heads, kv_heads = heads
    length, dim = projections.shape[1], projections.shape[-1] // (query_heads + 2 * kv_heads)
    table = rotary_table(length, dim, 10000.0, projections, 0 if past is None else past.keys.shape[2])
    parts = projections.split([query_heads * dim, kv_heads * dim, kv_heads * dim], dim=-1)
    q, k, v = (part.unflatten(-1, (-1, dim)).transpose(1, 2) for part in parts)
    q, k = (rotated(x, table) for x in (q, k))
    return windowed_attention(q, k, v, window, past).transpose(1, 2).flatten(2)

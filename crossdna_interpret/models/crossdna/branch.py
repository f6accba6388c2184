"""One branch: a stack of layers. Each is a Comba and a transformer, joined by a gate. Causal along its strand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.attention import Attention, GatedMLP
from crossdna_interpret.models.crossdna.comba import Comba
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.linear import split_linear
from crossdna_interpret.models.crossdna.native.bindings import active_kernels
from crossdna_interpret.models.crossdna.states import AttentionPast, AttentionTrace, Resumed
from crossdna_interpret.models.hooks import HookPoint
from crossdna_interpret.models.spans import Locus

__all__ = ["Branch", "Layer"]

# The published transformer scales its normed input by s and divides its output by s again.
SCALE = 2**-0.5


class Layer(nn.Module):
    """(B, l, H) -> (B, l, H)."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        width = config.d_model
        self.eps = config.transformer_norm_eps
        self.comba = Comba(config)
        self.mixer_norm = nn.Parameter(torch.ones(width))
        self.attention = Attention(config)
        self.mlp_norm = nn.Parameter(torch.ones(width))
        self.mlp = GatedMLP(config)
        self.gate = nn.Linear(2 * width, width)
        self.out_norm = nn.LayerNorm(width, eps=1e-5)
        self.hook_comba = HookPoint()  # (B, l, H), m
        self.hook_attention = HookPoint()  # (B, l, H), before the division by s and the sum
        self.hook_mlp = HookPoint()  # (B, l, H), before the sum
        self.hook_out = HookPoint()  # (B, l, H), after the gate and the norm

    def forward(self, x: Tensor, where: Locus | None = None) -> Tensor:
        return self.finish(self.comba(x), where)

    def finish(
        self,
        m: Tensor,
        where: Locus | None = None,
        past: AttentionPast | None = None,
        trace: AttentionTrace | None = None,
        resumed: Resumed | None = None,
    ) -> Tensor:
        """The part of the layer after the Comba. `m` is the output of the Comba."""
        m = self.hook_comba(m, where)
        normed = self._normed(m, self.mixer_norm, SCALE)
        h = m + self.hook_attention(self.attention(normed, past, trace, resumed), where) / SCALE
        t = h + self.hook_mlp(self.mlp(self._normed(h, self.mlp_norm)), where)
        logits = split_linear([m, t], self.gate)
        kernels = active_kernels(m)
        if kernels is not None:
            return self.hook_out(kernels.gate_norm(m, t, logits, self.out_norm), where)
        g = torch.sigmoid(logits)
        return self.hook_out(self.out_norm(torch.lerp(m, t, g)), where)

    def _normed(self, x: Tensor, weight: Tensor, scale: float = 1.0) -> Tensor:
        kernels = active_kernels(x)
        if kernels is not None:
            return kernels.rms_norm(x, weight, self.eps, scale)
        return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), self.eps) * scale


class Branch(nn.Module):
    """(B, l, H) -> (B, l, H), on one block, read 5' to 3' on its strand."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.output_norm = nn.LayerNorm(config.d_model, eps=1e-5)
        self.hook_out = HookPoint()  # (B, l, H), in the order of its strand

    def forward(self, x: Tensor, where: Locus | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, where)
        return self.hook_out(self.output_norm(x), where)

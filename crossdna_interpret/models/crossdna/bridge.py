"""TokenBridge, the cross-strand module, and the fusion of the two branches after it.

Both work on one block of B sequences, l positions and H channels, with both branches in the order of the sequence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.hooks import HookPoint
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.kernels import Kernels
from crossdna_interpret.strand import BlockPair

__all__ = ["DILATIONS", "Fusion", "TokenBridge"]

DILATIONS = (1, 2, 4, 8, 16)
KERNEL = 9


class Context(nn.Module):
    """What a position sees of its strand's neighbourhood: (B, l, H) -> (B, l, H), up to 64 positions away."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding="same", dilation=dilation, groups=width, bias=False)
            for dilation in DILATIONS
        )
        self.mix = nn.Linear(len(DILATIONS) * width, width)
        self.kernels: Kernels | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kernels is not None and self.kernels.serves(x):
            return self.mix(self.kernels.dilated(x, torch.stack([conv.weight[:, 0].t() for conv in self.convs])))
        channels_first = x.transpose(1, 2)
        seen = torch.cat([conv(channels_first) for conv in self.convs], dim=1)
        return self.mix(seen.transpose(1, 2))


class TokenBridge(nn.Module):
    """Each branch receives a gated message from the other: two (B, l, H) -> two (B, l, H)."""

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        width = config.d_model
        self.context_of_a, self.context_of_b = Context(width), Context(width)
        self.project_b_to_a, self.project_a_to_b = nn.Linear(width, width), nn.Linear(width, width)
        self.pool_b_to_a, self.pool_a_to_b = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(4 * width, 2 * width)
        self.norm_a, self.norm_b = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.hook_context_a, self.hook_context_b = HookPoint(), HookPoint()  # (B, l, H), of that branch's own features
        self.hook_global_b_to_a, self.hook_global_a_to_b = HookPoint(), HookPoint()  # (B, 1, H), from the sender's mean
        self.hook_message_b_to_a, self.hook_message_a_to_b = HookPoint(), HookPoint()  # (B, l, H), before the gate
        self.hook_gate_a, self.hook_gate_b = HookPoint(), HookPoint()  # (B, l, H), in 0 to 1, of the receiver
        self.hook_out_a, self.hook_out_b = HookPoint(), HookPoint()  # (B, l, H)

    def forward(self, a: Tensor, b: Tensor, pair: BlockPair) -> tuple[Tensor, Tensor]:
        at_a, at_b = pair.branch_a.ascending(), pair.branch_b.ascending()
        context_a = self.hook_context_a(self.context_of_a(a), at_a)
        context_b = self.hook_context_b(self.context_of_b(b), at_b)
        global_b_to_a = self.hook_global_b_to_a(self.pool_b_to_a(b.mean(1, keepdim=True)), at_b)
        global_a_to_b = self.hook_global_a_to_b(self.pool_a_to_b(a.mean(1, keepdim=True)), at_a)
        message_b_to_a = self.hook_message_b_to_a(self.project_b_to_a(b + context_b) + global_b_to_a, at_a)
        message_a_to_b = self.hook_message_a_to_b(self.project_a_to_b(a + context_a) + global_a_to_b, at_b)
        gate_a, gate_b = torch.sigmoid(self.gate(torch.cat([a, b, a - b, a * b], dim=-1))).chunk(2, dim=-1)
        gate_a, gate_b = self.hook_gate_a(gate_a, at_a), self.hook_gate_b(gate_b, at_b)
        out_a = self.hook_out_a(self.norm_a(a + gate_a * message_b_to_a), at_a)
        out_b = self.hook_out_b(self.norm_b(b + gate_b * message_a_to_b), at_b)
        return out_a, out_b


class Residual(nn.Module):
    """x + MLP(x), the projection of one branch before the fusion."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x))) + x


class Fusion(nn.Module):
    """Gated mean of the two branches: two (B, l, H) -> (B, l, H).

    The gate is one half everywhere while the stored step counter is below the freeze, also in evaluation.
    """

    steps: Tensor

    def __init__(self, config: CrossDNAConfig) -> None:
        super().__init__()
        width = config.d_model
        self.temperature, self.freeze_steps = config.gate_temp, config.gate_freeze_steps
        self.project_a, self.project_b = Residual(width), Residual(width)
        self.gate = nn.Linear(2 * width, width)
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))
        self.hook_gate_logits = HookPoint()  # (B, l, H), before temperature, sigmoid and freeze
        self.hook_gate = HookPoint()  # (B, l, H), in 0 to 1: the weight of branch A, the reverse strand in odd blocks
        self.hook_out = HookPoint()  # (B, l, H)

    def forward(self, a: Tensor, b: Tensor, pair: BlockPair) -> Tensor:
        where = pair.merged
        a, b = self.project_a(a), self.project_b(b)
        logits = self.hook_gate_logits(self.gate(torch.cat([a, b], dim=-1)), where)
        frozen = self.steps < self.freeze_steps
        gate = self.hook_gate(torch.where(frozen, 0.5, torch.sigmoid(logits / self.temperature)), where)
        return self.hook_out(F.layer_norm(torch.lerp(b, a, gate), a.shape[-1:], eps=1e-5), where)

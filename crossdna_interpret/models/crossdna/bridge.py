"""TokenBridge, the cross-strand module, and the fusion of the two branches after it.

Both work on one block of B sequences, l positions and H channels. Both branches are in sequence order.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.models.crossdna.blocks import BlockPair
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.linear import split_linear, sum_of_products, tiled
from crossdna_interpret.models.crossdna.native.bindings import Kernels, active_kernels
from crossdna_interpret.models.crossdna.plain import is_plain
from crossdna_interpret.models.hooks import HookPoint

__all__ = ["DILATIONS", "Fusion", "TokenBridge"]

DILATIONS = (1, 2, 4, 8, 16)
KERNEL = 9


class Context(nn.Module):
    """Context of each position on its own strand, from up to 64 positions away: (B, l, H) -> (B, l, H)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs: Iterable[nn.Conv1d] = nn.ModuleList(  # type: ignore[assignment]  # a list for readers of the code
            nn.Conv1d(width, width, KERNEL, padding="same", dilation=dilation, groups=width, bias=False)
            for dilation in DILATIONS
        )
        self.mix = nn.Linear(len(DILATIONS) * width, width)

    def forward(self, x: Tensor) -> Tensor:
        if not all(is_plain(conv, nn.Conv1d) for conv in self.convs):
            mixed: Tensor = self.mix(torch.cat([conv(x.mT).mT for conv in self.convs], dim=-1))
            return mixed
        weights = [conv.weight for conv in self.convs]
        kernels = active_kernels(x)
        if kernels is not None:
            return self.mix(kernels.dilated(x, torch.stack([weight[:, 0].t() for weight in weights])))
        length = x.shape[1]
        padded = F.pad(x, (0, 0, 0, -length % DILATIONS[-1]))
        seen = []
        for dilation, weight in zip(DILATIONS, weights, strict=True):
            # In an image with `dilation` columns, the taps of the kernel lie in one column.
            image = padded.unflatten(1, (-1, dilation)).permute(0, 3, 1, 2)
            image = F.conv2d(image, weight.unsqueeze(-1), padding=(KERNEL // 2, 0), groups=x.shape[-1])
            seen.append(image.permute(0, 2, 3, 1).flatten(1, 2))
        return split_linear([each[:, :length] for each in seen], self.mix)


class TokenBridge(nn.Module):
    """Each branch receives a gated message from the other branch: two (B, l, H) -> two (B, l, H)."""

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
        kernels = active_kernels(a)
        if kernels is not None:
            return self._by_kernels(kernels, a, b)
        at_a, at_b = pair.branch_a.ascending(), pair.branch_b.ascending()
        context_a = self.hook_context_a(self.context_of_a(a), at_a)
        context_b = self.hook_context_b(self.context_of_b(b), at_b)
        global_b_to_a = self.hook_global_b_to_a(self.pool_b_to_a(b.mean(1, keepdim=True)), at_b)
        global_a_to_b = self.hook_global_a_to_b(self.pool_a_to_b(a.mean(1, keepdim=True)), at_a)
        message_b_to_a = self.hook_message_b_to_a(self.project_b_to_a(b + context_b) + global_b_to_a, at_a)
        message_a_to_b = self.hook_message_a_to_b(self.project_a_to_b(a + context_a) + global_a_to_b, at_b)
        gate_a, gate_b = torch.sigmoid(self.gate_logits(a, b)).chunk(2, dim=-1)
        gate_a, gate_b = self.hook_gate_a(gate_a, at_a), self.hook_gate_b(gate_b, at_b)
        out_a = self.hook_out_a(self.norm_a(a + gate_a * message_b_to_a), at_a)
        out_b = self.hook_out_b(self.norm_b(b + gate_b * message_a_to_b), at_b)
        return out_a, out_b

    def gate_logits(self, a: Tensor, b: Tensor) -> Tensor:
        """Gate logits (B, l, 2 H) of branch A and then of branch B."""
        if not is_plain(self.gate, nn.Linear):
            logits: Tensor = self.gate(torch.cat([a, b, a - b, a * b], dim=-1))
            return logits
        # The gate is linear in a, b, a - b and a * b. The weight of a - b is added to those of a and b.
        of_a, of_b, of_difference, of_product = self.gate.weight.chunk(4, dim=1)
        weight = torch.cat([of_a + of_difference, of_b - of_difference, of_product], dim=1)
        return sum_of_products([a, b, a * b], weight, self.gate.bias)

    def _by_kernels(self, kernels: Kernels, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        logits_a, logits_b = self.gate_logits(a, b).chunk(2, dim=-1)
        message_b_to_a = self.project_b_to_a(self.context_of_b(b).add_(b))
        message_a_to_b = self.project_a_to_b(self.context_of_a(a).add_(a))
        global_b_to_a = self.pool_b_to_a(b.mean(1, keepdim=True))
        global_a_to_b = self.pool_a_to_b(a.mean(1, keepdim=True))
        return (
            kernels.receive(a, logits_a, message_b_to_a, global_b_to_a, self.norm_a),
            kernels.receive(b, logits_b, message_a_to_b, global_a_to_b, self.norm_b),
        )


class Residual(nn.Module):
    """Projection of one branch before the fusion: x + MLP(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        # With hooks, the in-place path below could overwrite a tensor that a hook has recorded.
        plain = is_plain(self.linear1, nn.Linear) and is_plain(self.linear2, nn.Linear)
        if torch.is_grad_enabled() or not plain:
            return self.linear2(F.gelu(self.linear1(x))) + x

        def tile(rows: Tensor) -> Tensor:
            return self.linear2(torch.ops.aten.gelu_(self.linear1(rows))).add_(rows)  # in place, to save two tensors

        return tiled(tile, x, self.linear1.out_features)


class Fusion(nn.Module):
    """Gated mean of the two branches: two (B, l, H) -> (B, l, H).

    While the stored step counter is below `gate_freeze_steps`, the gate is one half everywhere, also in evaluation.
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
        self.hook_gate = HookPoint()  # (B, l, H), 0 to 1: weight of branch A, which is the reverse strand in odd blocks
        self.hook_out = HookPoint()  # (B, l, H)

    def forward(self, a: Tensor, b: Tensor, pair: BlockPair) -> Tensor:
        where = pair.merged
        a, b = self.project_a(a), self.project_b(b)
        logits = self.hook_gate_logits(split_linear([a, b], self.gate), where)
        kernels = active_kernels(a)
        if kernels is not None and not bool(self.steps < self.freeze_steps):
            return self.hook_out(kernels.gate_norm(b, a, logits, None, self.temperature), where)
        gate = torch.sigmoid(logits / self.temperature)
        if self.freeze_steps > 0:
            gate = torch.where(self.steps < self.freeze_steps, 0.5, gate)
        gate = self.hook_gate(gate, where)
        return self.hook_out(F.layer_norm(torch.lerp(b, a, gate), a.shape[-1:], eps=1e-5), where)

"""Messages through the bridge of a CrossDNA model for one sequence, split into their terms.

For a fixed sequence, the states before the bridge and its gates do not depend on the messages. All computation after
the bridge treats each position separately. So messages can be replaced, scaled and differentiated without running the
branches again. This is done in float64 on the CPU, independent of the model's dtype and device.

All arrays are by strand and in sequence coordinates. Strand 0 is the forward strand, strand 1 the reverse strand. A
direction has the number of the receiving strand: 0 is reverse to forward. The values of a message are stored at the
receiving position.

    L  positions of the sequence    H  channels    S  sources of a message
    l  positions of a block         n  sets of messages, or sequences
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.models.crossdna.bridge import DILATIONS, KERNEL, Context, Fusion, TokenBridge
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.hooks import capture, hooked
from crossdna_interpret.parallel import for_each

__all__ = ["Messages", "Received", "without_messages"]

SOURCES = ("same position", *(f"dilation {dilation}" for dilation in DILATIONS), "global mean", "bias")
_NUMBERS_AT_ONCE = 1 << 20  # size of one set of messages times the path points that are computed together


def without_messages(model: CrossDNA) -> CrossDNA:
    """Copy a model and set every message to zero.

    Raises:
        ValueError: the model has no bridge, or hooks are active on it or after it.
    """
    _bridge_of(model)
    copied = copy.deepcopy(model)
    assert copied.bridge is not None
    with torch.no_grad():
        for name in ("project", "pool"):
            for way in ("a_to_b", "b_to_a"):
                layer = getattr(copied.bridge, f"{name}_{way}")
                layer.weight.zero_()
                layer.bias.zero_()
    return copied


def _bridge_of(model: CrossDNA) -> TokenBridge:
    bypassed = model.bypass_problem()
    if bypassed is not None:
        raise ValueError(f"The exchange of {model.name} cannot be analysed: {bypassed}.")
    if model.bridge is None:
        raise ValueError(f"`model` {model.name} has no bridge: its strands exchange nothing.")
    parts = {"bridge": model.bridge, "fusion": model.fusion, "lm_head": model.lm_head, "head": model.head}
    if any(hooked(module) for module in parts.values() if module is not None):
        raise ValueError(
            "Hooks are active on the bridge or after it, so the exchange cannot be analysed. Leave `capture` and "
            "`intervene` of these points first; those of the stem and the branches may stay."
        )
    problem = model.plain_problem(*parts)
    if problem is not None:
        raise ValueError(
            f"The exchange of {model.name} cannot be analysed: {problem}. Merge adapters into the weights first."
        )
    return model.bridge


@dataclass(frozen=True)
class _Readout:
    """Contribution of each position to one score, from its fused representation."""

    head: nn.Linear
    row: int | None  # of the head, or None for the log-likelihood
    length: int

    @classmethod
    def of(cls, model: CrossDNA, target: int, length: int) -> _Readout:
        return cls(model.lm_head, None, length) if model.head is None else cls(model.head.linear, target, length)

    def exact(self) -> _Readout:
        return _Readout(_exact(self.head), self.row, self.length)

    def __call__(self, fused: Tensor, where: slice, observed: Tensor) -> Tensor:
        """Contributions (n, l) from (n, l, H) at `where` and the channels (n or 1, 5, L) of the full sequences."""
        if self.row is not None:
            return fused @ self.head.weight[self.row] / self.length
        log_probability = self.head(fused)[..., :4].log_softmax(-1)
        known = (self.length - observed[:, 4].sum(-1)).clamp(min=1)
        return (log_probability * observed[:, :4, where].mT).sum(-1) / known[:, None]

    @property
    def offset(self) -> float:
        """The part of a score that does not depend on positions."""
        return 0.0 if self.row is None else float(self.head.bias[self.row])


def _exact(module: nn.Module) -> Any:
    return copy.deepcopy(module).to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)


@dataclass(frozen=True)
class _Direction:
    """One direction in one block: the positions of sender and receiver, and the weights of the message."""

    direction: int
    sender: slice
    receiver: slice
    context: Context
    project: nn.Linear
    pool: nn.Linear

    @classmethod
    def both(cls, bridge: TokenBridge, pair: blocks.BlockPair) -> tuple[_Direction, _Direction]:
        forward, reverse = (slice(at.start, at.end) for at in (pair.forward, pair.reverse))
        from_a = bridge.context_of_a, bridge.project_a_to_b, bridge.pool_a_to_b
        from_b = bridge.context_of_b, bridge.project_b_to_a, bridge.pool_b_to_a
        of_forward, of_reverse = (from_a, from_b) if pair.a_is_forward else (from_b, from_a)
        return cls(0, reverse, forward, *of_reverse), cls(1, forward, reverse, *of_forward)

    def _mixes(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each dilation: the dilation, its kernel (H, 9) and the matrix (H, H) that mixes its channels."""
        mixes = self.context.mix.weight.chunk(len(DILATIONS), dim=1)
        for dilation, conv, mix in zip(DILATIONS, self.context.convs, mixes, strict=True):
            yield dilation, conv.weight[:, 0], mix

    def parts(self, x: Tensor) -> Tensor:
        """Message by source (S, l, H), from the sender's states (l, H)."""
        seen = [x]
        for dilation, kernel, mix in self._mixes():
            at = F.conv1d(x.t()[None], kernel[:, None], padding="same", dilation=dilation, groups=x.shape[1])
            seen.append(at[0].t() @ mix.t())
        local = torch.stack(seen) @ self.project.weight.t()
        everywhere = x.mean(0) @ self.pool.weight.t()
        bias = self.project(self.context.mix.bias) + self.pool.bias
        return torch.cat([local, torch.stack([everywhere, bias])[:, None].expand(-1, len(x), -1)])

    def shares(self, gradient: Tensor, x: Tensor, into: np.ndarray) -> None:
        """Multiply the gradient with respect to the message (l, H) by each term, and add to `into` (S - 1, L, L)."""
        senders, receivers = (np.arange(at.start, at.stop) for at in (self.sender, self.receiver))
        by_projected = gradient @ self.project.weight
        into[0, receivers, senders] += (by_projected * x).sum(1).numpy()
        for source, (dilation, kernel, mix) in enumerate(self._mixes(), start=1):
            by_seen = by_projected @ mix
            for tap in range(KERNEL):
                step = (tap - KERNEL // 2) * dilation
                first, last = max(0, -step), len(x) - max(0, step)  # receivers whose sender is in the block
                if first < last:
                    terms = by_seen[first:last] * kernel[:, tap] * x[first + step : last + step]
                    into[source, receivers[first:last], senders[first + step : last + step]] += terms.sum(1).numpy()
        everywhere = (gradient @ self.pool.weight) @ x.t() / len(x)
        into[len(DILATIONS) + 1, self.receiver, self.sender] += everywhere.numpy()


class Messages:
    """The messages of one sequence, their terms, and their effects on one target.

    Args:
        model: a model with a bridge, in evaluation mode. It is not changed.
        ids: (L,) the sequence.
        target: index of the score to explain.

    Attributes:
        sources: names of the S sources of a message. The last is the bias, which has no sending position.
        states: (2, L, H) branch output of each strand, from which messages are computed.
        gates: (2, L, H) gate of the receiver in each direction, 0 to 1.
        parts: (2, S, L, H) messages by direction and source, before the gate.
        partner: (L,) for each position of the forward strand, the reverse-strand position that it is paired with.

    Raises:
        ValueError: the model has no bridge, or hooks are active on the bridge or after it.
    """

    sources = SOURCES

    def __init__(self, model: CrossDNA, ids: np.ndarray, target: int) -> None:
        self.pairs = model.pairs(len(ids))
        self.observed = torch.from_numpy(alphabet.one_hot(ids[None], np.float64))
        self.bridge: TokenBridge = _exact(_bridge_of(model))
        self.fusion: Fusion = _exact(model.fusion)
        self.readout = _Readout.of(model, target, len(ids)).exact()
        self.ways = [way for pair in self.pairs for way in _Direction.both(self.bridge, pair)]
        self.states = torch.empty(2, len(ids), model.config.d_model, dtype=torch.float64, device="cpu")
        self.gates = torch.empty_like(self.states)
        self.partner = np.empty(len(ids), dtype=np.int64)
        x = self.observed.to(device=model.device, dtype=model.dtype)
        with torch.no_grad():
            for a, b, pair in model.branches(x, strand.reverse_complement(x), self.pairs):
                a, b = blocks.flip(a, pair.branch_a)[0], blocks.flip(b, pair.branch_b)[0]
                self._put(self.states, pair, a.double().cpu(), b.double().cpu())
                self._put(self.gates, pair, *self._gates(pair))
                self.partner[slice(pair.forward.start, pair.forward.end)] = pair.reverse.ascending().positions
            self.parts = self.messages(self.states)

    @staticmethod
    def _put(into: Tensor, pair: blocks.BlockPair, of_a: Tensor, of_b: Tensor) -> None:
        for strand_of, value in ((pair.branch_a, of_a), (pair.branch_b, of_b)):
            into[int(strand_of.strand == "reverse"), strand_of.start : strand_of.end] = value

    @staticmethod
    def _get(values: Tensor, pair: blocks.BlockPair) -> Iterator[Tensor]:
        """Select the values of branch A, then of branch B: (..., l, H) from (..., 2, L, H)."""
        for at in (pair.branch_a, pair.branch_b):
            yield values[..., int(at.strand == "reverse"), at.start : at.end, :]

    def _gates(self, pair: blocks.BlockPair) -> tuple[Tensor, Tensor]:
        a, b = self._get(self.states, pair)
        gate_a, gate_b = torch.sigmoid(self.bridge.gate_logits(a[None], b[None]))[0].chunk(2, dim=-1)
        return gate_a, gate_b

    def messages(self, states: Tensor) -> Tensor:
        """Messages (2, S, L, H) by direction and source, from states (2, L, H)."""
        parts = torch.empty(2, len(SOURCES), *states.shape[1:], dtype=torch.float64, device="cpu")
        for way in self.ways:
            parts[way.direction, :, way.receiver] = way.parts(states[1 - way.direction, way.sender])
        return parts

    def _fused(self, messages: Tensor, pair: blocks.BlockPair) -> Tensor:
        (a, b), (gate_a, gate_b) = self._get(self.states, pair), self._get(self.gates, pair)
        to_a, to_b = self._get(messages, pair)
        fused: Tensor = self.fusion(self.bridge.norm_a(a + gate_a * to_a), self.bridge.norm_b(b + gate_b * to_b), pair)
        return fused

    def position_scores(self, messages: Tensor) -> Tensor:
        """Contribution (n, L) of each forward-strand position to the score, with messages (n, 2, L, H)."""
        added = []
        for pair in self.pairs:
            where = slice(pair.forward.start, pair.forward.end)
            added.append(self.readout(self._fused(messages, pair), where, self.observed))
        return torch.cat(added, dim=1)

    def score(self, messages: Tensor) -> float:
        """Score of the target with messages (2, L, H)."""
        with torch.no_grad():
            return float(self.position_scores(messages[None]).sum()) + self.readout.offset

    def fusion_gate(self) -> Tensor:
        """Weight (L, H) of the forward strand in the fusion, 0 to 1."""
        weights = []
        with torch.no_grad(), capture(self.fusion, "gate") as seen:
            self.position_scores(self.parts.sum(1)[None])
        for pair, activation in zip(self.pairs, seen["gate"], strict=True):
            weights.append(activation.value[0] if pair.a_is_forward else 1 - activation.value[0])
        return torch.cat(weights)

    def path_gradient(self, messages: Tensor, steps: int) -> Tensor:
        """Gradient (2, L, H) of the score with respect to the messages, averaged while they are scaled from 0 to 1.

        The average is a Gauss-Legendre quadrature with `steps` points.
        """
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        at_once = max(1, min(_NUMBERS_AT_ONCE // messages.numel(), -(-steps // torch.get_num_threads())))
        parts: dict[int, Tensor] = {}

        def gradient_of(first: int) -> Tensor:
            alpha = torch.from_numpy((nodes[first : first + at_once] + 1) / 2)
            weight = torch.from_numpy(weights[first : first + at_once] / 2)
            with torch.inference_mode(False), torch.enable_grad():  # independent of the caller's modes
                scaled = (alpha[:, None, None, None] * messages.clone()).requires_grad_()
                (gradient,) = torch.autograd.grad(self.position_scores(scaled).sum(), scaled)
            return (weight[:, None, None, None] * gradient).sum(0)

        for_each(range(0, steps, at_once), gradient_of, parts.__setitem__)
        return torch.stack([parts[first] for first in sorted(parts)]).sum(0)

    def shares(self, gradient: Tensor, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
        """Product of messages and their gradient (2, L, H), split by source, direction, receiver and sender.

        Returns:
            The products (S - 1, 2, L, L), and those of the bias (2, L), which has no sender.
        """
        length = self.states.shape[1]
        by_sender = np.zeros((len(SOURCES) - 1, 2, length, length), dtype=dtype)
        for way in self.ways:
            x = self.states[1 - way.direction, way.sender]
            way.shares(gradient[way.direction, way.receiver], x, by_sender[:, way.direction])
        bias = (gradient * self.parts[:, -1]).sum(-1).numpy().astype(dtype)
        return by_sender, bias


class Received(nn.Module):
    """A model with one score per position: the effect of exchange there, (n, 5, L) -> (n, L). They sum to the total.

    Args:
        model: a model with a bridge.
        target: index of the score.
        length: sequence length L.

    Raises:
        ValueError: the model has no bridge, or hooks are active on it or after it.
    """

    def __init__(self, model: CrossDNA, target: int, length: int) -> None:
        super().__init__()
        self.bridge = _bridge_of(model)
        self.model, self.name, self.dtype, self.device = model, model.name, model.dtype, model.device
        self.targets = tuple(map(str, range(length)))
        self.readout = _Readout.of(model, target, length)

    def memory_estimate(self, n: int, length: int, *, gradients: bool = False) -> int:
        """Memory estimate of the wrapped model."""
        return self.model.memory_estimate(n, length, gradients=gradients)

    def forward(self, x: Tensor) -> Tensor:
        added = []
        for a, b, pair in self.model.branches(x, strand.reverse_complement(x), self.model.pairs(x.shape[-1])):
            a, b = blocks.flip(a, pair.branch_a), blocks.flip(b, pair.branch_b)
            where = slice(pair.forward.start, pair.forward.end)
            with_messages = self.model.fusion(*self.bridge(a, b, pair), pair)
            without = self.model.fusion(self.bridge.norm_a(a), self.bridge.norm_b(b), pair)
            added.append(self.readout(with_messages, where, x) - self.readout(without, where, x))
        return torch.cat(added, dim=1)

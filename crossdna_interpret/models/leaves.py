"""Leaves: the input values with respect to which gradients are computed.

    one-hot channels         the channels themselves
    ids of a vocabulary      weights of the embeddings of A, C, G, T and N at each position
    tokens of several bases  the embedding of each token

n  points    L  positions of the sequence    P  paths    K  tokens    H  size of an embedding    T  targets
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.inputs import Bpe, OneHot, TokenIds, inputs_of
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import Embeddings, SequenceModel, StrandPaths, capability

__all__ = ["Leaf", "leaf_of"]

Values = TypeVar("Values", bound=np.ndarray)


class Leaf(Protocol):
    """The values with respect to which the scores of one sequence are differentiated.

    Attributes:
        paths: inputs of the scores: ("input",), or ("forward", "reverse") with one for each strand.
        per_base: whether each value belongs to a base at a position. If so, other sequences of this length are points
            of the same space.
        note: for the certificate, how values are converted to values of bases, or None without a conversion.
    """

    @property
    def paths(self) -> tuple[str, ...]: ...

    @property
    def per_base(self) -> bool: ...

    @property
    def note(self) -> str | None: ...

    def points(self, channels: np.ndarray) -> Tensor:
        """Points (n, ...) from channels (n, 5, L), float64, in the order ACGTN."""
        ...

    def scores(self, points: Tensor) -> Tensor:
        """Scores (n, T), differentiable."""
        ...

    def gradients(self, points: Tensor, target: int) -> Tensor:
        """Gradients (n, P, ...) of a target with respect to each path.

        Raises:
            ValueError: the scores do not depend differentiably on the points.
        """
        ...

    def by_base(self, values: np.ndarray) -> np.ndarray:
        """Values of bases (P, L, 4) from values (P, ...), in sequence coordinates and the order ACGT."""
        ...


def leaf_of(model: SequenceModel, sequence: str) -> Leaf:
    """The leaf of a model for a sequence.

    Raises:
        ValueError: the model takes tokens but does not declare `Embeddings`.
    """
    if isinstance(model, ReverseComplemented):
        inner: Any = model.model
        return _ReverseComplementedLeaf(leaf_of(inner, strand.reverse_complement(sequence)))
    inputs = inputs_of(model)
    if isinstance(inputs, OneHot):
        return _ChannelLeaf(model, inputs)
    embeddings = capability(model, Embeddings)
    if embeddings is None:
        raise _no_gradient(model)
    if isinstance(inputs, TokenIds):
        return _MixedEmbeddingLeaf(model, inputs, embeddings)
    assert isinstance(inputs, Bpe)
    return _TokenLeaf(model, inputs, embeddings, sequence)


def _no_gradient(model: SequenceModel) -> ValueError:
    return ValueError(
        f"`model` {model.name} gives no gradient of its input: it converts bases to ids of a vocabulary, or "
        "computes without gradients. `ism`, `deletion_scan`, `insertion_scan`, `pairwise_ism` and `score_edits` "
        "need none."
    )


def _differentiated(model: SequenceModel, scores: Tensor, target: int, leaves: Sequence[Tensor]) -> list[Tensor]:
    gradients: Sequence[Tensor | None] = [None]
    if scores.requires_grad:
        gradients = torch.autograd.grad(scores[:, target].sum(), leaves, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise _no_gradient(model)
    pairs = zip(gradients, leaves, strict=True)
    return [torch.zeros_like(leaf) if gradient is None else gradient for gradient, leaf in pairs]


@dataclass(frozen=True)
class _ChannelLeaf:
    """Channels (n, 5, L) in the order ACGTN."""

    model: SequenceModel
    inputs: OneHot

    per_base = True
    note = None

    @property
    def paths(self) -> tuple[str, ...]:
        split = capability(self.model, StrandPaths)
        return ("input",) if split is None else ("forward", "reverse")

    def points(self, channels: np.ndarray) -> Tensor:
        return torch.from_numpy(channels).to(device=self.model.device, dtype=self.model.dtype)

    def scores(self, points: Tensor) -> Tensor:
        return self.model(self.inputs.from_bases(points))

    def gradients(self, points: Tensor, target: int) -> Tensor:
        split = capability(self.model, StrandPaths)
        with torch.inference_mode(False), torch.enable_grad():  # these modes are per thread
            forward = points.clone().requires_grad_()
            if split is None:
                return _differentiated(self.model, self.scores(forward), target, [forward])[0].unsqueeze(1)
            reverse = strand.reverse_complement(points.clone()).requires_grad_()
            scores = split.scores(self.inputs.from_bases(forward), self.inputs.from_bases(reverse))
            by_forward, by_reverse = _differentiated(self.model, scores, target, [forward, reverse])
        return torch.stack([by_forward, strand.reverse_complement(by_reverse)], dim=1)

    def by_base(self, values: np.ndarray) -> np.ndarray:
        return values[:, :4].transpose(0, 2, 1)


@dataclass(frozen=True)
class _MixedEmbeddingLeaf:
    """Weights (n, 5, L) of the embeddings of A, C, G, T, N. Each position has a weighted sum of them."""

    model: SequenceModel
    inputs: TokenIds
    embeddings: Embeddings

    paths = ("input",)
    per_base = True
    note = None

    def points(self, channels: np.ndarray) -> Tensor:
        return torch.from_numpy(channels).to(device=self.model.device, dtype=self.model.dtype)

    def scores(self, points: Tensor) -> Tensor:
        table = self.embeddings.table()
        bases = torch.tensor(self.inputs.base_ids, device=table.device)
        mixed = points.transpose(1, 2) @ table[bases]
        around = (
            table[list(special)].expand(len(mixed), -1, -1) for special in (self.inputs.before, self.inputs.after)
        )
        first, last = around
        return self.embeddings.scores(torch.cat([first, mixed, last], dim=1))

    def gradients(self, points: Tensor, target: int) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = points.clone().requires_grad_()
            return _differentiated(self.model, self.scores(leaf), target, [leaf])[0].unsqueeze(1)

    def by_base(self, values: np.ndarray) -> np.ndarray:
        return values[:, :4].transpose(0, 2, 1)


class _TokenLeaf:
    """Embeddings (n, K, H) of the tokens of one sequence. A token's value is divided equally among its known bases."""

    paths = ("input",)
    per_base = False
    note = "of tokens, shared evenly by their known bases"

    def __init__(self, model: SequenceModel, inputs: Bpe, embeddings: Embeddings, sequence: str) -> None:
        self.model, self.inputs, self.embeddings, self.sequence = model, inputs, embeddings, sequence
        ids, self.spans = inputs.tokens(sequence)
        self.ids = torch.tensor(ids, device=model.device)
        self.bases = alphabet.one_hot(alphabet.encode(sequence), np.float64)  # (5, L)
        # Special tokens and tokens that are all N are the same in every baseline.
        fixed = [not self.bases[:4, start:end].any() for start, end in self.spans]
        self.fixed = torch.tensor(fixed, device=model.device)

    def points(self, channels: np.ndarray) -> Tensor:
        """Points of the sequence itself or of a baseline without bases.

        The baseline is the embedding of the unknown token, or zeros if there is none.
        """
        own = self.embeddings.table()[self.ids].detach()
        nothing = torch.zeros_like(own)
        if self.inputs.unknown is not None:
            nothing = self.embeddings.table()[self.inputs.unknown].detach().expand_as(own)
        nothing = torch.where(self.fixed[:, None], own, nothing)
        itself = self.bases
        rows = []
        for each in channels:
            if not np.array_equal(each, itself) and each[:, itself[4] == 0].any():
                raise ValueError(
                    f"`baseline` must be 'zeros' for {self.model.name}: its tokens have several bases, so that other "
                    "sequences have other tokens."
                )
            rows.append(own if np.array_equal(each, itself) else nothing)
        return torch.stack(rows)

    def scores(self, points: Tensor) -> Tensor:
        known = torch.ones(points.shape[:2], dtype=torch.int64, device=points.device)
        return self.embeddings.scores(points, known)

    def gradients(self, points: Tensor, target: int) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = points.clone().requires_grad_()
            return _differentiated(self.model, self.scores(leaf), target, [leaf])[0].unsqueeze(1)

    def by_base(self, values: np.ndarray) -> np.ndarray:
        by_token = values.sum(-1)
        own = self.bases[:4].T  # (L, 4)
        result = np.zeros((len(values), *own.shape))
        for at, (start, end) in enumerate(self.spans):
            known = own[start:end].sum()
            if known:
                result[:, start:end] = by_token[:, at, None, None] * own[start:end] / known
        return result


@dataclass(frozen=True)
class _ReverseComplementedLeaf:
    """The leaf of the reverse complement, in sequence coordinates."""

    leaf: Leaf

    @property
    def paths(self) -> tuple[str, ...]:
        return self.leaf.paths

    @property
    def per_base(self) -> bool:
        return self.leaf.per_base

    @property
    def note(self) -> str | None:
        return self.leaf.note

    def points(self, channels: np.ndarray) -> Tensor:
        return self.leaf.points(strand.reverse_complement(channels))

    def scores(self, points: Tensor) -> Tensor:
        return self.leaf.scores(points)

    def gradients(self, points: Tensor, target: int) -> Tensor:
        return self.leaf.gradients(points, target)

    def by_base(self, values: np.ndarray) -> np.ndarray:
        # The model's forward strand is the reverse strand of this sequence, so the paths swap.
        return strand.reverse_complement(self.leaf.by_base(values)[::-1], channel_axis=-1)

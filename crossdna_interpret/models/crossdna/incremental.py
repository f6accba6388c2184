"""Exact scores of edited sequences that reuse the states of a reference sequence.

Branches are causal along their own strand, and blocks do not exchange state. So an edit changes the output of a branch
only from the first edited position of a block on, in the reading direction of the branch. The rest is taken from the
reference: a trace holds the states of every layer, for each block and branch.

Changes are found by comparing letters, not from the edits. So all kinds of edits work: substitutions, pairs of
substitutions, insertions and deletions, with or without flanks that keep the window.

    n  edited sequences    L  positions of one    H  channels    T  targets
    m  positions of a block
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models import spans
from crossdna_interpret.models.crossdna import blocks
from crossdna_interpret.models.crossdna.branch import Branch, Layer
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.native.bindings import active_kernels
from crossdna_interpret.models.crossdna.states import AttentionPast, AttentionTrace, CombaTrace, Resumed, offsets_of

__all__ = ["Incremental"]

SPILL = 4  # positions on each side that the stem's convolution sees
OUTSIDE = -1  # id of the padding outside the sequence


@dataclass
class _LayerTrace:
    comba: CombaTrace = field(default_factory=CombaTrace)
    attention: AttentionTrace = field(default_factory=AttentionTrace)


class _ReferencePass:
    """One branch's pass over one block of the reference. Other sequences can continue it from any position."""

    def __init__(self, branch: Branch, features: Tensor) -> None:
        self.branch = branch
        self.traces = [_LayerTrace() for _ in branch.layers]
        x = features
        for layer, trace in zip(self._layers(), self.traces, strict=True):
            x = layer.finish(layer.comba(x, trace=trace.comba), trace=trace.attention)
        self.out = branch.output_norm(x)  # (1, m, H)

    def _layers(self) -> list[Layer]:
        return list(self.branch.layers)  # type: ignore[arg-type]

    def resume(self, start: int, features: Tensor, length: int) -> Tensor:
        """Output (n, length - start, H) from the features (n, ., H) of position `start` on.

        If `length` is the reference's length, the features may end earlier. Later positions then have the features of
        the reference.
        """
        x = features
        for layer, trace in zip(self._layers(), self.traces, strict=True):
            projected = layer.comba.project(x)
            if start + x.shape[1] < length:  # only in the first layer; later layers get all positions
                m = layer.comba.resume(projected, start, trace.comba)
            else:
                m = layer.comba.mix(projected, layer.comba.past_at(start, trace.comba) if start else None)
            x = layer.finish(m, past=_attention_past(trace.attention, start) if start else None)
        return self.branch.output_norm(x)

    def resume_each(self, starts: np.ndarray, features: Tensor, sizes: np.ndarray, length: int) -> Tensor:
        """Output (n, length, H) of sequences that start to differ at different positions, on kernels.

        `features` (1, ., H) are concatenated: for each sequence `sizes` positions from its start on. If `length` is the
        reference's length, they may end earlier. Later positions then have the features of the reference.
        """
        resumed = Resumed(starts, length)
        whole = bool((starts + sizes == length).all())
        x = features
        for number, (layer, trace) in enumerate(zip(self._layers(), self.traces, strict=True)):
            projected = layer.comba.project(x)
            owned = offsets_of(sizes) if number == 0 and not whole else None
            m = layer.comba.resume_each(projected, resumed, trace.comba, owned)
            x = layer.finish(m, past=_attention_past(trace.attention), resumed=resumed)
        new = self.branch.output_norm(x)[0]
        most = int(starts.max())
        out = new.new_empty(len(starts), length, new.shape[-1])
        out[:, :most] = self.out[:, :most]
        row, position = _positions(starts, length - starts)
        out.flatten(0, 1).index_copy_(0, torch.from_numpy(row * length + position), new)
        return out

    @property
    def on_kernels(self) -> bool:
        """Whether kernels are active. They can resume each sequence at its own position."""
        return active_kernels(self.out) is not None

    @property
    def nbytes(self) -> int:
        """Memory of the stored tensors in bytes."""
        tensors = [self.out]
        for trace in self.traces:
            kept = (trace.comba.projected, trace.attention.keys, trace.attention.values)
            tensors += [x for x in kept if x is not None] + trace.comba.recurrence.tensors()
        return sum(x.nbytes for x in tensors)


def _positions(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and position of each element of several concatenated spans."""
    row = np.repeat(np.arange(len(starts)), sizes)
    return row, np.arange(len(row)) - (np.cumsum(sizes) - sizes - starts)[row]


def _attention_past(trace: AttentionTrace, start: int | None = None) -> AttentionPast:
    assert trace.keys is not None
    assert trace.values is not None
    return AttentionPast(trace.keys[:, :, :start], trace.values[:, :, :start])


def _around(ids: np.ndarray, locus: spans.Locus) -> np.ndarray:
    """Letters (n, m + 2 SPILL) of ids (n, L) that the features of a span depend on, in its reading direction."""
    start, end, length = locus.start - SPILL, locus.end + SPILL, ids.shape[1]
    letters = np.full((len(ids), end - start), OUTSIDE, dtype=np.int8)
    inner = ids[:, max(start, 0) : min(end, length)]
    if locus.strand == "forward":
        letters[:, max(-start, 0) :][:, : inner.shape[1]] = inner
    else:
        letters[:, max(end - length, 0) :][:, : inner.shape[1]] = strand.reverse_complement_ids(inner)
    return letters


class Incremental:
    """Scores of sequences similar to a reference, in evaluation mode and without gradients.

    Args:
        model: a CrossDNA model for which reuse is possible (see `family`).
        reference: (L,) ids.
        cache_bytes: limit for the stored traces of reference blocks. The two latest are always kept.
    """

    def __init__(self, model: CrossDNA, reference: np.ndarray, *, cache_bytes: int = 1 << 29) -> None:
        self.model, self.cache_bytes = model, cache_bytes
        self.length = len(reference)
        self.pairs = self.model.pairs(self.length)
        self.reference = reference[None]
        loci = [(pair.branch_a, pair.branch_b) for pair in self.pairs]
        self._seen_from = np.array([[each.start - SPILL for each in two] for two in loci])
        self._seen_to = np.array([[each.end + SPILL for each in two] for two in loci])
        self._readings: OrderedDict[tuple[int, str], _ReferencePass] = OrderedDict()
        self._lock = threading.Lock()
        self._stem: dict[str, tuple[Tensor, Tensor | None, Tensor]] = {
            "forward": self._stem_matrix("forward"), "reverse": self._stem_matrix("reverse")
        }  # fmt: skip

    @cached_property
    def sums(self) -> Tensor:
        """Contribution of each reference block to the total (blocks, .). Needed only if an edit spares a block."""
        x = torch.from_numpy(alphabet.one_hot(self.reference)).to(self.model.device, self.model.dtype)
        fused = self.model.fused_blocks(x, strand.reverse_complement(x), self.pairs)
        blocks = zip(fused, self.pairs, strict=True)
        return torch.cat([self._sum(block, self.reference, pair) for block, pair in blocks])

    def _stem_matrix(self, name: spans.Strand) -> tuple[Tensor, Tensor | None, Tensor]:
        """The stem's convolution as a matrix (H, 9 * 5), its bias, and rows for the letters, `OUTSIDE` last."""
        conv = self.model.stem.conv(name)
        letter = torch.eye(len(alphabet.ALPHABET), dtype=self.model.dtype, device=self.model.device)
        return conv.weight.mT.flatten(1), conv.bias, F.pad(letter, (0, 0, 0, 1))

    @torch.no_grad()
    def score(self, ids: np.ndarray) -> Tensor:
        """Scores (n, T) of ids (n, L') of any length. It is fastest if the edits of the rows are close together."""
        n, length = ids.shape
        same_length = length == self.length
        pairs = self.pairs if same_length else self.model.pairs(length)
        touched = self._touched(ids) if same_length else np.ones(len(pairs), dtype=bool)
        parts = []
        for pair in itertools.compress(pairs, touched):
            rows, fused = self._block(ids, pair)
            if len(rows) == n:
                here = self._sum(fused, ids, pair)
            else:
                here = self.sums[pair.index].repeat(n, 1)
                if len(rows):
                    here[torch.from_numpy(rows).to(here.device)] = self._sum(fused, ids, pair, rows)
            parts.append(here)
        if not touched.all():
            same = self.sums[torch.from_numpy(~touched).to(self.sums.device)].sum(0, keepdim=True)
            parts.append(same.expand(n, -1))
        return self._finish(torch.stack(parts).sum(0), ids)

    def _touched(self, ids: np.ndarray) -> np.ndarray:
        """Which blocks see a letter that differs from the reference in any row.

        Only the cost of this comparison is proportional to the length.
        """
        where = np.flatnonzero((ids != self.reference).any(0))
        seen = np.searchsorted(where, self._seen_to) - np.searchsorted(where, self._seen_from)
        return np.any(seen > 0, axis=1)

    def _block(self, ids: np.ndarray, pair: blocks.BlockPair) -> tuple[np.ndarray, Tensor]:
        """Rows that differ from the reference in a block, and their fused features (rows, m, H)."""
        sides = []
        for branch, locus in ((self.model.branch_a, pair.branch_a), (self.model.branch_b, pair.branch_b)):
            old = self._old_locus(pair.index, locus)
            before = None if old is None else _around(self.reference, old)
            sides.append(_BranchDiff(branch, locus, _around(ids, locus), before))
        rows = np.flatnonzero(sides[0].differs | sides[1].differs)
        if not len(rows):
            return rows, self.model.stem.conv_forward.weight.new_empty(0)
        a, b = (self._read(side, rows, pair.index) for side in sides)
        return rows, self.model.merge(a, b, pair)

    def _old_locus(self, index: int, locus: spans.Locus) -> spans.Locus | None:
        """Locus of the reference block with this index and strand, or None if there is none."""
        if index >= len(self.pairs):
            return None
        pair = self.pairs[index]
        return pair.branch_a if pair.branch_a.strand == locus.strand else pair.branch_b

    def _read(self, side: _BranchDiff, rows: np.ndarray, index: int) -> Tensor:
        """Branch output (rows, m, H) in its reading direction."""
        first = side.first[rows]
        moving = np.flatnonzero(side.differs[rows])
        start = int(first[moving].min()) if len(moving) else side.size
        if side.before is None or (len(moving) == len(rows) and not self._reuse_pays(side, start, index)):
            features = self._features(side.locus.strand, side.letters[rows])
            return side.branch(features)
        reading = self._reading(side, index)
        if start == side.size or not len(moving):
            return reading.out[:, : side.size].expand(len(rows), -1, -1)
        again = self._resumed_each if reading.on_kernels else self._resumed
        new = again(side, rows[moving], reading)
        if len(moving) == len(rows):
            return new
        out = reading.out.repeat(len(rows), 1, 1)  # unchanged rows have the reference's length
        out[torch.from_numpy(moving).to(out.device)] = new
        return out

    def _resumed(self, side: _BranchDiff, rows: np.ndarray, reading: _ReferencePass) -> Tensor:
        """Branch output (rows, m, H) for rows that differ, computed from the first difference of all rows on."""
        start = int(side.first[rows].min())
        stop = max(start + 1, int(side.last[rows].max()))
        features = self._features(side.locus.strand, side.letters[rows, start : stop + 2 * SPILL])
        new = reading.resume(start, features, side.size)
        return torch.cat([reading.out[:, :start].expand(len(rows), -1, -1), new], dim=1) if start else new

    def _resumed_each(self, side: _BranchDiff, rows: np.ndarray, reading: _ReferencePass) -> Tensor:
        """As `_resumed`, but computed for each row from its own first difference on."""
        starts = side.first[rows]
        sizes = np.minimum(np.maximum(side.last[rows] - starts, 1), side.size - starts)
        row, position = _positions(starts, sizes)
        letters = side.letters[rows[row, None], position[:, None] + np.arange(2 * SPILL + 1)]
        features = self._features(side.locus.strand, letters)  # (., 1, H)
        return reading.resume_each(starts, features.transpose(0, 1), sizes, side.size)

    def _reuse_pays(self, side: _BranchDiff, start: int, index: int) -> bool:
        """Whether reuse is faster, including a pass over the reference if there is none yet."""
        return (index, side.locus.strand) in self._readings or 8 * start >= side.size or side.stops_early

    def _reading(self, side: _BranchDiff, index: int) -> _ReferencePass:
        key = (index, side.locus.strand)
        with self._lock:  # threads share the passes over the reference
            if key not in self._readings:
                assert side.before is not None
                self._readings[key] = _ReferencePass(side.branch, self._features(side.locus.strand, side.before))
            self._readings.move_to_end(key)
            reading = self._readings[key]
            while len(self._readings) > 2 and sum(kept.nbytes for kept in self._readings.values()) > self.cache_bytes:
                self._readings.popitem(last=False)
        return reading

    def _features(self, name: spans.Strand, letters: np.ndarray) -> Tensor:
        """The stem's features (n, l, H) of letters (n, l + 2 SPILL)."""
        weight, bias, letter = self._stem[name]  # (H, 9 * 5), (H,), (6, 5)
        x = letter[torch.from_numpy(letters.astype(np.int64)).to(letter.device)]  # (n, l + 2 SPILL, 5)
        seen = x.flatten(1).unfold(1, weight.shape[1], x.shape[2])  # (n, l, 9 * 5)
        return F.gelu(F.linear(seen.reshape(-1, len(weight.mT)), weight, bias)).view(len(x), -1, len(weight))

    def _sum(
        self, fused: Tensor, ids: np.ndarray, pair: blocks.BlockPair, rows: np.ndarray | slice = slice(None)
    ) -> Tensor:
        """Contribution of a block to the total of each row, in float64: (n, H), or (n, 1) for a language model."""
        if self.model.head is not None:
            return fused.sum(1, dtype=torch.float64)
        here = torch.from_numpy(ids[:, pair.forward.start : pair.forward.end][rows].astype(np.int64)).to(fused.device)
        log_probability = self.model.lm_head(fused)[..., :4].log_softmax(-1)
        observed = log_probability.gather(-1, here.clamp(max=3).unsqueeze(-1)).squeeze(-1)
        return observed.masked_fill(here == alphabet.N_ID, 0).double().sum(1, keepdim=True)

    def _finish(self, total: Tensor, ids: np.ndarray) -> Tensor:
        if self.model.head is not None:
            return self.model.head.linear((total / ids.shape[1]).to(self.model.dtype))
        count = torch.from_numpy((ids != alphabet.N_ID).sum(1, keepdims=True)).to(total.device)
        return (total / count.clamp(min=1)).to(self.model.dtype)


class _BranchDiff:
    """Differences between the letters of the rows and of the reference, in one block and branch."""

    def __init__(self, branch: Branch, locus: spans.Locus, letters: np.ndarray, before: np.ndarray | None) -> None:
        """Compare letters (n, m + 2 SPILL) with those of the reference block `before` (1, m' + 2 SPILL), if any."""
        self.branch, self.locus, self.letters, self.before = branch, locus, letters, before
        self.size = locus.end - locus.start
        n = len(self.letters)
        self.first = np.zeros(n, dtype=np.int64)  # first position with other features than the reference
        self.last = np.full(n, self.size)  # one after the last such position
        self.differs = np.ones(n, dtype=bool)
        if before is None:
            return
        size = min(self.letters.shape[1], before.shape[1])
        unequal = self.letters[:, :size] != before[:, :size]
        some = unequal.any(1)
        first = unequal.argmax(1) - 2 * SPILL
        last = size - unequal[:, ::-1].argmax(1)
        shorter = size - 2 * SPILL
        self.first = np.where(some, np.maximum(first, 0), shorter)
        if letters.shape[1] == before.shape[1]:
            self.differs = some
            self.last = np.where(some, np.minimum(last, self.size), self.size)

    @property
    def stops_early(self) -> bool:
        """Whether the features after the middle of the block are those of the reference."""
        return bool(self.last.max() < self.size // 2)

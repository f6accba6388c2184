"""Strand maths: reverse complement, and where on the duplex each block of each branch lies.

This is the only place that converts between the coordinates of a branch, of a strand and of the sequence.
All positions are 0-based and half-open in the coordinates of the sequence as the user gave it (the forward strand,
5' to 3'). Position i of the *reverse-complement* strand is position L - 1 - i of the sequence.

A branch is not a strand: odd blocks give branch A the reverse strand and branch B the forward strand.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret import alphabet

__all__ = [
    "BlockPair",
    "Locus",
    "RcBlocks",
    "Strand",
    "block_pairs",
    "flip",
    "reverse_complement",
    "reverse_complement_ids",
    "whole",
]

Array = TypeVar("Array", np.ndarray, Tensor)
Strand = Literal["forward", "reverse", "both"]
RcBlocks = Literal["aligned", "mirrored"]


def _check_channels(shape: tuple[int, ...], channel_axis: int) -> None:
    if len(shape) < 2 or shape[channel_axis] not in (4, 5):
        raise ValueError(
            "`x` must be a string, integer ids (..., L), or one-hot channels (..., 4 or 5, L) or (..., L, 4 or 5) as "
            f"told by `channel_axis`={channel_axis}; got shape {tuple(shape)}."
        )


@overload
def reverse_complement(x: str, *, channel_axis: int = -2) -> str: ...
@overload
def reverse_complement(x: np.ndarray, *, channel_axis: int = -2) -> np.ndarray: ...
@overload
def reverse_complement(x: Tensor, *, channel_axis: int = -2) -> Tensor: ...
def reverse_complement(x: str | np.ndarray | Tensor, *, channel_axis: int = -2) -> str | np.ndarray | Tensor:
    """Reverse complement of a sequence, of ids or of channels; N is its own complement.

    Args:
        x: a string or another sequence (see `alphabet.normalize`); channels in the order ACGT or ACGTN, such as a
            one-hot encoding of any dtype, gradients or attributions; or integer ids (..., L) with A=0 C=1 G=2 T=3 N=4.
            Integers are channels if they are zeros and ones, with 4 or 5 on `channel_axis`, and at most a single one
            at each position. numpy arrays and tensors both work, and tensors stay
            differentiable.
        channel_axis: -2 for channels first (..., C, L), -1 for channels last (..., L, C). Ignored for strings and ids.

    Returns:
        The same type and shape as `x`; a string for a sequence.

    Raises:
        TypeError: `x` is none of these.
        ValueError: floating-point or bool `x` without 4 or 5 channels on `channel_axis`; integers that are no ids,
            or that may be either.

    Example:
        >>> reverse_complement("AACGN")
        'NCGTT'
    """
    if alphabet.is_single(x):
        return alphabet.decode(alphabet.complement_ids(alphabet.encode(alphabet.normalize(x, name="x")))[::-1])
    if not isinstance(x, (np.ndarray, Tensor)):
        raise TypeError(f"`x` must be a sequence, a numpy array or a tensor, but got {type(x).__name__}.")
    if channel_axis not in (-1, -2):
        raise ValueError(f"`channel_axis` must be -2 (channels first) or -1 (channels last), but got {channel_axis}.")
    kind = str(x.dtype).removeprefix("torch.")
    if "complex" in kind or kind == "object" or kind.startswith(("<U", "|S")):
        raise TypeError(f"`x` must hold numbers, but holds {kind}.")
    if "int" in kind and not _looks_one_hot(x, channel_axis):
        return reverse_complement_ids(x)  # type: ignore[type-var]  # one of the two types
    _check_channels(tuple(x.shape), channel_axis)
    # Reversing ACGT complements it, which is why the alphabet is in that order; N, if there, stays last.
    order = [3, 2, 1, 0, 4][: x.shape[channel_axis]]
    length_axis = -1 if channel_axis == -2 else -2
    if isinstance(x, Tensor):
        return x.index_select(channel_axis, torch.tensor(order, device=x.device)).flip(length_axis)
    return np.flip(np.take(x, order, axis=channel_axis), length_axis).copy()


def reverse_complement_ids(x: Array) -> Array:
    """Reverse complement of integer ids (..., L), A=0 C=1 G=2 T=3 N=4, whatever they look like.

    Raises:
        ValueError: other numbers.
    """
    if bool(((x < 0) | (x > alphabet.N_ID)).any()):
        raise ValueError("`x` must hold ids from 0 to 4, or one-hot channels, but holds other numbers.")
    if isinstance(x, Tensor):
        return torch.where(x < 4, 3 - x, x).flip(-1)
    return alphabet.complement_ids(x)[..., ::-1].copy()


def _looks_one_hot(x: np.ndarray | Tensor, channel_axis: int) -> bool:
    if x.ndim < 2 or x.shape[channel_axis] not in (4, 5) or bool(((x != 0) & (x != 1)).any()):
        return False
    ones = x.sum(channel_axis)
    if bool((ones > 1).any()):
        return False
    if 2 * int((ones == 1).sum()) <= math.prod(ones.shape):
        raise ValueError(
            f"`x` of shape {tuple(x.shape)} may be ids of A and C, or one-hot channels that are mostly N. Give "
            "channels as bool or floating-point numbers, or ids one sequence at a time."
        )
    return True


@dataclass(frozen=True, slots=True)
class Locus:
    """What stretch of which strand an activation stands for.

    Attributes:
        strand: "forward", "reverse", or "both" where the strands have been merged.
        start, end: the stretch in coordinates of the sequence, 0-based half-open.
        descending: True if index 0 of the activation is position ``end - 1`` (the strand is read in its own 5' to 3').
        block: number of the block, or None for the whole sequence.
    """

    strand: Strand
    start: int
    end: int
    descending: bool = False
    block: int | None = None

    @property
    def positions(self) -> np.ndarray:
        """(end - start,) int64: the position in the sequence of each index of the activation."""
        positions = np.arange(self.start, self.end)
        return positions[::-1].copy() if self.descending else positions

    def ascending(self) -> Locus:
        """The same stretch with index 0 at `start`."""
        return replace(self, descending=False)

    def own_slice(self, length: int) -> slice:
        """Where the stretch lies in features of its own strand, read 5' to 3', of a sequence of `length`."""
        return slice(length - self.end, length - self.start) if self.descending else slice(self.start, self.end)


@dataclass(frozen=True, slots=True)
class BlockPair:
    """The two stretches that meet in the bridge: what branch A and branch B are given in block `index`."""

    index: int
    branch_a: Locus
    branch_b: Locus

    @property
    def forward(self) -> Locus:
        """The stretch on the forward strand, whichever branch has it; fused activations are ordered by it."""
        return self.branch_a if self.branch_a.strand == "forward" else self.branch_b

    @property
    def reverse(self) -> Locus:
        """The stretch on the reverse strand, whichever branch has it."""
        return self.branch_b if self.branch_a.strand == "forward" else self.branch_a

    @property
    def a_is_forward(self) -> bool:
        """Whether branch A reads the forward strand in this block."""
        return self.branch_a.strand == "forward"

    @property
    def merged(self) -> Locus:
        """The locus of an activation that has merged both strands; in mirrored pairing it is the forward one's."""
        return replace(self.forward, strand="both")


def whole(strand: Strand, length: int) -> Locus:
    """The locus of an activation that covers a whole strand, in that strand's own 5' to 3' order.

    Example:
        >>> whole("reverse", 3).positions.tolist()
        [2, 1, 0]
    """
    return Locus(strand, 0, length, descending=strand == "reverse")


def block_pairs(
    length: int, block_size: int | None, rc_blocks: RcBlocks, *, first: int | None = None
) -> list[BlockPair]:
    """Cut a sequence into blocks and pair each forward block with a block of the reverse strand.

    Args:
        length: L, in bases.
        block_size: l; the last block may be shorter. None is one block of the whole length.
        rc_blocks: "aligned" pairs a forward block with the reverse strand of the same base pairs. "mirrored" pairs
            block t in forward coordinates with block t in reverse-complement coordinates, as published CrossDNA
            weights were trained: with more than one block that is another locus.
        first: positions of the first block, which moves all boundaries; l if not given.

    Returns:
        Pairs in forward order: ceil(L / l) of them, if all blocks but the last are whole.

    Example:
        >>> [(p.branch_a.strand, p.branch_b.start, p.branch_b.end) for p in block_pairs(10, 4, "aligned")]
        [('forward', 0, 4), ('reverse', 4, 8), ('forward', 8, 10)]
        >>> block_pairs(10, 4, "mirrored")[0].branch_b.positions.tolist()
        [9, 8, 7, 6]
    """
    size = length if block_size is None else block_size
    boundaries = [0, *range(size if first is None else first, length, size), length]
    pairs = []
    for index, (start, end) in enumerate(itertools.pairwise(boundaries)):
        forward = Locus("forward", start, end, block=index)
        rc_start, rc_end = (start, end) if rc_blocks == "aligned" else (length - end, length - start)
        reverse = Locus("reverse", rc_start, rc_end, descending=True, block=index)
        a, b = (forward, reverse) if index % 2 == 0 else (reverse, forward)
        pairs.append(BlockPair(index, a, b))
    return pairs


def flip(features: Tensor, locus: Locus) -> Tensor:
    """Features (N, l, H) of a locus, reordered so that index 0 is the locus's first position in the sequence."""
    return features.flip(1) if locus.descending else features

"""Positions of the blocks of each branch in the sequence.

Only this module converts between coordinates of a branch, a strand and the sequence. A branch is not a strand: in odd
blocks branch A reads the reverse strand and branch B the forward strand.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from crossdna_interpret.models.spans import Locus

__all__ = ["BlockPair", "RcBlocks", "block_pairs", "flip"]

RcBlocks = Literal["aligned", "mirrored"]


@dataclass(frozen=True, slots=True)
class BlockPair:
    """The two spans that meet in the bridge: the inputs of branch A and branch B in block `index`."""

    index: int
    branch_a: Locus
    branch_b: Locus

    @property
    def forward(self) -> Locus:
        """The span on the forward strand, of either branch. It sets the order of fused activations."""
        return self.branch_a if self.branch_a.strand == "forward" else self.branch_b

    @property
    def reverse(self) -> Locus:
        """The span on the reverse strand, of either branch."""
        return self.branch_b if self.branch_a.strand == "forward" else self.branch_a

    @property
    def a_is_forward(self) -> bool:
        """Whether branch A reads the forward strand in this block."""
        return self.branch_a.strand == "forward"

    @property
    def merged(self) -> Locus:
        """The locus of an activation after both strands are merged. In mirrored pairing it is the forward locus."""
        return replace(self.forward, strand="both")


def block_pairs(
    length: int, block_size: int | None, rc_blocks: RcBlocks, *, first: int | None = None
) -> list[BlockPair]:
    """Cut a sequence into blocks and pair each forward block with a block of the reverse strand.

    Args:
        length: L, in bases.
        block_size: positions per block, l. The last block may be shorter. None is one block of the whole length.
        rc_blocks: "aligned" pairs a forward block with the reverse strand of the same base pairs. "mirrored" pairs
            block t in forward coordinates with block t in reverse-complement coordinates. With several blocks these
            are different base pairs. Published CrossDNA weights were trained with "mirrored".
        first: positions in the first block, l by default. A smaller value shifts all block boundaries.

    Returns:
        Pairs in forward order. By default there are ceil(L / l).

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
    """Reorder features (N, l, H) of a locus, so that index 0 is the first position of the locus in the sequence."""
    return features.flip(1) if locus.descending else features

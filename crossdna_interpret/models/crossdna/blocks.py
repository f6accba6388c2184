"""Where on the sequence each block of each branch lies.

This is the only place that converts between the coordinates of a branch, of a strand and of the sequence. A branch is
not a strand: in odd blocks branch A reads the reverse strand and branch B the forward strand.
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

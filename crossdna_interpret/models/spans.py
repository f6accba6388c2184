"""Spans: the positions of an activation, on one strand or both.

Spans are 0-based and half-open, in coordinates of the user's sequence (the forward strand, 5' to 3').
Position i of the reverse-complement strand is position L - 1 - i of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

__all__ = ["Locus", "Strand", "whole"]

Strand = Literal["forward", "reverse", "both"]


@dataclass(frozen=True, slots=True)
class Locus:
    """The span and the strand of an activation.

    Attributes:
        strand: "forward", "reverse", or "both" after the strands are merged.
        start, end: the span in sequence coordinates, 0-based, half-open.
        descending: True if index 0 of the activation is position ``end - 1``, so the reverse strand is read 5' to 3'.
        block: index of the block, or None for the whole sequence.
    """

    strand: Strand
    start: int
    end: int
    descending: bool = False
    block: int | None = None

    @property
    def positions(self) -> np.ndarray:
        """(end - start,) int64: sequence position of each index of the activation."""
        positions = np.arange(self.start, self.end)
        return positions[::-1].copy() if self.descending else positions

    def ascending(self) -> Locus:
        """The same span with index 0 at `start`."""
        return replace(self, descending=False)

    def own_slice(self, length: int) -> slice:
        """The span as a slice of features of its own strand, read 5' to 3', for a sequence of `length`."""
        return slice(length - self.end, length - self.start) if self.descending else slice(self.start, self.end)


def whole(strand: Strand, length: int) -> Locus:
    """The locus of an activation that covers a whole strand, in 5' to 3' order of that strand.

    Example:
        >>> whole("reverse", 3).positions.tolist()
        [2, 1, 0]
    """
    return Locus(strand, 0, length, descending=strand == "reverse")

"""Sequences in a temporary file, one byte a base."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

__all__ = ["Packed", "packed"]


@dataclass(frozen=True, eq=False)
class Packed(Sequence[np.ndarray]):
    """N read-only arrays (L,) uint8 of any length.

    Attributes:
        bases: all of them and perhaps others, one behind the other.
        starts, ends: (N,) int64, where each lies.
    """

    bases: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice | np.ndarray) -> Packed: ...
    def __getitem__(self, at: int | slice | np.ndarray) -> np.ndarray | Packed:
        if isinstance(at, (slice, np.ndarray)):
            return Packed(self.bases, self.starts[at], self.ends[at])
        result: np.ndarray = self.bases[self.starts[at] : self.ends[at]]
        return result


def packed(pieces: Iterable[Sequence[np.ndarray]]) -> Packed:
    """Write pieces of several sequences into a temporary file. The file is deleted when it is no longer used.

    Raises:
        OSError: the file cannot be written.
    """
    lengths: list[np.ndarray] = []
    try:
        with tempfile.TemporaryFile() as file:
            for piece in pieces:
                file.write(np.concatenate(piece).tobytes())
                lengths.append(np.array([len(ids) for ids in piece], dtype=np.int64))
            file.flush()
            bases = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    except OSError as error:
        raise OSError(f"The sequences cannot be kept in {tempfile.gettempdir()}: {error}") from error
    ends = np.cumsum(np.concatenate(lengths))
    return Packed(bases, ends - np.concatenate(lengths), ends)

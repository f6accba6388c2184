"""Measured sequences in families, such as the mutants of one promoter.

N  sequences    L  positions    T  targets    P  pairs
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret.measured.pairs import close_pairs

__all__ = ["Families", "FamilyBatch", "joined"]

FamilyBatch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Families:
    """Sequences of one length with measurements. A batch has each row beside a relative that differs in a few bases.

    Attributes:
        ids: (N, L) uint8.
        targets: (N, T) float32. NaN is not measured.
        weight: (N,) float32, weight of each row.
        pairs: (P, 2) rows of close relatives, each pair once.
        target_names: T names.

    Raises:
        ValueError: arrays whose shapes do not fit.
    """

    ids: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    pairs: np.ndarray
    target_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.ids)
        expected = {"targets": (n, len(self.target_names)), "weight": (n,), "pairs": (len(self.pairs), 2)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"`{name}` must have shape {shape}, but has {getattr(self, name).shape}.")
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        both = both[np.argsort(both[:, 0], kind="stable")]
        object.__setattr__(self, "_relatives", both[:, 1])
        object.__setattr__(self, "_first", np.searchsorted(both[:, 0], np.arange(n + 1)))

    _relatives: np.ndarray = None  # type: ignore[assignment]
    _first: np.ndarray = None  # type: ignore[assignment]

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        targets: np.ndarray,
        weight: np.ndarray,
        family: np.ndarray,
        target_names: Sequence[str],
        *,
        max_changes: int = 4,
    ) -> Families:
        """Families from the family (N,) of each row. Relatives differ in one to `max_changes` bases."""
        return cls(ids, targets, weight, close_pairs(ids, family, max_changes), tuple(target_names))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) length of each sequence in bases."""
        return np.full(len(self), self.ids.shape[1], dtype=np.int64)

    def rows(self, index: np.ndarray) -> Families:
        """The rows in `index`, in this order, and the pairs among them."""
        place = np.full(len(self), -1)
        place[index] = np.arange(len(index))
        pairs = place[self.pairs]
        pairs = pairs[(pairs >= 0).all(1)]
        return Families(self.ids[index], self.targets[index], self.weight[index], pairs, self.target_names)

    def batch(self, index: np.ndarray) -> FamilyBatch:
        """Rows and their partners: ids (2 n, L), targets (2 n, T), weight (2 n,), related (n,) bool.

        The second half are the partners, in the same order. A partner is a random close relative. A row without
        relatives has a random row as partner, and `related` is false. The choice depends only on `index`.
        """
        index = np.asarray(index, dtype=np.int64)
        random = np.random.default_rng(index)
        first, count = self._first[index], self._first[index + 1] - self._first[index]
        related = count > 0
        partners = random.integers(len(self), size=len(index))
        chosen = first + (random.random(len(index)) * count).astype(np.int64)
        partners[related] = self._relatives[chosen[related]]
        both = np.concatenate([index, partners])
        columns = self.ids[both], self.targets[both], self.weight[both], related
        ids, targets, weight, pairs = map(torch.from_numpy, columns)
        return ids, targets, weight, pairs

    def means(self) -> np.ndarray:
        """(T,) weighted mean of each target over the rows in which it is measured."""
        measured = ~np.isnan(self.targets)
        total = (np.where(measured, self.targets, 0) * self.weight[:, None]).sum(0)
        means: np.ndarray = total / (measured * self.weight[:, None]).sum(0)
        return means.astype(np.float32)

    def content_hash(self) -> str:
        """SHA-256 of the full content, hexadecimal."""
        content = hashlib.sha256(repr((self.ids.shape, self.target_names)).encode())
        for column in (self.ids, self.targets, self.weight, self.pairs):
            content.update(np.ascontiguousarray(column).tobytes())
        return content.hexdigest()


def joined(first: Families, second: Families) -> Families:
    """All rows of both, those of the first before those of the second.

    Raises:
        ValueError: different targets or lengths.
    """
    if first.target_names != second.target_names:
        raise ValueError(f"`second` must have the targets {first.target_names}, but has {second.target_names}.")
    if first.ids.shape[1] != second.ids.shape[1]:
        raise ValueError(f"`second` must have {first.ids.shape[1]} bases, but has {second.ids.shape[1]}.")
    return Families(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.targets, second.targets]),
        np.concatenate([first.weight, second.weight]),
        np.concatenate([first.pairs, second.pairs + len(first)]),
        first.target_names,
    )

"""Batches, and the search for a fast batch size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

__all__ = ["BatchSizeTuner"]


class BatchSizeTuner:
    """Splits work into batches of a fixed size, or of the fastest of several sizes.

    Args:
        size: items in a batch.
        trials: sizes to try first, in this order. The fastest of them replaces `size`.
    """

    def __init__(self, size: int, trials: Iterable[int] = ()) -> None:
        self.size, self.trials = size, list(trials)
        self._best: dict[int, float] = {}
        self._tried = set(self.trials)

    def batches(self, order: list[int], shape: Callable[[int], int]) -> Iterator[list[int]]:
        """Yield batches in which all items have the same shape.

        Args:
            order: indices of the items. Items of the same shape must be adjacent.
            shape: returns the shape of an item.
        """
        for _, group in itertools.groupby(order, key=shape):
            rest = list(group)
            while rest:
                size = self.trials.pop(0) if self.trials else self.size
                batch, rest = rest[:size], rest[size:]
                yield batch

    def record(self, count: int, seconds: float) -> None:
        """Record how long a batch took.

        Only full batches of a trial size count. The last batch of a group may be smaller.

        Args:
            count: items in the batch.
            seconds: time for the batch.
        """
        if count not in self._tried:
            return
        self._best[count] = min(seconds / count, self._best.get(count, float("inf")))
        if not self.trials and len(self._best) > 1:
            self.size = min(self._best, key=self._best.__getitem__)

"""Motif weights, learned from how often each motif matches more than by chance.

n stretches    M motifs    K words
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from crossdna_interpret.dna import alphabet

__all__ = ["Prevalence"]

_WORD = 8  # stretches that share a word of this length are not independent
_ENOUGH, _MOST = 30, 3000  # smallest and largest number of stretches to learn from. With fewer, all weights are equal
_BLOCK = 256  # stretches whose weights are computed at once
_EQUAL_SHARE = 0.5  # fraction of the weight divided equally among all motifs, so that rare motifs can still be found
# Assumed density of p values of true matches: _EXPONENT * p ** (_EXPONENT - 1). It is 50 at p = 0.001 and 0.1 at 1.
_EXPONENT = 0.1
_SMALLEST = 1e-37


class Prevalence:
    """Weights of motifs for each stretch, with mean 1, from how often the motifs match other stretches.

    P values stay valid after division by weights, if the weights do not depend on them (Genovese, Roeder and Wasserman
    2006). So the weights for a stretch are learned only from stretches that share no word of eight bases with it. A
    frequent word that matches a motif by chance does so each time. For the same reason, stretches that share words
    count as one. Each stretch is attributed to the motifs, and to chance, in proportion to how well they explain its p
    values.

    Args:
        p_values: (n, M) p value of each motif for each stretch.
        stretches: ids of each of the n stretches.
    """

    def __init__(self, p_values: np.ndarray, stretches: Sequence[np.ndarray]) -> None:
        self.p_values = p_values
        from scipy.sparse import csr_array

        words = [_words(ids) for ids in stretches]
        ends = np.cumsum([0, *map(len, words)])
        columns = np.concatenate([*words, np.empty(0, dtype=np.int64)])
        self._words = csr_array((np.ones(len(columns), np.float32), columns, ends), shape=(len(words), 4**_WORD))
        everyone = np.arange(len(stretches))
        if len(everyone) > _MOST:
            everyone = np.sort(np.random.default_rng(0).choice(everyone, _MOST, replace=False))
        self._teachers = everyone
        # Weights of the training stretches. Similar stretches together count as one.
        self._counts = 1 / np.maximum(self._alike(everyone).sum(axis=1), 1)
        evidence = _EXPONENT * np.maximum(p_values[everyone], _SMALLEST) ** (_EXPONENT - 1)
        # The prior probability of chance equals that of all motifs together.
        self._explained = evidence / (evidence.sum(axis=1, keepdims=True) + evidence.shape[1])

    def weights(self) -> Iterator[np.ndarray]:
        """Yield weights (M,) for each stretch. They are all 1 if there are too few stretches to learn from."""
        for first in range(0, len(self.p_values), _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, len(self.p_values)))
            counts = np.where(self._alike(rows) | (rows[:, None] == self._teachers), 0, self._counts)
            prevalence = counts @ self._explained
            weights = _EQUAL_SHARE + (1 - _EQUAL_SHARE) * prevalence / np.maximum(
                prevalence.mean(axis=1, keepdims=True), _SMALLEST
            )
            weights[counts.sum(axis=1) < _ENOUGH] = 1
            yield from weights

    def _alike(self, rows: np.ndarray) -> np.ndarray:
        """Whether two stretches share a word (len(rows), training stretches)."""
        result: np.ndarray = (self._words[rows] @ self._words[self._teachers].T).toarray() > 0
        return result


def _words(ids: np.ndarray) -> np.ndarray:
    """The words of a stretch as numbers. A word and its reverse complement have the same number."""
    if len(ids) < _WORD:
        return np.empty(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(ids, _WORD).astype(np.int64)
    windows = windows[(windows != alphabet.N_ID).all(axis=1)]
    places = 4 ** np.arange(_WORD)
    return np.unique(np.minimum(windows @ places, (3 - windows[:, ::-1]) @ places))

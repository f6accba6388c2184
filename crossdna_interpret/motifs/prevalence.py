"""How often motifs match beyond chance, learned from other sequences than the one that gets a name.

n stretches    M motifs    S sequences    F folds
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossdna_interpret import alphabet

__all__ = ["folds_of", "motif_weights"]

_FOLDS = 5
_WORD = 24  # sequences that share a word of so many bases are in one fold: by chance they hardly ever do
_ENOUGH, _MOST = 30, 5000  # stretches to learn from; with fewer, all motifs weigh the same
_EQUAL_SHARE = 0.5  # share of the weight that all motifs have alike, so that a rare one is hardly harder to find
# A p value that something is behind has the density _STEEPNESS * p ** (_STEEPNESS - 1): 50 at p = 0.001 and 0.1 at 1.
_STEEPNESS = 0.1
_SMALLEST = 1e-37


def folds_of(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Put sequences into folds, so that similar ones, such as variants of one enhancer, are in the same.

    Args:
        sequences: S of them, as ids.

    Returns:
        (S,) number of the fold; (S,) share of each sequence in its group of similar ones, which adds up to 1 in each.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    words = [_words(ids) for ids in sequences]
    owners = np.repeat(np.arange(len(words)), [len(each) for each in words])
    _, word = np.unique(np.concatenate([*words, np.empty(0, np.uint64)]), return_inverse=True)
    size = len(words) + (int(word.max()) + 1 if len(word) else 0)
    links = coo_array((np.ones(len(word), dtype=np.int8), (owners, len(words) + word)), shape=(size, size))
    group = connected_components(links, directed=False)[1][: len(words)]
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    fold_of_group = np.empty(len(counts), dtype=int)
    filled = np.zeros(_FOLDS, dtype=int)
    for number in np.argsort(-counts, kind="stable"):
        fold_of_group[number] = filled.argmin()
        filled[fold_of_group[number]] += counts[number]
    return fold_of_group[group], 1 / counts[group]


def _words(ids: np.ndarray) -> np.ndarray:
    """The words of a sequence as numbers, uint64; a word and its reverse complement have the same."""
    if len(ids) < _WORD:
        return np.empty(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(ids, _WORD)
    windows = windows[(windows != alphabet.N_ID).all(axis=1)].astype(np.uint64)
    places = np.uint64(4) ** np.arange(_WORD, dtype=np.uint64)
    return np.unique(np.minimum(windows @ places, (np.uint64(3) - windows[:, ::-1]) @ places))


def motif_weights(p_values: np.ndarray, folds: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Weights of motifs for each fold, with mean 1, by how often they match stretches of the other folds.

    Weights that do not depend on the p values that they divide leave these valid (Genovese, Roeder and Wasserman 2006;
    folds as by Ignatiadis and Huber 2021). What stands behind a stretch is shared out over the motifs, and chance, by
    how well each explains its p values.

    Args:
        p_values: (n, M) of each motif for each stretch.
        folds: (n,) of each stretch.
        shares: (n,) how much each stretch counts.

    Returns:
        (F, M) weights, by number of the fold.
    """
    weights = np.ones((_FOLDS, p_values.shape[1]))
    for fold in range(_FOLDS):
        others = np.flatnonzero(folds != fold)
        if len(others) > _MOST:
            others = np.sort(np.random.default_rng(fold).choice(others, _MOST, replace=False))
        if shares[others].sum() >= _ENOUGH:
            evidence = _STEEPNESS * np.maximum(p_values[others], _SMALLEST) ** (_STEEPNESS - 1)
            # Chance is as likely beforehand as all motifs together.
            explained = evidence / (evidence.sum(axis=1, keepdims=True) + evidence.shape[1])
            prevalence = shares[others] @ explained
            weights[fold] = _EQUAL_SHARE + (1 - _EQUAL_SHARE) * prevalence / prevalence.mean()
    return weights

"""Check that a model gives a sequence the same score in every call and batch."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossdna_interpret._validation import level_of_caller

__all__ = ["UnstableModelWarning", "check_stability"]

_SHARE = 1e-3  # allowed error of a score, as a fraction of the differences between sequences
_ROUNDINGS = 64  # allowed difference between batch sizes, in units in the last place


class UnstableModelWarning(UserWarning):
    """A model scores the same sequence differently in different calls, so score differences contain noise.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.UnstableModelWarning)  # stop instead of using noisy scores
        ...     r = cdi.ism("ACGTACGTACGT", end=2)
    """


# Fractions of A, C, G and T in the sequences of a batch. Sequences this different reveal an effect of the batch.
_COMPOSITIONS = ((0.4, 0.1, 0.1, 0.4), (0.1, 0.4, 0.4, 0.1), (0.7, 0.1, 0.1, 0.1))
_CALLS, _MANY_CALLS = 3, 16  # calls that are compared with the first
_REMEMBERED = 256


@dataclass(frozen=True)
class _Differences:
    """Score differences of one sequence and the limits for them, each of shape (T,).

    Attributes:
        calls: largest difference between calls.
        together: largest difference between scoring alone and in a batch.
        between: largest difference between sequences.
        allowed: largest difference that counts as rounding.
    """

    calls: np.ndarray
    together: np.ndarray
    between: np.ndarray
    allowed: np.ndarray


_checked: OrderedDict[tuple[str, int, int], _Differences] = OrderedDict()  # key: digest, length, batch size


def check_stability(
    model: str,
    ids: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray],
    *,
    accepts: Callable[[np.ndarray], bool] = lambda ids: True,
    digest: str,
    known: bool,
    eps: float,
    size: int,
) -> dict[str, float]:
    """Score a sequence alone several times and in a batch with others. Warn if the scores differ.

    The check runs once for each model state and length.

    Args:
        model: name of the model.
        ids: (L,) the sequence.
        score: returns scores (n, T) of ids (n, L).
        accepts: whether the model accepts ids (L,). It may refuse a random sequence that has too many tokens.
        digest: hash of the model's state.
        known: whether the digest covers everything that may change the scores. If not, every call is checked.
        eps: machine epsilon of the model's dtype.
        size: batch size. With 1, nothing is scored in a batch.

    Returns:
        The largest difference between calls, and between alone and in a batch, for a certificate.

    Warns:
        UnstableModelWarning: states the difference, and for comparison that between different sequences.
    """
    rows = min(size, 1 + len(_COMPOSITIONS))
    key = digest, len(ids), rows
    result = _checked.get(key) if known else None
    if result is None:
        rng = np.random.default_rng(0)
        random = (rng.choice(4, len(ids), p=shares) for shares in _COMPOSITIONS)
        # The reversed sequence has the same bases, so that its tokens are as long.
        others_in_batch = [each for each in (*random, ids[::-1]) if accepts(each)][: len(_COMPOSITIONS)]
        batch = np.stack([ids, *others_in_batch])[: max(2, rows)]
        alone = np.concatenate([score(each[None]) for each in batch]).astype(np.float64)
        together_scores = score(batch).astype(np.float64) if rows > 1 else alone
        first, others = alone[0], together_scores
        between = np.ptp(others, axis=0)
        # All members count: a model of tokens may be wrong only about those that are padded.
        together = np.abs(alone - others).max(axis=0)
        allowed = _SHARE * between + _ROUNDINGS * eps * np.abs(others).max(axis=0)
        # Random scores may agree in the first few calls. If the batch makes a difference, compare many calls.
        calls = np.zeros(len(first))
        for _ in range(_MANY_CALLS if (together > allowed).any() else _CALLS):
            calls = np.maximum(calls, np.abs(score(ids[None])[0] - first))
        result = _checked[key] = _Differences(calls, together, between, allowed)
        while len(_checked) > _REMEMBERED:
            _checked.popitem(last=False)
    for difference, when in (
        (result.calls, "from call to call; {beside}. Is there dropout that is always on, or other chance?"),
        (
            result.together,
            f"between alone and in a batch of {rows}; {{beside}}. It depends on what else is in a batch, as a "
            "BatchNorm without running statistics does. `batch_size`=1 scores each sequence by itself.",
        ),
    ):
        if (difference > result.allowed).any():
            worst = int((difference / np.maximum(result.allowed, np.finfo(float).tiny)).argmax())
            ending = when.format(beside=f"scores of different sequences differ by {result.between[worst]:.2g}")
            warnings.warn(
                f"{model} gives one sequence scores that differ by {difference[worst]:.2g} {ending}",
                UnstableModelWarning,
                stacklevel=level_of_caller(),
            )
            break
    checks = {"difference_between_calls": float(result.calls.max())}
    return checks | ({"difference_in_a_batch": float(result.together.max())} if rows > 1 else {})

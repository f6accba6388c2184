"""The check that a model gives a sequence the same score in every call and batch."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossdna_interpret._validation import level_of_caller

__all__ = ["UnstableModelWarning", "check_stability"]

_SHARE = 1e-3  # of the differences between sequences, which a score may be off by
_ROUNDINGS = 64  # of the scores, in units of the last place, that batches of other sizes may differ by


class UnstableModelWarning(UserWarning):
    """A model gives one sequence different scores, so a part of each difference between sequences is noise.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.UnstableModelWarning)  # stop, rather than go on with such scores
        ...     r = cdi.ism("ACGTACGTACGT", end=2)
    """


# Shares of A, C, G and T in the sequences of a batch, unlike, so that what they have in common shows.
_COMPOSITIONS = ((0.4, 0.1, 0.1, 0.4), (0.1, 0.4, 0.4, 0.1), (0.7, 0.1, 0.1, 0.1))
_CALLS, _MANY_CALLS = 3, 16  # to compare with the first
_REMEMBERED = 256


@dataclass(frozen=True)
class _Differences:
    """Differences between scores of one sequence, and what they are compared with, (T,) each.

    Attributes:
        calls: largest between calls.
        together: between alone and in a batch.
        between: largest between sequences.
        allowed: largest that counts as rounding.
    """

    calls: np.ndarray
    together: np.ndarray
    between: np.ndarray
    allowed: np.ndarray


_checked: OrderedDict[tuple[str, int, int], _Differences] = OrderedDict()  # by digest, length and batch


def check_stability(
    model: str,
    ids: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray],
    *,
    digest: str,
    known: bool,
    eps: float,
    size: int,
) -> dict[str, float]:
    """Score a sequence alone, alone again, and in a batch with others, and warn where that makes a difference.

    It is done once for a model in one state and a length.

    Args:
        model: its name.
        ids: (L,) the sequence.
        score: scores (n, T) of ids (n, L).
        digest: of the model's state.
        known: whether the digest is of all that may change its scores. Otherwise it is checked in each call.
        eps: of the numbers that the model computes with.
        size: of a batch. With 1 nothing is scored in a batch.

    Returns:
        The largest difference between two calls, and between alone and in a batch, for a certificate.

    Warns:
        UnstableModelWarning: with the size of the difference, beside that of differences between sequences.
    """
    rows = min(size, 1 + len(_COMPOSITIONS))
    key = digest, len(ids), rows
    result = _checked.get(key) if known else None
    if result is None:
        rng = np.random.default_rng(0)
        batch = np.stack([ids, *(rng.choice(4, len(ids), p=shares) for shares in _COMPOSITIONS)])
        first = score(ids[None])[0].astype(np.float64)
        others = score(batch[:rows]) if rows > 1 else np.concatenate([score(batch[1:2]), first[None]])[::-1]
        others = others.astype(np.float64)
        between, together = np.ptp(others, axis=0), np.abs(first - others[0])
        allowed = _SHARE * between + _ROUNDINGS * eps * np.abs(others).max(axis=0)
        # Scores that chance decides may agree at first; a batch that makes a difference is reason to look closely.
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

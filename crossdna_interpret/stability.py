"""Whether a model gives a sequence one score: whenever it is asked, and whatever else is in the batch."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from crossdna_interpret.arguments import level_of_caller

__all__ = ["UnstableModelWarning", "check_stability"]

_SHARE = 1e-3  # of the differences between sequences, which a score may be off by
_ROUNDINGS = 64  # of the scores, in units of the last place, that batches of other sizes may differ by


class UnstableModelWarning(UserWarning):
    """A model gives one sequence different scores, so that differences between sequences are partly made up.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.UnstableModelWarning)  # stop, rather than go on with such scores
        ...     r = cdi.ism("ACGTACGTACGT", end=2)
    """


# Shares of A, C, G and T in the sequences of a batch, unlike, so that what they have in common shows.
_COMPOSITIONS = ((0.4, 0.1, 0.1, 0.4), (0.1, 0.4, 0.4, 0.1), (0.7, 0.1, 0.1, 0.1))
_CALLS = 16  # at most, to compare with the first
_REMEMBERED = 256
_checked: OrderedDict[tuple[str, int, int], dict[str, float]] = OrderedDict()  # by digest, length and batch


def check_stability(
    model: str,
    ids: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray],
    *,
    digest: str,
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
        eps: of the numbers that the model computes with.
        size: of a batch. With 1 nothing is scored in a batch.

    Returns:
        The largest difference between two calls, and between alone and in a batch, for a certificate.

    Warns:
        UnstableModelWarning: with the size of the difference, beside that of differences between sequences.
    """
    rows = min(size, 1 + len(_COMPOSITIONS))
    key = digest, len(ids), rows
    found = _checked.get(key)
    if found is None:
        rng = np.random.default_rng(0)
        batch = np.stack([ids, *(rng.choice(4, len(ids), p=shares) for shares in _COMPOSITIONS)])
        first = score(ids[None])[0]
        others = score(batch[:rows]) if rows > 1 else np.concatenate([score(batch[1:2]), first[None]])[::-1]
        others = others.astype(np.float64)
        found = {
            "difference_between_calls": 0.0,
            "difference_in_a_batch": float(np.abs(first - others[0]).max()),
            "difference_between_sequences": float(np.ptp(others, axis=0).max()),
            "largest_score": float(np.abs(others).max()),
        }
        for call in range(_CALLS):
            # Scores that chance decides may agree at first; a batch that makes a difference is reason to look closely.
            if call == 0 or found["difference_in_a_batch"] > _allowed(found, eps):
                again = float(np.abs(score(ids[None])[0] - first).max())
                found["difference_between_calls"] = max(found["difference_between_calls"], again)
        _checked[key] = found
        while len(_checked) > _REMEMBERED:
            _checked.popitem(last=False)
    allowed = _allowed(found, eps)
    beside = f"scores of different sequences differ by {found['difference_between_sequences']:.2g}"
    calls, together = found["difference_between_calls"], found["difference_in_a_batch"]
    if calls > allowed:
        warnings.warn(
            f"{model} gives one sequence scores that differ by {calls:.2g} from call to "
            f"call; {beside}. Is there dropout that is always on, or other chance?",
            UnstableModelWarning,
            stacklevel=level_of_caller(),
        )
    elif together > allowed:
        warnings.warn(
            f"{model} gives one sequence scores that differ by {together:.2g} between alone and in "
            f"a batch of {rows}; {beside}. It depends on what else is in a batch, as a BatchNorm without running "
            "statistics does. `batch_size`=1 scores each sequence by itself.",
            UnstableModelWarning,
            stacklevel=level_of_caller(),
        )
    names = ["difference_between_calls", *(["difference_in_a_batch"] if rows > 1 else [])]
    return {name: found[name] for name in names}


def _allowed(found: dict[str, float], eps: float) -> float:
    """The largest difference that makes none."""
    return _SHARE * found["difference_between_sequences"] + _ROUNDINGS * eps * found["largest_score"]

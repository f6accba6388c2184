"""Errors of predicted changes, found from measured changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossdna_interpret._compat import quiet_and_same_threads
from crossdna_interpret.models.change_errors import ChangeErrors

__all__ = ["LEVELS", "fit_errors", "halves", "held_out_intervals"]

LEVELS = (0.5, 0.8, 0.9, 0.95)
_FEWEST = 40  # measured changes


def fit_errors(
    predicted: np.ndarray, measured: np.ndarray, spread: np.ndarray, *, levels: Sequence[float] = LEVELS
) -> ChangeErrors:
    """Errors of predicted changes.

    The scale is the maximum-likelihood estimate for Laplace errors. The half-width of an interval is a quantile of
    |error| / scale (conformal prediction, with the correction for a finite number of changes), so its coverage does not
    depend on that distribution. Scale and quantile are from the same changes, so the coverage is approximate.

    Args:
        predicted: (P,) predicted changes.
        measured: (P,) measured changes.
        spread: (P,) standard deviation of each predicted change over variants of the model, or zeros.
        levels: levels of the intervals.

    Raises:
        ValueError: arrays of different lengths, values that are not finite, or fewer than 40 changes.
    """
    with quiet_and_same_threads():  # its import sets warning filters
        from scipy.optimize import minimize
    predicted, measured, spread = (np.asarray(each, dtype=np.float64) for each in (predicted, measured, spread))
    if not predicted.shape == measured.shape == spread.shape:
        raise ValueError("`predicted`, `measured` and `spread` must have the same length.")
    if len(predicted) < _FEWEST:
        raise ValueError(f"`measured` must have at least {_FEWEST} changes for intervals, but has {len(predicted)}.")
    for name, values in (("predicted", predicted), ("measured", measured), ("spread", spread)):
        if not np.isfinite(values).all():
            raise ValueError(f"`{name}` must be finite, but has {values[~np.isfinite(values)][0]}.")
    errors = np.abs(measured - predicted)
    unit = float(np.median(errors)) or float(errors.mean()) or 1.0

    def loss(logarithms: np.ndarray) -> float:
        base, of_spread, of_change = np.exp(logarithms)
        scale = np.sqrt((base * unit) ** 2 + (of_spread * spread) ** 2 + (of_change * predicted) ** 2)
        return float((np.log(scale) + errors / scale).mean())

    best = minimize(loss, np.log([1.0, 0.5, 0.1]), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    base, of_spread, of_change = np.exp(best.x)
    plain = ChangeErrors(base * unit, of_spread, of_change, {0.5: 1.0}, len(errors))
    shares = np.sort(errors / plain.scale(predicted, spread))
    multiples = {}
    for level in levels:
        rank = min(len(shares), int(np.ceil((len(shares) + 1) * level)))
        multiples[level] = max(float(shares[rank - 1]), 1e-12)
    return ChangeErrors(base * unit, of_spread, of_change, multiples, len(errors))


def halves(family: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(P,) whether a change is in the first of two halves of the families, with about as many changes in each.

    Raises:
        ValueError: there is only one family, or a half has fewer than 40 changes.
    """
    names = np.unique(family)
    if len(names) < 2:
        raise ValueError("Intervals need at least two families that share no change, so that one can be held out.")
    shuffled = np.random.default_rng(seed).permutation(names)
    counts = np.array([(family == each).sum() for each in shuffled])
    in_first = np.zeros(len(shuffled), dtype=bool)
    sizes = [0, 0]
    for at in np.argsort(-counts, kind="stable"):  # halves with about as many changes
        half = int(sizes[1] < sizes[0])
        in_first[at] = half == 0
        sizes[half] += int(counts[at])
    first = np.isin(family, shuffled[in_first])
    if min(sizes) < _FEWEST:
        raise ValueError(
            f"`table` must have at least {_FEWEST} changes in each half of its families for intervals, but has "
            f"{sizes[0]} and {sizes[1]}. More bases by which two sequences may differ give more changes."
        )
    return first


def held_out_intervals(
    predicted: np.ndarray, measured: np.ndarray, spread: np.ndarray, family: np.ndarray, level: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends (P,) of the interval of each change, from errors in other families.

    The families are split into two halves. The intervals of each half are found from the other one.

    Raises:
        ValueError: as in `fit_errors` and `halves`.
    """
    first = halves(family, seed=seed)
    low, high = np.empty(len(predicted)), np.empty(len(predicted))
    for own, other in ((first, ~first), (~first, first)):
        errors = fit_errors(predicted[other], measured[other], spread[other], levels=[level])
        half_width = errors.half_width(predicted[own], spread[own], level)
        low[own], high[own] = predicted[own] - half_width, predicted[own] + half_width
    return low, high

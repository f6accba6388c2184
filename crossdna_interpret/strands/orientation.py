"""Agreement of predictions between both orientations, and between arbitrary choices in a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from crossdna_interpret._validation import integer
from crossdna_interpret.attribution.gradients import integrated_gradients
from crossdna_interpret.attribution.mutagenesis import ism
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import ArbitraryChoices, ModelLike, SequenceModel, capability
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.results import Certificate, Orientation
from crossdna_interpret.scoring.batches import require_memory, resolve_batch_size
from crossdna_interpret.scoring.forward import evaluation_mode, rounding_unit, score_ids
from crossdna_interpret.scoring.predict import predict
from crossdna_interpret.scoring.targets import resolve_target
from crossdna_interpret.statistics import correlation, mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["orientation", "symmetric_targets"]

Method = Literal["ism", "integrated_gradients"]
_RANDOM = 4  # random sequences for the test of symmetry
_NO_GAP = 1e-3  # largest gap of a symmetric model, relative to the differences between sequences


def orientation(
    seqs: str | Sequence[str],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    method: Method = "ism",
    seed: int = 0,
) -> Orientation:
    """Compare a model's predictions and attributions for sequences and their reverse complements.

    Both orientations describe the same DNA molecule. The predictions are compared, and the attribution of each base
    with that of its paired base. CrossDNA models are also scored with other arbitrary choices: which branch reads which
    strand, and where blocks begin.

    Args:
        seqs: N sequences of any length.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target. Optional if the model has one target.
        method: method of the attributions.
        seed: seed of the bootstrap.

    Returns:
        Orientation with a row for each comparison in `table`. The interval of the correlation is Fisher's. Intervals of
        means are from a bootstrap over sequences.

    Raises:
        ValueError, TypeError: invalid sequences, target, model or method.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.

    Example:
        >>> r = orientation(["ACGTTGCAACGTTGCA", "TTTTGGATTAGCCCCA"])
        >>> r.table.columns.tolist()
        ['compared', 'statistic', 'value', 'low', 'high', 'n']
    """
    if method not in get_args(Method):
        raise ValueError(f"`method` must be one of {get_args(Method)}, but got {method!r}.")
    integer("seed", seed)
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequences = alphabet.normalize_many(seqs)
    turned_model = ReverseComplemented(resolved)
    forward, reverse = (predict(sequences, each)[:, index] for each in (resolved, turned_model))
    explain: Callable[..., Any] = ism if method == "ism" else integrated_gradients
    explained = [explain(sequences, each, target=index) for each in (resolved, turned_model)]
    as_given, of_reverse = ([result.importance for result in results] for results in explained)
    r = np.array([correlation(one, other)[0] for one, other in zip(as_given, of_reverse, strict=True)])
    worst = np.array([np.abs(one - other).max() for one, other in zip(as_given, of_reverse, strict=True)])
    exchanged, shifts, shifted = _with_other_choices(resolved, index, sequences)
    return Orientation(
        sequences=tuple(sequences),
        target=resolved.targets[index],
        forward=forward,
        reverse=reverse,
        attribution_r=r,
        attribution_worst=worst,
        exchanged=exchanged,
        shifts=shifts,
        shifted=shifted,
        table=_table(forward, reverse, r, worst, exchanged, dict(zip(shifts, shifted.T, strict=True)), seed),
        certificate=Certificate.merge(
            [result.certificate for results in explained for result in results],
            method="orientation",
            settings={"method": method, "seed": seed},
        ),
    )


def symmetric_targets(model: ModelLike, length: int) -> np.ndarray:
    """Whether a model predicts the same for both orientations of every sequence of a length: (T,) bool.

    For such a model, the agreement of both predictions says nothing about a sequence. The test uses a few random
    sequences: the gaps between orientations must be negligible compared to the differences between sequences.

    Args:
        model: a model, a name or path for `load_model`, or None for the bundled model.
        length: L, in bases.

    Raises:
        ValueError, TypeError: an invalid length, an unknown model, or a model that does not accept this length.

    Example:
        >>> symmetric_targets(None, 164).tolist()
        [True]
    """
    integer("length", length, 1)
    resolved = resolve_model(model)
    ids = np.random.default_rng(0).integers(0, len(alphabet.BASES), (_RANDOM, length))
    pairs = np.concatenate([ids, strand.reverse_complement_ids(ids)])
    size = resolve_batch_size(resolved, length, None)
    with evaluation_mode(resolved) as evaluated:
        parts = [score_ids(evaluated, pairs[at : at + size]) for at in range(0, len(pairs), size)]
    scores = np.concatenate(parts).astype(np.float64)
    forward, reverse = scores[:_RANDOM], scores[_RANDOM:]
    rounding = 64 * rounding_unit(resolved.dtype) * np.abs(scores).max(axis=0)
    allowed = _NO_GAP * forward.std(axis=0) + rounding
    symmetric: np.ndarray = (np.abs(forward - reverse) <= allowed).all(axis=0)
    return symmetric


def _with_other_choices(
    model: SequenceModel, target: int, sequences: Sequence[str]
) -> tuple[np.ndarray | None, tuple[int, ...], np.ndarray]:
    """Scores (N,) if each branch reads the other strand, and (N, shifts) with shifted block boundaries."""
    shifted = np.empty((len(sequences), 0))
    with evaluation_mode(model) as evaluated:
        choices = capability(evaluated, ArbitraryChoices)
        if choices is None:
            return None, (), shifted
        for sequence in sequences:
            require_memory(model, 1, len(sequence))
        ids = [alphabet.encode(sequence) for sequence in sequences]
        swapped = np.stack([choices.strands_swapped(each)[target] for each in ids])
        shifts = choices.shifts(max(map(len, sequences)))
        if shifts:
            shifted = np.stack([[choices.shifted(each, shift)[target] for shift in shifts] for each in ids])
    return swapped, shifts, shifted


def _table(
    forward: np.ndarray,
    reverse: np.ndarray,
    r: np.ndarray,
    worst: np.ndarray,
    exchanged: np.ndarray | None,
    shifted: dict[int, np.ndarray],
    seed: int,
) -> pd.DataFrame:
    import pandas as pd

    nothing = float("nan")
    gap = reverse - forward
    rows: list[tuple[str, str, tuple[float, float, float]]] = [
        ("predictions of both orientations", "Pearson r", correlation(forward, reverse)),
        ("predictions of both orientations", "mean of reverse - forward", mean(gap, seed=seed)),
        ("predictions of both orientations", "mean size of the gap", mean(np.abs(gap), seed=seed)),
        ("predictions of both orientations", "largest gap", (float(np.abs(gap).max()), nothing, nothing)),
        ("attributions of both orientations", "mean r over a sequence", mean(r, seed=seed)),
        ("attributions of both orientations", "largest difference at a base", (float(worst.max()), nothing, nothing)),
    ]
    if exchanged is not None:
        change = np.abs(exchanged - forward)
        rows.append(("each branch reading the other strand", "mean size of the change", mean(change, seed=seed)))
    for shift, scores in shifted.items():
        change = np.abs(scores - forward)
        rows.append((f"block boundaries moved by {shift}", "mean size of the change", mean(change, seed=seed)))
    return pd.DataFrame(
        [(compared, statistic, *result, len(forward)) for compared, statistic, result in rows],
        columns=["compared", "statistic", "value", "low", "high", "n"],
    )

"""Pairwise mutagenesis: the interaction of two substitutions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import Compile, ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import warn_outside_training
from crossdna_interpret.results import PairwiseMutagenesis
from crossdna_interpret.results.averaged import average_orientations
from crossdna_interpret.scoring.runner import run_edits
from crossdna_interpret.scoring.targets import resolve_target

__all__ = ["pairwise_ism"]


def pairwise_ism(
    seq: str,
    model: ModelLike = None,
    *,
    positions: Sequence[int] | None = None,
    regions: tuple[tuple[int, int], tuple[int, int]] | None = None,
    target: str | int | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> PairwiseMutagenesis:
    """Predict pairs of substitutions, with all combinations of bases, and compute their interactions.

    The interaction of substitutions a and b is f(ab) - f(a) - f(b) + f(0). It is zero if their effects are additive. It
    has the sign of the effects if they amplify each other, and the opposite sign if they are redundant.

    Args:
        seq: one sequence of length L.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        positions: 0-based positions. All pairs of them are scored.
        regions: two windows ((start, end), (start, end)), 0-based half-open. Every position of one is paired with every
            position of the other. Use either `regions` or `positions`.
        target: name or number of the target for `interaction`. Optional if the model has one target.
        batch_size, compile, cache, rc_average: as in `score_edits`.

    Returns:
        PairwiseMutagenesis with `interaction` (P, 4, 4) for P pairs, and `strongest` (P,).

    Raises:
        ValueError, TypeError: an invalid sequence, positions, regions, target, model or option.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: the sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.
        CacheWarning: `cache` has no effect, because a part of the model cannot be hashed.

    Example:
        >>> r = pairwise_ism("ACGTACGTAC", regions=((1, 3), (6, 8)))
        >>> r.interaction.shape, r.matrix.shape
        ((4, 4, 4), (4, 4))
    """
    sequence = alphabet.normalize(seq)
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    pairs = _pairs(len(sequence), positions, regions)
    warn_outside_training(resolved, [sequence], level_of_caller())
    if rc_average:
        options = {"batch_size": batch_size, "compile": compile, "cache": cache}
        models = (resolved, ReverseComplemented(resolved))
        return average_orientations(*(_mutate(sequence, pairs, each, index, **options) for each in models))
    return _mutate(sequence, pairs, resolved, index, batch_size=batch_size, compile=compile, cache=cache)


def _mutate(sequence: str, pairs: np.ndarray, model: SequenceModel, target: int, **options: Any) -> PairwiseMutagenesis:
    taking_part = np.unique(pairs)
    ids = alphabet.encode(sequence)
    editor = Editor(sequence)

    alone = [(place, base) for place in taking_part.tolist() for base in range(4) if base != ids[place]]
    together = [
        (pair, first, second)
        for pair, (one, other) in enumerate(pairs.tolist())
        for first, second in itertools.product(range(4), repeat=2)
        if first != ids[one] and second != ids[other]
    ]
    edits = [Edit(place, place + 1, alphabet.BASES[base]) for place, base in alone]
    for pair, first, second in together:
        one, other = pairs[pair].tolist()
        string = alphabet.BASES[first] + sequence[one + 1 : other] + alphabet.BASES[second]
        edits.append(Edit(one, other + 1, string))
    run = run_edits(model, editor, edits, "pairwise_ism", **options)

    singles = np.broadcast_to(run.reference, (len(taking_part), 4, len(run.reference))).copy()
    places, bases = np.array(alone).T
    singles[np.searchsorted(taking_part, places), bases] = run.predictions[: len(alone)]
    indexed = np.searchsorted(taking_part, pairs)
    predictions = np.broadcast_to(run.reference, (len(pairs), 4, 4, len(run.reference))).copy()
    # If one of the two bases is that of the sequence, the pair is a single substitution of the other.
    (first, second), (own_first, own_second) = indexed.T, ids[pairs].T
    known = np.flatnonzero(own_first != alphabet.N_ID)
    predictions[known, own_first[known]] = singles[second[known]]
    known = np.flatnonzero(own_second != alphabet.N_ID)
    predictions[known, :, own_second[known]] = singles[first[known]]
    if together:
        pair, one_base, other_base = np.array(together).T
        predictions[pair, one_base, other_base] = run.predictions[len(alone) :]
    return PairwiseMutagenesis(
        sequence=sequence,
        positions=taking_part,
        pairs=indexed,
        targets=tuple(model.targets),
        target=model.targets[target],
        reference=run.reference,
        singles=singles,
        predictions=predictions,
        certificate=run.certificate,
    )


def _pairs(
    length: int, positions: Sequence[int] | None, regions: tuple[tuple[int, int], tuple[int, int]] | None
) -> np.ndarray:
    """Pairs (P, 2) of positions, each once, sorted, with the smaller position first."""
    if (positions is None) == (regions is None):
        count = "neither" if positions is None else "both"
        raise ValueError(
            "`positions` or `regions` must be given, and not both: positions to pair with each other, or two windows "
            f"to pair. Got {count}."
        )
    if positions is not None:
        if not isinstance(positions, Iterable):
            raise TypeError(f"`positions` must be a list of integers, but got {positions!r}.")
        places = [_place("positions", place, length) for place in positions]
        if len(set(places)) < 2:
            raise ValueError(f"`positions` must hold at least two different positions, but got {list(positions)}.")
        result = set(itertools.combinations(sorted(set(places)), 2))
    else:
        assert regions is not None
        shape = f"`regions` must be two windows ((start, end), (start, end)), but got {regions!r}."
        if not isinstance(regions, Sized) or not all(isinstance(region, Sized) for region in regions):
            raise TypeError(shape)
        if len(regions) != 2 or any(len(region) != 2 for region in regions):
            raise ValueError(shape)
        for start, end in regions:
            _place("regions", start, length)
            _whole("regions", end)
            if not start < end <= length:
                raise ValueError(f"`regions` must satisfy 0 <= start < end <= {length}, but got ({start}, {end}).")
        result = {(min(pair), max(pair)) for pair in itertools.product(*(range(*region) for region in regions))}
        result = {pair for pair in result if pair[0] != pair[1]}
        if not result:
            raise ValueError(f"`regions` hold no two different positions: {regions!r}.")
    return np.array(sorted(result), dtype=np.int64)


def _whole(name: str, value: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"`{name}` must hold integers, but got {value!r}.")


def _place(name: str, value: int, length: int) -> int:
    _whole(name, value)
    if not 0 <= value < length:
        raise ValueError(f"`{name}` must lie from 0 to {length - 1}, but got {value}.")
    return int(value)

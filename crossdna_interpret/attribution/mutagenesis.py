"""In-silico saturation mutagenesis: the prediction for every single-base substitution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from crossdna_interpret import alphabet
from crossdna_interpret.progress import progress
from crossdna_interpret.results import Mutagenesis
from crossdna_interpret.scoring import (
    ModelLike,
    SequenceModel,
    certify,
    evaluation_mode,
    require_memory,
    resolve_batch_size,
    resolve_model,
    resolve_target,
    score_ids,
)

__all__ = ["ism"]


@overload
def ism(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type system
    seq: str,
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    batch_size: int | None = None,
) -> Mutagenesis: ...
@overload
def ism(
    seq: Sequence[str],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    batch_size: int | None = None,
) -> list[Mutagenesis]: ...
def ism(
    seq: str | Sequence[str],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    batch_size: int | None = None,
) -> Mutagenesis | list[Mutagenesis]:
    """Predict every single-base substitution in a window of a sequence.

    Each edited sequence is scored by a whole forward pass; memory grows with the batch, not with the number of edits.
    N is kept where it is not the position under edit, and never mutated to.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a model, a name or path for `load_model`, or None for the bundled one.
        target: name or number of the target that `delta` and `importance` are about; may be left out when there is one.
        start, end: window, 0-based half-open; all positions by default.
        batch_size: sequences at once; chosen from the length if not given.

    Returns:
        Mutagenesis with `predictions` (L', 4, T) in the units of the targets; a list for a list.

    Raises:
        ValueError, TypeError: a bad sequence (an entry of a list is named), window, target or model.
        MemoryError: a sequence too long for the memory at hand, with the estimate.

    Example:
        >>> r = ism("ACGTACGTAC", start=2, end=5)
        >>> r.predictions.shape, r.delta.shape
        ((3, 4, 1), (3, 4))
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequences = alphabet.normalize_many(seq, name="seq")
    windows = [_window(sequence, start, end) for sequence in sequences]
    for sequence in sequences:
        require_memory(resolved, resolve_batch_size(resolved, len(sequence), batch_size), len(sequence))
    with evaluation_mode(resolved):
        results = [
            _mutate(sequence, resolved, index, window, batch_size)
            for sequence, window in zip(sequences, windows, strict=True)
        ]
    return results[0] if isinstance(seq, str) else results


def _window(sequence: str, start: int, end: int | None) -> tuple[int, int]:
    stop = len(sequence) if end is None else end
    for name, value in (("start", start), ("end", stop)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"`{name}` must be an integer, but got {value!r}.")
    if not 0 <= start < stop <= len(sequence):
        raise ValueError(
            f"`start` and `end` must satisfy 0 <= start < end <= {len(sequence)} (the length), "
            f"but got start={start}, end={stop}."
        )
    return int(start), int(stop)


def _mutate(
    sequence: str, model: SequenceModel, target: int, window: tuple[int, int], batch_size: int | None
) -> Mutagenesis:
    start, end = window
    reference_ids = alphabet.encode(sequence)
    reference = score_ids(model, reference_ids[None])[0]
    rows, bases = np.nonzero(reference_ids[start:end, None] != np.arange(4))
    predictions = np.broadcast_to(reference, (end - start, 4, len(reference))).copy()
    size = resolve_batch_size(model, len(sequence), batch_size)
    with progress(len(rows), "in-silico mutagenesis", "edit") as bar:
        for first in range(0, len(rows), size):
            row, base = rows[first : first + size], bases[first : first + size]
            edited = np.repeat(reference_ids[None], len(row), axis=0)
            edited[np.arange(len(row)), start + row] = base
            predictions[row, base] = score_ids(model, edited)
            bar.update(len(row))
    return Mutagenesis(
        sequence=sequence,
        start=start,
        targets=tuple(model.targets),
        target=model.targets[target],
        reference=reference,
        predictions=predictions,
        certificate=certify(model, "ism, one forward pass for each edit", settings={"batch_size": size}, checks={}),
    )

"""Deletion and insertion scans: the same edit at every position."""

from __future__ import annotations

from pathlib import Path

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, window
from crossdna_interpret.models.protocols import Compile, ModelLike
from crossdna_interpret.results import EditScan
from crossdna_interpret.scoring.edits import score_edits

__all__ = ["deletion_scan", "insertion_scan"]


def deletion_scan(
    seq: str,
    model: ModelLike = None,
    *,
    width: int = 1,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    step: int = 1,
    flanks: tuple[str, str] | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> EditScan:
    """Predict the deletion of `width` bases at every position of a sequence.

    Args:
        seq: one sequence of length L.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        width: length of each deletion in bases.
        target: name or number of the target for `delta`. Optional if the model has one target.
        start, end: window of the deletions, 0-based half-open. The default is the whole sequence.
        step: distance between the starts of successive deletions, in bases.
        flanks, batch_size, compile, cache, rc_average: as in `score_edits`. Without flanks, the sequence gets shorter.

    Returns:
        EditScan with `positions` (n,), `predictions` (n, T) and `delta` (n,).

    Raises:
        ValueError, TypeError: an invalid sequence, window, width, step, target, model or option.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: the sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.
        CacheWarning: `cache` has no effect, because a part of the model cannot be hashed.

    Example:
        >>> r = deletion_scan("ACGTACGTAC", width=3, flanks=("TTT", "GGG"))
        >>> r.positions.tolist(), r.window
        ([0, 1, 2, 3, 4, 5, 6, 7], 'kept')
    """
    sequence = alphabet.normalize(seq)
    width, step = integer("width", width, 1), integer("step", step, 1)
    first, stop = window(len(sequence), start, end)
    if width > stop - first:
        raise ValueError(f"`width` must be at most the {stop - first} bases of the window, but got {width}.")
    if flanks is None and width == len(sequence):
        raise ValueError(f"`width` must leave a base of the {len(sequence)}, or `flanks` must be passed.")
    places = range(first, stop - width + 1, step)
    edits = [Edit(place, place + width, "") for place in places]
    scores = score_edits(
        sequence, edits, model, target=target, flanks=flanks, batch_size=batch_size, compile=compile, cache=cache,
        rc_average=rc_average,
    )  # fmt: skip
    return EditScan(scores, "deletion", width)


def insertion_scan(
    seq: str,
    model: ModelLike = None,
    *,
    insert: str,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    step: int = 1,
    flanks: tuple[str, str] | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> EditScan:
    """Predict the insertion of a string before every base of a sequence, and after the last.

    Args:
        seq: one sequence of length L.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        insert: the string to insert, such as a motif.
        target: name or number of the target for `delta`. Optional if the model has one target.
        start, end: positions, 0-based: the insertions are before base `start`, ..., before base `end`. If `end` is the
            length, the last one is after the last base. The default is all positions.
        step: distance between successive insertions, in bases.
        flanks, batch_size, compile, cache, rc_average: as in `score_edits`. Without flanks, the sequence gets longer.

    Returns:
        EditScan with `positions` (n,), `predictions` (n, T) and `delta` (n,).

    Raises:
        ValueError, TypeError: an invalid sequence, window, string, step, target, model or option.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: the sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.
        CacheWarning: `cache` has no effect, because a part of the model cannot be hashed.

    Example:
        >>> r = insertion_scan("ACGTACGTAC", insert="GATA", start=2, end=6)
        >>> r.positions.tolist(), r.window
        ([2, 3, 4, 5, 6], 'changed')
    """
    sequence, string = alphabet.normalize(seq), alphabet.normalize(insert, name="insert")
    first, stop = window(len(sequence), start, end)
    edits = [Edit(place, place, string) for place in range(first, stop + 1, integer("step", step, 1))]
    scores = score_edits(
        sequence, edits, model, target=target, flanks=flanks, batch_size=batch_size, compile=compile, cache=cache,
        rc_average=rc_average,
    )  # fmt: skip
    return EditScan(scores, "insertion", len(string), string)

"""In-silico saturation mutagenesis: the prediction for every single-base substitution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Editor, substitutions, window
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import Compile, ModelLike, SequenceModel
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import warn_outside_training
from crossdna_interpret.results import Mutagenesis
from crossdna_interpret.results.averaged import average_orientations
from crossdna_interpret.scoring.batches import require_memory, resolve_batch_size
from crossdna_interpret.scoring.runner import run_edits
from crossdna_interpret.scoring.targets import resolve_target

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
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
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
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> list[Mutagenesis]: ...
def ism(
    seq: str | Sequence[str],
    model: ModelLike = None,
    *,
    target: str | int | None = None,
    start: int = 0,
    end: int | None = None,
    batch_size: int | None = None,
    compile: Compile = "auto",
    cache: str | Path | None = None,
    rc_average: bool = False,
) -> Mutagenesis | list[Mutagenesis]:
    """Predict every single-base substitution in a window of a sequence.

    `score_edits` computes the scores. They are exact, and CrossDNA models reuse what the edited sequences share. Memory
    depends on the batch size, not on the number of edits. An N in the sequence can be substituted, but no base is
    changed to N.

    Args:
        seq: one sequence of length L, or a list of them.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        target: name or number of the target for `delta` and `importance`. Optional if the model has one target.
        start, end: window, 0-based half-open. The default is the whole sequence.
        batch_size: edits in a batch. By default it is chosen from the available memory and from timings.
        compile: whether to use compiled kernels: "auto", True or False. See `score_edits`.
        cache: a folder where scores are saved, so that the same call can continue after an interruption.
        rc_average: whether to average over both orientations. See `score_edits`.

    Returns:
        Mutagenesis with `predictions` (L', 4, T) in the units of the targets. A list for a list of sequences.

    Raises:
        ValueError, TypeError: an invalid sequence (the message has its index in a list), window, target or model.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.
        RuntimeError: `compile=True`, but compilation is impossible. The message says why.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.
        ReuseWarning: scores with reuse were too inexact, so all edits were scored again by full passes.
        CacheWarning: `cache` has no effect, because a part of the model cannot be hashed.

    Example:
        >>> r = ism("ACGTACGTAC", start=2, end=5)
        >>> r.predictions.shape, r.delta.shape
        ((3, 4, 1), (3, 4))
    """
    resolved = resolve_model(model)
    index = resolve_target(resolved, target)
    sequences = alphabet.normalize_many(seq, name="seq")
    windows = [window(len(sequence), start, end) for sequence in sequences]
    warn_outside_training(resolved, sequences, level_of_caller())
    for sequence, (first, stop) in zip(sequences, windows, strict=True):  # check all before any work
        size = resolve_batch_size(resolved, len(sequence), batch_size)
        require_memory(resolved, min(size, 4 * (stop - first)), len(sequence))
    models = (resolved, ReverseComplemented(resolved)) if rc_average else (resolved,)
    results = []
    for sequence, part in zip(sequences, windows, strict=True):
        options = {"batch_size": batch_size, "compile": compile, "cache": cache}
        result = [_mutate(sequence, each, index, part, **options) for each in models]
        results.append(average_orientations(*result) if rc_average else result[0])
    return results[0] if alphabet.is_single(seq) else results


def _mutate(sequence: str, model: SequenceModel, target: int, part: tuple[int, int], **options: Any) -> Mutagenesis:
    start, end = part
    rows, bases, edits = substitutions(sequence, start, end)
    run = run_edits(model, Editor(sequence), edits, "ism", **options)
    predictions = np.broadcast_to(run.reference, (end - start, 4, len(run.reference))).copy()
    predictions[rows, bases] = run.predictions
    return Mutagenesis(
        sequence=sequence,
        start=start,
        targets=tuple(model.targets),
        target=model.targets[target],
        reference=run.reference,
        predictions=predictions,
        certificate=run.certificate,
    )

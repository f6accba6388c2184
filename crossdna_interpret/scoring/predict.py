"""Scores of sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.orientation import ReverseComplemented
from crossdna_interpret.models.protocols import ModelLike
from crossdna_interpret.models.registry import resolve_model
from crossdna_interpret.models.training_range import shown_elsewhere, warn_outside_training
from crossdna_interpret.parallel import for_each
from crossdna_interpret.progress import progress
from crossdna_interpret.scoring.batches import require_memory, resolve_batch_size, runs_in_threads, threads_for
from crossdna_interpret.scoring.forward import evaluation_mode, score_ids, stability
from crossdna_interpret.scoring.targets import require_room

__all__ = ["predict"]

_WORTH_SPREADING = 1024  # total positions from which several threads are faster


def predict(
    seqs: str | Sequence[str], model: ModelLike = None, *, batch_size: int | None = None, rc_average: bool = False
) -> np.ndarray:
    """Score sequences.

    Args:
        seqs: one sequence or N sequences of any length. Letters A, C, G, T, U, N in upper or lower case.
        model: a model, a name or path for `load_model`, or None for the bundled model.
        batch_size: sequences in a batch. By default it is chosen from their length.
        rc_average: whether to average the scores of each sequence and its reverse complement.

    Returns:
        (N, T) array in the order of `seqs`, in the units of the model's targets. The dtype is float64 for models that
        return float64 or integers of 32 bits or more, and float32 otherwise.

    Raises:
        ValueError, TypeError: invalid sequences (the message has their index), or an unknown model.
        MemoryError: a sequence is too long for the available memory. The message has the estimate.

    Warns:
        OutsideTrainingWarning: a sequence is unlike the training data of the model.
        UnstableModelWarning: the model scores the same sequence differently in different calls.

    Example:
        >>> predict(["ACGT" * 41, "acguN"]).shape
        (2, 1)
    """
    normal = alphabet.normalize_many(seqs)
    resolved = resolve_model(model)
    warn_outside_training(resolved, normal, level_of_caller())
    if rc_average:
        with shown_elsewhere():  # the warnings were already shown above
            own = predict(normal, resolved, batch_size=batch_size)
            reverse = predict(normal, ReverseComplemented(resolved), batch_size=batch_size)
        return np.asarray((own + reverse) / 2)
    by_length: dict[int, list[int]] = {}
    for index, seq in enumerate(normal):
        by_length.setdefault(len(seq), []).append(index)
    sizes = {length: resolve_batch_size(resolved, length, batch_size) for length in by_length}
    if batch_size is None and runs_in_threads(resolved):  # at least one batch for each thread
        for length, rows in by_length.items():
            if length * len(rows) >= _WORTH_SPREADING:
                sizes[length] = min(sizes[length], -(-len(rows) // torch.get_num_threads()))
    require_room(resolved, len(normal))
    for length, rows in by_length.items():
        require_memory(resolved, min(sizes[length], len(rows)), length)
    scores: list[np.ndarray] = [np.empty(0)] * len(normal)
    batches = [
        rows[first : first + sizes[length]]
        for length, rows in by_length.items()
        for first in range(0, len(rows), sizes[length])
    ]
    with evaluation_mode(resolved) as evaluated, progress(len(normal), "predict", "sequence") as bar:
        # The length with the most sequences, because a batch of one shows no dependence on the others of a batch.
        length = max(by_length, key=lambda each: min(sizes[each], len(by_length[each])))
        first = normal[by_length[length][0]]
        stability(evaluated, alphabet.encode(first), min(sizes[length], len(by_length[length])))

        def score(batch: list[int]) -> np.ndarray:
            return score_ids(evaluated, np.stack([alphabet.encode(normal[row]) for row in batch]))

        def keep(batch: list[int], result: np.ndarray) -> None:
            for row, of_row in zip(batch, result, strict=True):
                scores[row] = of_row
            bar.update(len(batch))

        threads = min(threads_for(evaluated, min(sizes[each], len(rows)), each) for each, rows in by_length.items())
        for_each(batches, score, keep, threads=min(threads, len(batches)))
    return np.stack(scores)

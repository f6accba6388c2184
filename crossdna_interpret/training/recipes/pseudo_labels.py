"""Sequences that nobody measured, with the predictions of teachers.

N  sequences    L  positions    T  targets
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossdna_interpret.training.recipes.families import Families

__all__ = ["Teacher", "pseudo_labelled"]

# ids (N, L) -> scores (N, T)
Teacher = Callable[[np.ndarray], np.ndarray]


def pseudo_labelled(
    table: Families, teacher: Teacher, starts: int, *, mutants: int = 3, max_changes: int = 4, seed: int = 0
) -> Families:
    """Families of new sequences and their mutants, with the teacher's predictions as targets.

    A third of the starts are rows of the table, a third cross two rows at one position, and a third are random bases.
    Each mutant differs from its start in one to `max_changes` bases. All pairs of a start and its mutant are relatives.

    Args:
        table: the training rows. Their measurements are not used.
        teacher: the teacher.
        starts: number of families.
        mutants: mutants of each start.
        max_changes: largest number of changed bases of a mutant.
        seed: seed of the sequences.

    Raises:
        ValueError: `max_changes` is not from 1 to L, or the teacher's predictions have another shape than the targets.
    """
    random = np.random.default_rng(seed)
    length = table.ids.shape[1]
    if not 1 <= max_changes <= length:
        raise ValueError(f"`max_changes` must be from 1 to {length}, but is {max_changes}.")
    own = table.ids[random.integers(len(table), size=starts)]
    other = table.ids[random.integers(len(table), size=starts)]
    kind = np.arange(starts) % 3
    crossed = (np.arange(length) < random.integers(length, size=(starts, 1))) & (kind == 1)[:, None]
    begin = np.where(crossed, other, own)
    begin[kind == 2] = random.integers(4, size=((kind == 2).sum(), length))
    ids = np.repeat(begin[:, None], 1 + mutants, axis=1)
    changed = np.argsort(random.random((starts, mutants, length)), axis=2)[:, :, :max_changes]
    by = random.integers(1, 4, size=changed.shape)
    by[np.arange(max_changes) >= random.integers(1, max_changes + 1, size=(starts, mutants, 1))] = 0
    before = np.take_along_axis(ids[:, 1:], changed, axis=2)
    # A base becomes another one, and an N any.
    after = np.where(before < 4, (before + by) % 4, random.integers(4, size=before.shape))
    np.put_along_axis(ids[:, 1:], changed, np.where(by > 0, after, before).astype(ids.dtype), axis=2)
    flat = ids.reshape(-1, length)
    scores = np.asarray(teacher(flat), dtype=np.float32)
    if scores.shape != (len(flat), len(table.target_names)):
        raise ValueError(f"`teacher` must return {(len(flat), len(table.target_names))}, but returned {scores.shape}.")
    start = np.repeat(np.arange(starts) * (1 + mutants), mutants)
    mutant = (np.arange(starts)[:, None] * (1 + mutants) + np.arange(1, 1 + mutants)).reshape(-1)
    pairs = np.stack([start, mutant], axis=1)
    return Families(flat, scores, np.ones(len(flat), dtype=np.float32), pairs, table.target_names)

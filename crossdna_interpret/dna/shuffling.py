"""Dinucleotide shuffles. numpy only."""

from __future__ import annotations

import warnings

import numpy as np

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet, strand

__all__ = ["ShuffleWarning", "dinucleotide_shuffles"]


class ShuffleWarning(UserWarning):
    """A sequence has no other dinucleotide shuffle than itself, so that a comparison with shuffles says nothing.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.ShuffleWarning)  # stop, rather than get zeros
        ...     a = cdi.integrated_gradients("ACGTTGCATGCA")
    """


def dinucleotide_shuffles(sequence: str, count: int, seed: int) -> np.ndarray:
    """Shuffles that keep how often each pair of neighbours occurs; each stretch between Ns is shuffled by itself.

    Every order that keeps them is equally likely (Altschul and Erickson 1985, Mol Biol Evol 2:526), the given one among
    them. All have the same first and last base in each stretch. They are the same shuffles of the duplex, whichever
    strand it is given by.

    Args:
        sequence: normalised, length L.
        count: how many.
        seed: of the draws, any integer of at least 0. The global random state is neither read nor changed.

    Returns:
        (count, L) ids.

    Warns:
        ShuffleWarning: all of them are the sequence itself, which has no other or hardly any.
    """
    other = strand.reverse_complement(sequence)
    drawn = _shuffled(alphabet.encode(min(sequence, other)), count, seed)
    drawn = drawn if sequence <= other else strand.reverse_complement_ids(drawn)
    own = alphabet.encode(sequence)
    if (drawn == own).all() and (own != alphabet.N_ID).any():
        shown = sequence if len(sequence) <= 24 else f"{sequence[:20]}..."
        warnings.warn(
            f"Each of {count} dinucleotide shuffles of {shown} is the sequence itself: a comparison with them gives "
            "zeros. Integrated gradients have other baselines, 'uniform' and 'zeros'.",
            ShuffleWarning,
            stacklevel=level_of_caller(),
        )
    return drawn


def _shuffled(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    result = np.repeat(ids[None], count, axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], ids == alphabet.N_ID, [True]])))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        rng = np.random.default_rng([seed, start])
        for row in range(count):
            result[row, start:end] = _eulerian_path(ids[start:end], rng)
    return result


def _eulerian_path(ids: np.ndarray, rng: np.random.Generator) -> list[int]:
    """A random walk from the first to the last base that takes each step between neighbours just as often.

    The steps that leave each base are put in a random order. It is a walk to the end if the last steps that leave the
    other bases lead to the last base, as a tree. Trees are drawn by loop-erased random walks (Wilson 1996), which makes
    every walk equally likely.
    """
    last = int(ids[-1])
    following = [ids[1:][ids[:-1] == base] for base in range(4)]
    final = _last_steps(following, last, rng)
    order = []
    for base, bases in enumerate(following):
        if base in final:
            rest = np.delete(bases, final[base])
            order.append(iter([*rng.permutation(rest).tolist(), int(bases[final[base]])]))
        else:
            order.append(iter(rng.permutation(bases).tolist()))
    walk = [int(ids[0])]
    while (step := next(order[walk[-1]], None)) is not None:
        walk.append(step)
    return walk


def _last_steps(following: list[np.ndarray], last: int, rng: np.random.Generator) -> dict[int, int]:
    """For each base but the last, which of its steps it is left by in the end: a random tree that leads to the last."""
    final: dict[int, int] = {}
    for base in range(4):
        if not len(following[base]):
            continue
        step: dict[int, int] = {}
        at = base
        while at != last and at not in final:
            step[at] = int(rng.integers(len(following[at])))  # a loop is erased: what comes later counts
            at = int(following[at][step[at]])
        at = base
        while at != last and at not in final:
            final[at] = step[at]
            at = int(following[at][step[at]])
    return final

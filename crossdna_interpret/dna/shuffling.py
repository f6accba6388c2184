"""Dinucleotide shuffles. Needs only numpy."""

from __future__ import annotations

import warnings

import numpy as np

from crossdna_interpret._validation import level_of_caller
from crossdna_interpret.dna import alphabet, strand

__all__ = ["ShuffleWarning", "dinucleotide_shuffles"]


class ShuffleWarning(UserWarning):
    """The only dinucleotide shuffle of a sequence is itself, so a comparison with shuffles has no meaning.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.ShuffleWarning)  # stop instead of returning zeros
        ...     a = cdi.integrated_gradients("ACGTTGCATGCA")
    """


def dinucleotide_shuffles(sequence: str, count: int, seed: int) -> np.ndarray:
    """Shuffle a sequence and keep its dinucleotide counts. Each span between Ns is shuffled separately.

    All orders with the same counts are equally likely, including the original (Altschul and Erickson 1985, Mol Biol
    Evol 2:526). The first and last base of each span are fixed. A sequence and its reverse complement get the same
    shuffles of the double strand.

    Args:
        sequence: normalised sequence of length L.
        count: number of shuffles.
        seed: random seed, an integer of at least 0. The global random state is not used.

    Returns:
        (count, L) ids.

    Warns:
        ShuffleWarning: all shuffles are the sequence itself, because it has no or hardly any others.
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
    """A random Eulerian path from the first to the last base, which uses each step between neighbours equally often.

    The steps that leave each base are in random order. The path reaches the end only if the last steps from the other
    bases form a tree that leads to the last base. Such trees are drawn by loop-erased random walks (Wilson 1996), so
    all paths are equally likely.
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
    """For each base except the last, the index of the final step that leaves it. They form a random tree."""
    final: dict[int, int] = {}
    for base in range(4):
        if not len(following[base]):
            continue
        step: dict[int, int] = {}
        at = base
        while at != last and at not in final:
            step[at] = int(rng.integers(len(following[at])))  # overwriting erases a loop
            at = int(following[at][step[at]])
        at = base
        while at != last and at not in final:
            final[at] = step[at]
            at = int(following[at][step[at]])
    return final

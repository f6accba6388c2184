"""Insertion of motifs into background sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.io.examples import example, example_names
from crossdna_interpret.motifs.collection import Motif, MotifsLike, find_motif, read_motifs

__all__ = ["MotifLike", "backgrounds_of", "insert_motif", "resolve_motif"]

MotifLike = str | Motif

_BACKGROUNDS = 48  # enough for a confidence interval that is narrow compared with most effects


def resolve_motif(name: str, motif: MotifLike, motifs: MotifsLike = "jaspar-vertebrates") -> tuple[str, str]:
    """The label of a motif, and its DNA: the string itself or the consensus of the motif.

    Args:
        name: name of the argument, for errors.
        motif: DNA, a Motif, or the name or id of a motif in `motifs`. A string that has only bases is DNA.
        motifs: collection for the names.

    Raises:
        ValueError, TypeError: an unknown name (the message lists near matches), or another type.
    """
    if isinstance(motif, Motif):
        return motif.label, motif.consensus
    if not isinstance(motif, str):
        raise TypeError(f"`{name}` must be DNA, a name or a Motif, but got {type(motif).__name__}.")
    if motif and set(motif.upper()) <= set("ACGTUN"):
        string = alphabet.normalize(motif, name=name)
        return string, string
    if not motif.strip():
        raise ValueError(f"`{name}` must be DNA, a name or a Motif, but got {motif!r}.")
    try:
        result = find_motif(motif, read_motifs(motifs))
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None
    return result.label, result.consensus


def backgrounds_of(backgrounds: str | Sequence[str] | None, seed: int) -> list[str]:
    """Background sequences of one length: those of the caller, or by default shuffles of the example enhancers.

    Raises:
        ValueError, TypeError: invalid sequences, or different lengths.
    """
    if backgrounds is None:
        names = example_names()
        each = -(-_BACKGROUNDS // len(names))
        drawn = [dinucleotide_shuffles(example(name).sequence, each, seed + at) for at, name in enumerate(names)]
        return [alphabet.decode(ids) for ids in np.concatenate(drawn)[:_BACKGROUNDS]]
    result = alphabet.normalize_many(backgrounds, name="backgrounds")
    lengths = sorted({len(each) for each in result})
    if len(lengths) > 1:
        raise ValueError(f"`backgrounds` must be of one length, but are of {lengths[0]} to {lengths[-1]} bases.")
    return result


def insert_motif(background: str, start: int, string: str) -> str:
    """Replace bases of a background by a string. At an N of the string, the base of the background stays.

    Raises:
        ValueError: the string does not fit there.
    """
    if len(string) > len(background):
        raise ValueError(f"`motif` has {len(string)} bases, more than the {len(background)} of the backgrounds.")
    if not 0 <= start <= len(background) - len(string):
        raise ValueError(
            f"`start` must be from 0 to {len(background) - len(string)} for {len(string)} bases in "
            f"{len(background)}, but got {start}."
        )
    ids = alphabet.encode(background)
    new = alphabet.encode(string)
    ids[start : start + len(new)] = np.where(new == alphabet.N_ID, ids[start : start + len(new)], new)
    return alphabet.decode(ids)

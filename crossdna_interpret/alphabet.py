"""Bases, their ids and channels, and the parsing of what users type. numpy only.

Ids and one-hot channels follow the published CrossDNA alphabet: A=0, C=1, G=2, T=3, N=4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

__all__ = [
    "ALPHABET",
    "BASES",
    "N_ID",
    "complement_ids",
    "decode",
    "encode",
    "normalize",
    "normalize_many",
    "one_hot",
]

BASES = "ACGT"
ALPHABET = "ACGTN"
N_ID = 4

_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.int64)
_ACCEPTED = str.maketrans("acgtnuU", "ACGTNTT")
_ID_OF_BYTE = np.full(256, -1, dtype=np.int64)
_ID_OF_BYTE[np.frombuffer(ALPHABET.encode(), dtype=np.uint8)] = np.arange(5)
_BYTE_OF_ID = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)


def normalize(seq: str, *, name: str = "seq") -> str:
    """Upper-case a DNA or RNA string, with U read as T, and refuse anything but A, C, G, T and N.

    Args:
        seq: sequence as the user typed it, length L >= 1.
        name: how to call the argument in an error.

    Returns:
        The same sequence over ``ACGTN``, length L.

    Raises:
        TypeError: `seq` is not a string.
        ValueError: `seq` is empty, or holds another character; the message gives it and its 0-based position.

    Example:
        >>> normalize("acguN")
        'ACGTN'
    """
    if not isinstance(seq, str):
        raise TypeError(f"`{name}` must be a string of bases such as 'ACGT', but got {type(seq).__name__}.")
    if not seq:
        raise ValueError(f"`{name}` must hold at least one base, but it is empty.")
    upper = seq.translate(_ACCEPTED)
    if upper.strip(ALPHABET):  # cheap: strips valid ends; the exact place is only looked up when something is left
        position = next((i for i, base in enumerate(upper) if base not in ALPHABET), None)
        if position is not None:
            raise ValueError(
                f"`{name}` has {seq[position]!r} at position {position} (0-based); "
                "expected only A, C, G, T, U or N, in either case."
            )
    return upper


def normalize_many(seqs: str | Sequence[str] | Iterable[str], *, name: str = "seqs") -> list[str]:
    """Normalise one string or several; an error names the entry it is about, as in ``seqs[3]``.

    Args:
        seqs: one sequence, or an iterable of N sequences of any lengths.
        name: how to call the argument in an error.

    Returns:
        N strings over ``ACGTN``.

    Raises:
        TypeError: not a string and not an iterable of strings.
        ValueError: no sequence at all, or one that `normalize` refuses.

    Example:
        >>> normalize_many(["ac", "gu"])
        ['AC', 'GT']
    """
    if isinstance(seqs, str):
        return [normalize(seqs, name=name)]
    if isinstance(seqs, bytes) or not isinstance(seqs, Iterable):
        raise TypeError(f"`{name}` must be a string or a list of strings, but got {type(seqs).__name__}.")
    result = [normalize(seq, name=f"{name}[{i}]") for i, seq in enumerate(seqs)]
    if not result:
        raise ValueError(f"`{name}` must hold at least one sequence, but it is empty.")
    return result


def encode(seq: str) -> np.ndarray:
    """Ids of a normalised sequence: (L,) int64, A=0 C=1 G=2 T=3 N=4.

    Example:
        >>> encode("ACGTN").tolist()
        [0, 1, 2, 3, 4]
    """
    return _ID_OF_BYTE[np.frombuffer(normalize(seq).encode("ascii"), dtype=np.uint8)]


def decode(ids: np.ndarray | Sequence[int]) -> str:
    """The string of an (L,) array of ids; the inverse of `encode`.

    Example:
        >>> decode([0, 1, 2, 3, 4])
        'ACGTN'
    """
    return _BYTE_OF_ID[np.asarray(ids, dtype=np.int64)].tobytes().decode("ascii")


def complement_ids(ids: np.ndarray) -> np.ndarray:
    """Watson-Crick complement of ids of any shape (A<->T, C<->G, N stays); order is kept.

    Example:
        >>> complement_ids(np.array([0, 1, 4])).tolist()
        [3, 2, 4]
    """
    return _COMPLEMENT.astype(ids.dtype)[ids]


def one_hot(ids: np.ndarray, dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
    """One-hot channels-first encoding of ids.

    Args:
        ids: (..., L) integer array of ids 0 to 4.
        dtype: element type of the result.

    Returns:
        (..., 5, L) array, channel order ACGTN.

    Example:
        >>> one_hot(encode("CN")).T.tolist()
        [[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    channels = np.arange(len(ALPHABET)).reshape((1,) * (ids.ndim - 1) + (-1, 1))
    return (np.expand_dims(ids, -2) == channels).astype(dtype)

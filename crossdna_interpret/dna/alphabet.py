"""Bases, their ids and one-hot channels, and parsing of sequences. Needs only numpy.

Ids and one-hot channels follow the published CrossDNA alphabet: A=0, C=1, G=2, T=3, N=4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

__all__ = [
    "ALPHABET",
    "BASES",
    "N_ID",
    "complement_ids",
    "decode",
    "encode",
    "is_single",
    "normalize",
    "normalize_many",
    "one_hot",
]

BASES = "ACGT"
ALPHABET = "ACGTN"
N_ID = 4

_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.int64)
_ACCEPTED = str.maketrans("acgtnuU", "ACGTNTT")
_LONGEST_PATH = 1000  # characters of a text that may be a path by mistake
_ID_OF_BYTE = np.full(256, -1, dtype=np.int64)
_ID_OF_BYTE[np.frombuffer(ALPHABET.encode(), dtype=np.uint8)] = np.arange(5)
_BYTE_OF_ID = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)


def normalize(seq: object, *, name: str = "seq") -> str:
    """Convert a DNA or RNA string to upper case, with U as T, and check that it has only A, C, G, T and N.

    Args:
        seq: sequence as the user typed it, length L >= 1: a string (also numpy's), or a sequence object of Biopython,
            pyfaidx, dnaio or scikit-bio.
        name: name of the argument for errors.

    Returns:
        The same sequence over ``ACGTN``, length L.

    Raises:
        TypeError: `seq` is not one sequence.
        ValueError: `seq` is empty or has another character. The message has the character and its 0-based position.

    Example:
        >>> normalize("acguN")
        'ACGTN'
    """
    text = _text(seq, name)
    if not text:
        raise ValueError(f"`{name}` must hold at least one base, but it is empty.")
    upper = text.translate(_ACCEPTED)
    if upper.strip(ALPHABET):  # fast check. The exact position is searched only if it fails
        position = next((i for i, base in enumerate(upper) if base not in ALPHABET), None)
        if position is not None:
            path = any(mark in text for mark in "./\\") and len(text) < _LONGEST_PATH
            raise ValueError(
                f"`{name}` has {text[position]!r} at position {position} (0-based); "
                "expected only A, C, G, T, U or N, in either case."
                + (" It looks like a path: read the file with `read_fasta` first." if path else "")
            )
    return upper


def normalize_many(seqs: object, *, name: str = "seqs") -> list[str]:
    """Normalise one or several sequences. Errors name the entry, such as ``seqs[3]``.

    Args:
        seqs: one sequence as for `normalize`, or several of any length: a list, a Series, a numpy array of one axis, or
            a generator.
        name: name of the argument for errors.

    Returns:
        N strings over ``ACGTN``.

    Raises:
        TypeError: not a sequence and not a list. Mappings are refused because they have names, sets because they have
            no order.
        ValueError: the list is empty or has an invalid sequence.

    Example:
        >>> normalize_many(["ac", "gu"])
        ['AC', 'GT']
    """
    if is_single(seqs):
        return [normalize(seqs, name=name)]
    kind = type(seqs).__name__
    has_names = callable(getattr(seqs, "keys", None)) and callable(getattr(seqs, "values", None))
    if isinstance(seqs, Mapping) or has_names or hasattr(seqs, "columns"):  # a dict, an open FASTA file, a table
        raise TypeError(
            f"`{name}` must be a sequence or a list of them, but got a {kind}, which has names too. Pass "
            "list(seqs.values()), or a single column of a table."
        )
    if isinstance(seqs, (set, frozenset)):
        raise TypeError(f"`{name}` must be a list of sequences in an order, but got a {kind}, which has none.")
    if isinstance(seqs, np.ndarray) and seqs.ndim != 1:
        raise TypeError(f"`{name}` must be a list of sequences, but got an array of shape {seqs.shape}.")
    if isinstance(seqs, (bytes, bytearray, memoryview)) or not isinstance(seqs, Iterable):
        raise TypeError(f"`{name}` must be a string or a list of strings, but got {kind}.")
    result = [normalize(seq, name=f"{name}[{i}]") for i, seq in enumerate(seqs)]
    if not result:
        raise ValueError(f"`{name}` must hold at least one sequence, but it is empty.")
    return result


# Iterable classes whose objects are one sequence. They are compared by name, so that nothing is imported.
_SEQUENCE_CLASSES = {
    "Bio.Seq": ("_SeqAbstractBaseClass", "Seq", "MutableSeq"),
    "Bio.SeqRecord": ("SeqRecord",),
    "pyfaidx": ("Sequence", "FastaRecord"),
    "dnaio": ("SequenceRecord",),
    "skbio.sequence": ("Sequence",),
}


def is_single(seq: object) -> bool:
    """Whether an argument is one sequence, not several.

    Example:
        >>> is_single("ACGT"), is_single(["ACGT"])
        (True, False)
    """
    if isinstance(seq, str):
        return True
    if isinstance(seq, np.ndarray):
        return seq.ndim == 0
    for kind in type(seq).__mro__:
        for module, names in _SEQUENCE_CLASSES.items():
            if kind.__name__ in names and (kind.__module__ == module or kind.__module__.startswith(f"{module}.")):
                return True
    return False


def _text(seq: object, name: str) -> str:
    if isinstance(seq, np.ndarray) and seq.ndim == 0:
        seq = seq.item()
    if isinstance(seq, str):
        return str(seq)
    if not is_single(seq):
        hint = " Decode it first." if isinstance(seq, (bytes, bytearray)) else ""
        if isinstance(seq, Iterable) and not hint:
            hint = " Pass one sequence at a time."
        raise TypeError(f"`{name}` must be a string of bases such as 'ACGT', but got {type(seq).__name__}.{hint}")
    held = next((getattr(seq, name) for name in ("seq", "sequence") if getattr(seq, name, None) is not None), seq)
    try:
        return str(held)
    except Exception as error:  # for example a sequence object with a length but without content
        raise ValueError(f"`{name}` is a {type(seq).__name__} whose bases cannot be read: {error}") from error


def encode(seq: str) -> np.ndarray:
    """Ids of a normalised sequence: (L,) int64, A=0 C=1 G=2 T=3 N=4.

    Example:
        >>> encode("ACGTN").tolist()
        [0, 1, 2, 3, 4]
    """
    return _ID_OF_BYTE[np.frombuffer(normalize(seq).encode("ascii"), dtype=np.uint8)]


def decode(ids: np.ndarray | Sequence[int]) -> str:
    """Convert ids (L,) to a string. This is the inverse of `encode`.

    Example:
        >>> decode([0, 1, 2, 3, 4])
        'ACGTN'
    """
    return _BYTE_OF_ID[np.asarray(ids, dtype=np.int64)].tobytes().decode("ascii")


def complement_ids(ids: np.ndarray) -> np.ndarray:
    """Watson-Crick complement of ids of any shape (A<->T, C<->G, N<->N), in the same order.

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

"""The range of a model's training sequences, and warnings for sequences outside it. Needs only numpy."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet

__all__ = [
    "OutsideTrainingWarning",
    "TrainingRange",
    "outside_training",
    "shown_elsewhere",
    "warn_of_lengths",
    "warn_outside_training",
]

_shown_elsewhere: ContextVar[bool] = ContextVar("shown_elsewhere", default=False)


class OutsideTrainingWarning(UserWarning):
    """A sequence is outside the range of the training sequences, so its score is an extrapolation.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always", cdi.OutsideTrainingWarning)
        ...     score = cdi.predict("ACG")
        >>> caught[0].category.__name__
        'OutsideTrainingWarning'
    """


@dataclass(frozen=True)
class TrainingRange:
    """The range of a model's training sequences.

    Attributes:
        shortest, longest: length of the shortest and the longest sequence, in bases.
        alphabet: bases that occur: "ACGT" or "ACGTN".
        gc: smallest and largest GC content, as a fraction of the known bases.
        dinucleotide_bits: smallest entropy of the dinucleotides of a sequence, in bits. It is 4 if all sixteen are
            equally frequent and 0 for a single repeated base.

    Raises:
        ValueError: invalid numbers or alphabet.

    Example:
        >>> TrainingRange.of(["ACGTTGCA", "GGATCCAA"]).shortest
        8
    """

    shortest: int
    longest: int
    alphabet: str = alphabet.BASES
    gc: tuple[float, float] = (0.0, 1.0)
    dinucleotide_bits: float = 0.0

    def __post_init__(self) -> None:
        numbers = {"shortest": self.shortest, "longest": self.longest}
        for name, value in numbers.items():
            integer(name, value, 1)
        shares = tuple(self.gc) if isinstance(self.gc, (list, tuple)) else (self.gc,)
        for name, number in [*(("gc", share) for share in shares), ("dinucleotide_bits", self.dinucleotide_bits)]:
            if not isinstance(number, (int, float)) or isinstance(number, bool):
                raise ValueError(f"`{name}` must be a number, but got {number!r}.")
        if not 0 <= self.dinucleotide_bits <= 4:
            raise ValueError(f"`dinucleotide_bits` must be from 0 to 4, but got {self.dinucleotide_bits}.")
        object.__setattr__(self, "gc", shares)
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(
                f"`shortest` and `longest` must satisfy 1 <= shortest <= longest, but got {self.shortest} and "
                f"{self.longest}."
            )
        if self.alphabet not in (alphabet.BASES, alphabet.ALPHABET):
            raise ValueError(f"`alphabet` must be 'ACGT' or 'ACGTN', but got {self.alphabet!r}.")
        if len(self.gc) != 2 or not 0 <= self.gc[0] <= self.gc[1] <= 1:
            raise ValueError(f"`gc` must be two shares, 0 <= low <= high <= 1, but got {self.gc}.")

    @classmethod
    def of(cls, sequences: Iterable[str | np.ndarray]) -> TrainingRange:
        """Compute the range of sequences, which are strings or ids (L,).

        Raises:
            ValueError: there is no sequence with a base.
        """
        shortest, longest, unknown = math.inf, 0, False
        low, high, entropy = 1.0, 0.0, math.inf
        for sequence in sequences:  # one pass, as they may not fit in memory together
            ids = alphabet.encode(sequence) if isinstance(sequence, str) else sequence
            shortest, longest = min(shortest, len(ids)), max(longest, len(ids))
            unknown = unknown or bool((ids == alphabet.N_ID).any())
            share, own = _composition(ids)
            if not math.isnan(share):  # NaN means that no base is known
                low, high, entropy = min(low, share), max(high, share), min(entropy, own)
        if not longest:
            raise ValueError("`sequences` must hold at least one sequence with a base.")
        # Round outwards, so that no training sequence is outside the range. If no base is known, allow all values.
        low, high = (math.floor(low * 1000) / 1000, math.ceil(high * 1000) / 1000) if low <= high else (0.0, 1.0)
        return cls(
            int(shortest),
            longest,
            alphabet.ALPHABET if unknown else alphabet.BASES,
            (low, high),
            0.0 if math.isinf(entropy) else math.floor(entropy * 1000) / 1000,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingRange:
        """Create a range from the output of `to_dict`.

        Raises:
            ValueError: invalid keys or values.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"`training_range` does not make up a range: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return dataclasses.asdict(self) | {"gc": list(self.gc)}

    def problem(self, sequence: str) -> str | None:
        """Describe why a normalised sequence is outside the range. None if it is inside.

        Example:
            >>> TrainingRange(164, 164).problem("ACG")
            'trained on sequences of 164 bases; this one has 3'
        """
        ids = alphabet.encode(sequence)
        problems = []
        if not self.shortest <= len(ids) <= self.longest:
            lengths = " to ".join(f"{each:,}" for each in sorted({self.shortest, self.longest}))
            problems.append(f"trained on sequences of {lengths} bases; this one has {len(ids):,}")
        unknown = int((ids == alphabet.N_ID).sum())
        if unknown and alphabet.ALPHABET[alphabet.N_ID] not in self.alphabet:
            problems.append(f"trained without N; this one has {unknown:,}")
        share, entropy = _composition(ids)
        if not np.isnan(share) and not self.gc[0] <= share <= self.gc[1]:
            problems.append(f"trained on {self.gc[0]:.1%} to {self.gc[1]:.1%} G and C; this one has {share:.1%}")
        # A short sequence has few dinucleotides simply because it is short. The length check already reports it.
        if len(ids) >= self.shortest and unknown < len(ids) and entropy < self.dinucleotide_bits:
            problems.append(
                f"trained on dinucleotides of at least {self.dinucleotide_bits:.1f} bits (4 where all are equally "
                f"frequent); this one is as repetitive as {entropy:.1f}"
            )
        return ". ".join(problems[:1] + [each[0].upper() + each[1:] for each in problems[1:]]) or None


def _composition(ids: np.ndarray) -> tuple[float, float]:
    """GC content as a fraction of the known bases (NaN without any), and entropy of the dinucleotides in bits."""
    ids = np.asarray(ids, dtype=np.int64)
    known = ids[ids < alphabet.N_ID]
    share = float(np.isin(known, (1, 2)).mean()) if len(known) else float("nan")
    pairs = (4 * ids[:-1] + ids[1:])[(ids[:-1] < alphabet.N_ID) & (ids[1:] < alphabet.N_ID)]
    counts = np.bincount(pairs, minlength=16)
    shares = counts[counts > 0] / max(1, len(pairs))
    return share, float(-(shares * np.log2(shares)).sum()) + 0.0


def outside_training(model: object, sequence: str) -> str | None:
    """Describe why a sequence is outside the training range of a model.

    Args:
        model: any model. Without a `training_range`, the result is None.
        sequence: DNA of length L.

    Returns:
        A sentence without its full stop, or None if the sequence is inside or the range is unknown.

    Example:
        >>> import crossdna_interpret as cdi
        >>> outside_training(cdi.load_model(), cdi.example().sequence) is None
        True
    """
    known: TrainingRange | None = getattr(model, "training_range", None)
    return None if known is None else known.problem(alphabet.normalize(sequence))


@contextmanager
def shown_elsewhere() -> Iterator[None]:
    """Context without `OutsideTrainingWarning`, for callers that show `outside_training` in another way."""
    token = _shown_elsewhere.set(True)
    try:
        yield
    finally:
        _shown_elsewhere.reset(token)


def warn_outside_training(model: Any, sequences: Sequence[str], stacklevel: int) -> None:
    """Warn once about normalised sequences outside the training range of the model.

    Warns:
        OutsideTrainingWarning: has their number and the reason for the first.
    """
    known: TrainingRange | None = getattr(model, "training_range", None)
    if known is None or _shown_elsewhere.get():
        return
    problems = [(at, problem) for at, each in enumerate(sequences) if (problem := known.problem(each)) is not None]
    if not problems:
        return
    first, problem = problems[0]
    many = len(sequences) > 1
    which = f" ({len(problems)} of {len(sequences)} sequences, the first number {first})" if many else ""
    warnings.warn(f"{model.name} extrapolates{which}: {problem}.", OutsideTrainingWarning, stacklevel=stacklevel + 1)


def warn_of_lengths(model: Any, length: int, edited: Sequence[int], stacklevel: int) -> None:
    """Warn once about edited sequences with lengths outside the training range.

    There is no warning if the length of the original sequence is outside too.

    Args:
        model: any model.
        length: length of the original sequence.
        edited: lengths of the edited sequences.
        stacklevel: stack level of the caller.

    Warns:
        OutsideTrainingWarning: has their number and lengths.
    """
    known: TrainingRange | None = getattr(model, "training_range", None)
    if known is None or _shown_elsewhere.get() or not known.shortest <= length <= known.longest:
        return
    outside = [each for each in edited if not known.shortest <= each <= known.longest]
    if outside:
        trained = " to ".join(f"{each:,}" for each in sorted({known.shortest, known.longest}))
        lengths = " to ".join(f"{each:,}" for each in sorted({min(outside), max(outside)}))
        warnings.warn(
            f"{model.name} extrapolates: {len(outside):,} of {len(edited):,} edited sequences have {lengths} bases, "
            f"and it was trained on {trained}. With `flanks`, edits keep the length.",
            OutsideTrainingWarning,
            stacklevel=stacklevel + 1,
        )

"""Model inputs: one-hot channels, ids of a vocabulary, or byte-pair tokens.

In the rest of the package a sequence is ids (L,), with A=0 C=1 G=2 T=3 N=4. A model declares its input as one of:

    OneHot     one-hot channels in any order, with or without a channel for an unknown base
    TokenIds   ids of a vocabulary with one token for each base, with special tokens before and after the sequence
    Bpe        tokens of several bases, from a tokenizer

N  sequences    L  positions of a sequence    C  channels    K  tokens, with special tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from crossdna_interpret._validation import integer
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.protocols import capability

__all__ = ["Bpe", "Inputs", "OneHot", "TokenIds", "inputs_of"]

Layout = Literal["channels_first", "channels_last"]


@runtime_checkable
class Inputs(Protocol):
    """Converts the ids of sequences to the inputs of a model."""

    def batch(self, ids: np.ndarray, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Arguments for the model, from ids (N, L). Floating-point tensors have `dtype`."""
        ...

    def expected(self, length: int) -> str | None:
        """None if the model accepts this length, and otherwise the expected length as text, such as "20 bases"."""
        ...


@dataclass(frozen=True)
class OneHot:
    """One-hot channels (N, C, L).

    Attributes:
        channels: order of the channels: A, C, G, T and, if there is a fifth, N.
        unknown: value of the four channels at an N, such as 0.25, if there is no channel for N.
        layout: "channels_first" for (N, C, L), "channels_last" for (N, L, C).
        length: input length in bases, if the model accepts only one length.

    Raises:
        ValueError: invalid channels, layout or length, or both a channel for N and a value for `unknown`.

    Example:
        >>> x, = OneHot("ACGT", unknown=0.25).batch(np.array([[0, 4]]), device=torch.device("cpu"), dtype=torch.float32)
        >>> x[0].T.tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]
    """

    channels: str = alphabet.ALPHABET
    unknown: float = 0.0
    layout: Layout = "channels_first"
    length: int | None = None

    def __post_init__(self) -> None:
        if sorted(self.channels) not in (sorted(alphabet.BASES), sorted(alphabet.ALPHABET)):
            raise ValueError(f"`channels` must be A, C, G, T and perhaps N in some order, but got {self.channels!r}.")
        if self.layout not in get_args(Layout):
            raise ValueError(f"`layout` must be 'channels_first' or 'channels_last', but got {self.layout!r}.")
        if isinstance(self.unknown, bool) or not np.isfinite(self.unknown):
            raise ValueError(f"`unknown` must be a finite number, but got {self.unknown!r}.")
        if self.unknown and "N" in self.channels:
            raise ValueError(
                f"`unknown` must be 0 if there is a channel for N, but got {self.unknown!r} and {self.channels!r}."
            )
        _checked_lengths(length=self.length)

    def batch(self, ids: np.ndarray, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """See `Inputs`."""
        return (self.from_bases(torch.from_numpy(alphabet.one_hot(ids)).to(device=device, dtype=dtype)),)

    def from_bases(self, x: Tensor) -> Tensor:
        """The model's channels, from channels (N, 5, L) in the order ACGTN. Differentiable."""
        if self.channels != alphabet.ALPHABET:
            order = [alphabet.ALPHABET.index(base) for base in self.channels]
            unknown = x[:, 4:]
            x = x[:, order]
            if "N" not in self.channels and self.unknown:
                x = x + self.unknown * unknown
        return x if self.layout == "channels_first" else x.transpose(1, 2)

    def expected(self, length: int) -> str | None:
        """See `Inputs`."""
        return _expected(self.length, length)


@dataclass(frozen=True)
class TokenIds:
    """Ids (N, K) of a vocabulary with one token for each base, with special tokens around the sequence.

    Attributes:
        vocabulary: id of each of A, C, G, T and N.
        before: ids of special tokens before each sequence.
        after: ids of special tokens after each sequence.
        length: input length in bases, if the model accepts only one length.
        longest: largest input length in bases.

    Raises:
        ValueError: a base has no id, two bases have the same id, or an id or a length is not a valid integer.

    Example:
        >>> inputs = TokenIds({"A": 7, "C": 8, "G": 9, "T": 10, "N": 11}, before=(1,), after=(2,))
        >>> inputs.batch(np.array([[0, 4]]), device=torch.device("cpu"), dtype=torch.float32)[0].tolist()
        [[1, 7, 11, 2]]
    """

    vocabulary: Mapping[str, int]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    length: int | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        missing = [base for base in alphabet.ALPHABET if base not in self.vocabulary]
        if missing:
            raise ValueError(f"`vocabulary` must have an id for each of A, C, G, T and N, but lacks {missing}.")
        for base in alphabet.ALPHABET:
            integer(f"vocabulary[{base!r}]", self.vocabulary[base])
        if len(set(self.base_ids[:4])) < 4:
            raise ValueError(
                f"`vocabulary` must have different ids for A, C, G and T, but got {dict(self.vocabulary)}."
            )
        _checked_specials(before=self.before, after=self.after)
        _checked_lengths(length=self.length, longest=self.longest)

    @property
    def base_ids(self) -> tuple[int, ...]:
        """The vocabulary's ids of A, C, G, T, N."""
        return tuple(self.vocabulary[base] for base in alphabet.ALPHABET)

    def batch(self, ids: np.ndarray, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """See `Inputs`."""
        tokens = np.array(self.base_ids, dtype=np.int64)[ids]
        around = (np.tile(np.array(special, dtype=np.int64), (len(ids), 1)) for special in (self.before, self.after))
        first, last = around
        return (torch.from_numpy(np.concatenate([first, tokens, last], axis=1)).to(device),)

    def expected(self, length: int) -> str | None:
        """See `Inputs`."""
        return _expected(self.length, length, self.longest)


class Tokenizer(Protocol):
    """A tokenizer of the library `tokenizers`, or any object with these methods."""

    def encode(self, sequence: str, /) -> Any:
        """An object with ``ids`` and ``offsets``: the id and the bases (start, end) of each token."""
        ...

    def to_str(self) -> str:
        """The full configuration of the tokenizer, as text."""
        ...


@dataclass(frozen=True)
class Bpe:
    """Tokens of several bases (N, K) and an attention mask (N, K) that is 0 at padding, both int64.

    Attributes:
        tokenizer: splits a sequence into tokens without gaps.
        padding: id that fills up sequences with fewer tokens than others in the batch.
        before: ids of special tokens before each sequence.
        after: ids of special tokens after each sequence.
        longest: largest number of tokens, with special tokens.
        unknown: id for unknown bases, such as that of [MASK], if there is one.
        text: full configuration of the tokenizer. The default is from the tokenizer.
    """

    tokenizer: Tokenizer = field(repr=False, compare=False)  # compared by its `text`
    padding: int = 0
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    longest: int | None = None
    unknown: int | None = None
    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _checked_specials(before=self.before, after=self.after)
        _checked_lengths(longest=self.longest)
        integer("padding", self.padding)
        if self.unknown is not None:
            integer("unknown", self.unknown)
        object.__setattr__(self, "text", self.text or self.tokenizer.to_str())

    def tokens(self, sequence: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a sequence's tokens, with special tokens, and the bases (start, end) of each.

        The span of a special token is empty.

        Raises:
            ValueError: the tokenizer skips bases, or there are more tokens than the model accepts.
        """
        result = self.tokenizer.encode(sequence)
        spans = [(int(start), int(end)) for start, end in result.offsets]
        at = 0
        for start, end in spans:
            if start != at or end <= start:
                raise ValueError(f"The tokenizer leaves a gap: a token spans {start} to {end}, but {at} comes next.")
            at = end
        if at != len(sequence):
            raise ValueError(f"The tokenizer stops at base {at} of {len(sequence)}.")
        ids = [*self.before, *result.ids, *self.after]
        if self.longest is not None and len(ids) > self.longest:
            raise ValueError(
                f"`seq` of {len(sequence):,} bases makes {len(ids):,} tokens; the model takes {self.longest:,}."
            )
        return ids, [*((0, 0) for _ in self.before), *spans, *((at, at) for _ in self.after)]

    def batch(self, ids: np.ndarray, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """See `Inputs`."""
        rows = [self.tokens(alphabet.decode(row))[0] for row in ids]
        tokens = torch.full((len(rows), max(map(len, rows), default=0)), self.padding, dtype=torch.int64)
        known = torch.zeros_like(tokens)
        for at, row in enumerate(rows):
            tokens[at, : len(row)] = torch.tensor(row, dtype=torch.int64)
            known[at, : len(row)] = 1
        return tokens.to(device), known.to(device)

    def expected(self, length: int) -> str | None:
        """None, because the number of tokens depends on the bases."""
        return None


def _checked_lengths(**lengths: int | None) -> None:
    for name, length in lengths.items():
        if length is not None:
            integer(name, length, 1)


def _checked_specials(**specials: tuple[int, ...]) -> None:
    for name, ids in specials.items():
        if isinstance(ids, str) or not isinstance(ids, Sequence):
            raise ValueError(f"`{name}` must be a tuple of ids, but got {ids!r}.")
        for token in ids:
            integer(name, token)


def _expected(only: int | None, length: int, longest: int | None = None) -> str | None:
    if only is not None and length != only:
        return f"{only} bases"
    if longest is not None and length > longest:
        return f"at most {longest:,} bases"
    return None


_DEFAULT = OneHot()


def inputs_of(model: object) -> Inputs:
    """The input that a model's class declares. The default is one-hot channels in the order ACGTN."""
    return capability(model, Inputs) or _DEFAULT

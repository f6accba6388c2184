"""P values of motif matches in and around a stretch.

n stretches    M motifs, in groups of m of one width W    S sequences    P placements of a motif    B scores
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.motifs.collection import Motif

__all__ = ["RAREST", "Matcher", "Stretch"]

RAREST = 1e-3  # largest share of random words that may match as well as a word that gives a name
_BIN = 0.1  # bits to which the score of each base is rounded
_PRIOR = 20.0  # bases, and pairs of bases, by which the composition of a sequence is drawn towards an even one
_PLACEMENTS = 4096  # scored at once
# Placements have weights, which do not depend on the bases, so that p values are valid whatever the weights are.
# _SHARPNESS: a weight falls by a factor of e for each 1/60 by which the cosine similarity between the importance of the
# bases and the information of the motif's columns falls. _ALIKE: the share of the error rate that goes, in equal parts,
# to all placements that cover half of what matters in the stretch. A stretch may be part of a long site; then its shape
# says little, and the word alone may be rare enough.
_SHARPNESS, _ALIKE = 60.0, 0.05
# The power of importance and information before they are compared. In a saturated model one base of a site can outweigh
# the others a hundredfold; square roots keep the others in the comparison.
_EVENNESS = 0.5


@dataclass(frozen=True)
class Stretch:
    """A stretch of a sequence.

    Attributes:
        sequence: number of its sequence.
        start, end: 0-based half-open.
        importance: (end - start,) of each base; positive where it has the sign of the stretch as a whole.
    """

    sequence: int
    start: int
    end: int
    importance: np.ndarray

    @property
    def size(self) -> float:
        """Sum of the importance of the bases that have the sign of the stretch."""
        return float(np.clip(self.importance, 0, None).sum(dtype=np.float64))

    @property
    def profile(self) -> np.ndarray:
        """(end - start,) how much each base matters, as a vector of length 1; all 0 where none does."""
        values = np.clip(self.importance, 0, None).astype(np.float64)
        return _unit((values / (values.max() or 1.0)) ** _EVENNESS)


class Matcher:
    """Compares stretches with motifs, in every placement that overlaps a stretch, on both strands.

    The p value of a word is the share of random words of its sequence's dinucleotide composition that score as high or
    higher. It is exact for scores in tenths of a bit. An N, or a base beyond the ends of the sequence, counts as the
    base that fits worst. A word has p = 1 if its score is not above 0, or if more than `RAREST` of random words score
    as high, either of that composition or of even bases.

    Args:
        motifs: M of them.
        sequences: S of them.
    """

    def __init__(self, motifs: Sequence[Motif], sequences: Sequence[str]) -> None:
        self.motifs = list(motifs)
        self.ids = [alphabet.encode(sequence) for sequence in sequences]
        widths = np.array([motif.width for motif in motifs])
        self._groups = [_Group.of(self.motifs, np.flatnonzero(widths == width)) for width in np.unique(widths)]

    def p_values(self, stretches: Sequence[Stretch]) -> tuple[np.ndarray, np.ndarray]:
        """The p value of each motif's best placement, corrected for the number of placements.

        The correction is Bonferroni's with weights: a placement has the more weight, the better the information of the
        motif's columns follows the importance of the bases. The sums of weights average 1 over motifs, so that motifs
        of the shape of a stretch have more weight than others.

        Returns:
            (n, M) p values; (n,) mean over motifs of the sum of their weights before these were made to average 1.
        """
        shape = len(stretches), len(self.motifs)
        lowest, lowest_alike, total = np.full(shape, np.inf), np.full(shape, np.inf), np.zeros(shape[0])
        for group in self._groups:
            covering = np.zeros(len(stretches))
            for owners, _, log_p, log_weights, covers in self._placements(group, stretches):
                first = np.flatnonzero(np.diff(owners, prepend=-1))
                at = np.ix_(owners[first], group.members)
                for lows, values in (
                    (lowest, log_p - log_weights),
                    (lowest_alike, np.where(covers[:, None], log_p, np.inf)),
                ):
                    best = np.minimum.reduceat(values, first).reshape(len(first), 2, -1).min(axis=1)
                    lows[at] = np.minimum(lows[at], best)
                total[owners[first]] += np.add.reduceat(np.exp(log_weights).sum(axis=1), first)
                covering[owners[first]] += np.add.reduceat(covers, first, dtype=float)
            lowest_alike[:, group.members] += np.log(2 * np.maximum(covering, 1) / _ALIKE)[:, None]
        mean = total / len(self.motifs)
        lowest += np.log(mean / (1 - _ALIKE))[:, None]
        result: np.ndarray = np.exp(np.minimum(np.minimum(lowest, lowest_alike), 0))
        return result, mean

    def placement(self, stretch: Stretch, motif: int, mean: float) -> tuple[int, int, float]:
        """The best placement of one motif.

        Args:
            stretch: which.
            motif: number of the motif.
            mean: the stretch's second number from `p_values`.

        Returns:
            start, negative where the motif begins before the sequence; 1 for the "-" strand, else 0; p value of the
            word.
        """
        group = _Group.of(self.motifs, np.array([motif]))
        parts = list(self._placements(group, [stretch]))
        starts, log_p, log_weights, covers = (np.concatenate(each) for each in list(zip(*parts, strict=True))[1:])
        alike = _ALIKE / (2 * max(covers.sum(), 1)) * covers[:, None]
        weights = np.maximum((1 - _ALIKE) * np.exp(log_weights) / mean, alike)
        row, strand = divmod(int((log_p - np.log(weights)).argmin()), 2)
        return int(starts[row]), strand, float(np.exp(log_p[row, strand]))

    def _placements(
        self, group: _Group, stretches: Sequence[Stretch]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """All placements of a group's motifs, `_PLACEMENTS` at a time.

        Yields:
            owners (P,) number of the stretch, ascending; starts (P,); log_p (P, 2 m) of the words; log_weights
            (P, 2 m); covers (P,) whether the placement covers half of what matters in the stretch.
        """
        sequences = sorted({stretch.sequence for stretch in stretches})
        log_tails = group.log_tails(_Composition.of([self.ids[number] for number in sequences]))
        row_of = np.searchsorted(sequences, [stretch.sequence for stretch in stretches])
        firsts = np.array([stretch.start - group.width + 1 for stretch in stretches])
        counts = np.array([stretch.end for stretch in stretches]) - firsts
        every = np.repeat(np.arange(len(stretches)), counts)
        offsets = np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts)
        for first in range(0, len(every), _PLACEMENTS):
            owners = every[first : first + _PLACEMENTS]
            starts = firsts[owners] + offsets[first : first + _PLACEMENTS]
            words = np.empty((len(owners), group.width), dtype=np.int64)
            profiles = np.empty((len(owners), group.width))
            for owner in np.unique(owners):
                here, stretch = owners == owner, stretches[owner]
                words[here] = _windows(self.ids[stretch.sequence], starts[here], group.width, alphabet.N_ID)
                profiles[here] = _windows(stretch.profile, starts[here] - stretch.start, group.width, 0)
            log_p = log_tails[row_of[owners, None], group.rows, group.scores(words)]
            covers = (profiles**2).sum(axis=1) >= 0.5
            yield owners, starts, log_p, _SHARPNESS * (profiles @ group.information.T - 1), covers


@dataclass(frozen=True)
class _Group:
    """Motifs of one width: m of them on the "+" strand, then the same on the "-" strand.

    Attributes:
        width: W.
        members: (m,) their numbers in the collection.
        table: (2 m, W, 5) score of each base, and of N, in units of `_BIN`.
        information: (2 m, W) how much each column says, as a vector of length 1.
    """

    width: int
    members: np.ndarray
    table: np.ndarray
    information: np.ndarray

    @classmethod
    def of(cls, motifs: Sequence[Motif], members: np.ndarray) -> _Group:
        chosen = [motifs[member] for member in members]
        odds = np.stack([np.round(motif.log_odds.T / _BIN) for motif in chosen])
        shares = np.stack([motif.probabilities.T for motif in chosen])
        bits = _unit(np.clip(2 + (shares * np.log2(shares)).sum(axis=2), 0, None) ** _EVENNESS)
        odds = np.concatenate([odds, odds[:, ::-1, ::-1]])
        table = np.concatenate([odds, odds.min(axis=2, keepdims=True)], axis=2)
        return cls(chosen[0].width, members, table.astype(np.int64), np.concatenate([bits, bits[:, ::-1]]))

    @property
    def rows(self) -> np.ndarray:
        """(2 m,) row of `log_tails` for each row of `table`: both strands of a motif have one."""
        return np.tile(np.arange(len(self.members)), 2)

    def scores(self, words: np.ndarray) -> np.ndarray:
        """(P, 2 m) score of each of (P, W) words, at least 0."""
        channels = alphabet.one_hot(words, np.float32).transpose(0, 2, 1).reshape(len(words), -1)
        scores = channels @ self.table.reshape(len(self.table), -1).T.astype(np.float32)  # whole numbers, exactly
        result: np.ndarray = np.maximum(np.rint(scores).astype(np.int64), 0)
        return result

    def log_tails(self, composition: _Composition) -> np.ndarray:
        """(S, m, B) log of the share of random words that score at least 0, 1, ...; 0 where that gives no name."""
        tails = [_tails(table, composition) for table in self.table[: len(self.members), :, :4]]
        result = np.zeros((len(composition.first) - 1, len(tails), max(tail.shape[1] for tail in tails)))
        for row, tail in enumerate(tails):
            even, shares = tail[0], tail[1:]
            # Rounding may have lifted a score by half a unit for each base.
            too_low = np.arange(tail.shape[1]) <= self.width / 2
            shares[(np.maximum(shares, even) > RAREST) | too_low] = 1
            result[:, row, : tail.shape[1]] = np.log(shares)
        return result


@dataclass(frozen=True)
class _Composition:
    """Markov chains that make random words: one of even bases, and one like each of S - 1 sequences.

    Attributes:
        first: (S, 4) probability of the first base.
        then: (S, 4, 4) probability of each base (last axis) after each other.
    """

    first: np.ndarray
    then: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray]) -> _Composition:
        """Of sequences as ids; each together with its reverse complement, so that both strands are alike."""
        first, then = [np.full(4, 0.25)], [np.full((4, 4), 0.25)]
        for ids in sequences:
            bases = np.bincount(ids, minlength=5)[:4].astype(float)
            bases = bases + bases[::-1] + _PRIOR / 4
            pairs = np.zeros((5, 5))
            np.add.at(pairs, (ids[:-1], ids[1:]), 1)
            both = pairs[:4, :4] + pairs[3::-1, 3::-1].T
            first.append(bases / bases.sum())
            both = both + _PRIOR * np.outer(first[-1], first[-1])
            then.append(both / both.sum(axis=1, keepdims=True))
        return cls(np.stack(first), np.stack(then))


def _tails(table: np.ndarray, composition: _Composition) -> np.ndarray:
    """(S, B) share of random words that score at least 0, 1, ..., the best score, by a motif's table (W, 4)."""
    best = table.max(axis=1)
    ahead = best.sum() - np.cumsum(best)  # what the columns after each can add at most
    low, shares = 0, composition.first[:, :, None]  # of beginnings that score low, low + 1, ...; by the next base
    for column, rest in zip(table, ahead, strict=True):
        high = low + shares.shape[2] - 1 + column.max()
        longer = np.zeros((len(shares), 4, high + rest + 1))  # from -rest on: below it no word reaches 0 any more
        for base, score in enumerate(column):
            skip = low + score + rest
            part = shares[:, base, max(0, -skip) :]
            longer[:, base, max(0, skip) : max(0, skip) + part.shape[1]] = part
        low, last = -rest, longer
        shares = np.swapaxes(composition.then, 1, 2) @ longer
    by_score = last.sum(axis=1)
    tails: np.ndarray = by_score[:, ::-1].cumsum(axis=1)[:, ::-1]
    return tails


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., W) of length 1; those of length 0 stay."""
    lengths = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    result: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return result


def _windows(values: np.ndarray, starts: np.ndarray, width: int, missing: float) -> np.ndarray:
    """(P, width) values from each start on, with something else beyond the ends."""
    at = starts[:, None] + np.arange(width)
    result: np.ndarray = np.where((at >= 0) & (at < len(values)), values[np.clip(at, 0, len(values) - 1)], missing)
    return result

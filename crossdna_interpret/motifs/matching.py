"""P values of motif matches in and around a seqlet (here called stretch).

n stretches    M motifs, in groups of m of one width W    S sequences    P placements of a motif    B scores
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.motifs.collection import Motif

__all__ = ["RAREST", "Matcher", "Stretch"]

RAREST = 1e-3  # a name needs a word that at most this fraction of random words matches as well
_BIN = 0.1  # rounding of the score of each base, in bits
_PRIOR = 20.0  # pseudocounts of bases and of pairs of bases, for an even composition
_PLACEMENTS = 4096  # placements that are scored at once
# Placements have weights. The weights do not depend on the bases, so p values are valid for any weights.
# _SHARPNESS: a weight depends on the cosine similarity between the importance of the bases and the information of the
# motif's columns. It falls by a factor of e when the similarity falls by 1/60.
# _ALIKE: this fraction of the error rate is divided equally among all placements that cover half of the importance in
# the stretch. It is for a stretch that is part of a long site: its shape says little, but the word may be rare enough.
_SHARPNESS, _ALIKE = 60.0, 0.05
# Exponent of importance and information before they are compared. In a saturated model, one base of a site can have a
# hundred times the importance of the others. The square root reduces its influence.
_EVENNESS = 0.5


@dataclass(frozen=True)
class Stretch:
    """A stretch of a sequence.

    Attributes:
        sequence: index of its sequence.
        start, end: 0-based half-open.
        importance: (end - start,) importance of each base. It is positive if it has the sign of the whole stretch.
    """

    sequence: int
    start: int
    end: int
    importance: np.ndarray

    @property
    def size(self) -> float:
        """Sum of the positive importance."""
        return float(np.clip(self.importance, 0, None).sum(dtype=np.float64))

    @property
    def profile(self) -> np.ndarray:
        """Importance (end - start,) of each base, scaled to a unit vector, or all 0 if no base is important."""
        values = np.clip(self.importance, 0, None).astype(np.float64)
        return _unit((values / (values.max() or 1.0)) ** _EVENNESS)


class Matcher:
    """Compares stretches with motifs, in every placement that overlaps a stretch, on both strands.

    The p value of a word is the fraction of random words that score at least as high. Random words have the
    dinucleotide composition of the sequence. The p value is exact for scores in tenths of a bit. An N or a position
    outside the sequence counts as the base that fits worst. A word has p = 1 if its score is 0 or less. It also has
    p = 1 if more than `RAREST` of random words score as high, with either this composition or even bases.

    Args:
        motifs: M motifs.
        sequences: S sequences.
    """

    def __init__(self, motifs: Sequence[Motif], sequences: Sequence[str]) -> None:
        self.motifs = list(motifs)
        self.ids = [alphabet.encode(sequence) for sequence in sequences]
        widths = np.array([motif.width for motif in motifs])
        self._groups = [_Group.of(self.motifs, np.flatnonzero(widths == width)) for width in np.unique(widths)]

    def p_values(self, stretches: Sequence[Stretch]) -> tuple[np.ndarray, np.ndarray]:
        """The p value of each motif's best placement, corrected for the number of placements.

        The correction is a weighted Bonferroni correction. A placement has more weight if the information of the
        motif's columns is similar to the importance of the bases. The sums of weights average 1 over motifs. So motifs
        with the shape of the stretch have more weight than others.

        Returns:
            p values (n, M), and normalizations (n,): the mean over motifs of the sum of weights before scaling.
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
            stretch: the stretch.
            motif: index of the motif.
            mean: normalization of the stretch, the second result of `p_values`.

        Returns:
            Start (negative if the motif begins before the sequence), strand (1 for "-", 0 for "+") and p value of the
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
            owners (P,) index of the stretch, ascending; starts (P,); log_p (P, 2 m) of the words; log_weights
            (P, 2 m); covers (P,) whether the placement covers half of the importance in the stretch.
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
        members: (m,) indices of the motifs in the collection.
        table: (2 m, W, 5) score of each base and of N, in units of `_BIN`.
        information: (2 m, W) information of each column, scaled to a unit vector.
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
        """Row of `log_tails` for each row of `table` (2 m,). Both strands of a motif share a row."""
        return np.tile(np.arange(len(self.members)), 2)

    def scores(self, words: np.ndarray) -> np.ndarray:
        """Scores (P, 2 m) of words (P, W), at least 0."""
        channels = alphabet.one_hot(words, np.float32).transpose(0, 2, 1).reshape(len(words), -1)
        scores = channels @ self.table.reshape(len(self.table), -1).T.astype(np.float32)  # whole numbers, exactly
        result: np.ndarray = np.maximum(np.rint(scores).astype(np.int64), 0)
        return result

    def log_tails(self, composition: _Composition) -> np.ndarray:
        """Log of the fraction of random words that score at least 0, 1, ... (S, m, B). It is 0 for scores too low."""
        tails = [_tails(table, composition) for table in self.table[: len(self.members), :, :4]]
        result = np.zeros((len(composition.first) - 1, len(tails), max(tail.shape[1] for tail in tails)))
        for row, tail in enumerate(tails):
            even, shares = tail[0], tail[1:]
            # Rounding may have increased a score by half a unit for each base.
            too_low = np.arange(tail.shape[1]) <= self.width / 2
            shares[(np.maximum(shares, even) > RAREST) | too_low] = 1
            result[:, row, : tail.shape[1]] = np.log(shares)
        return result


@dataclass(frozen=True)
class _Composition:
    """Markov chains that generate random words: one with even bases, and one for each of S - 1 sequences.

    Attributes:
        first: (S, 4) probability of the first base.
        then: (S, 4, 4) probability of each base (last axis) after each other.
    """

    first: np.ndarray
    then: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray]) -> _Composition:
        """Estimate from ids. Each sequence is combined with its reverse complement, so that both strands are equal."""
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
    """Fraction (S, B) of random words that score at least 0, 1, ... up to the best score, for a motif table (W, 4)."""
    best = table.max(axis=1)
    ahead = best.sum() - np.cumsum(best)  # largest sum of scores in the columns after each
    low, shares = 0, composition.first[:, :, None]  # fraction of word starts with score low, low + 1, ..., by next base
    for column, rest in zip(table, ahead, strict=True):
        high = low + shares.shape[2] - 1 + column.max()
        longer = np.zeros((len(shares), 4, high + rest + 1))  # from -rest on: words with a lower score cannot reach 0
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
    """Scale vectors (..., W) to length 1. Zero vectors stay zero."""
    lengths = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    result: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return result


def _windows(values: np.ndarray, starts: np.ndarray, width: int, missing: float) -> np.ndarray:
    """Windows (P, width) of values from each start on, with `missing` outside the ends."""
    at = starts[:, None] + np.arange(width)
    result: np.ndarray = np.where((at >= 0) & (at < len(values)), values[np.clip(at, 0, len(values) - 1)], missing)
    return result

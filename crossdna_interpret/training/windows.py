"""Windows of a genome for pre-training, read from an indexed FASTA file.

N  windows    L  positions of a window
"""

from __future__ import annotations

import gzip
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyfaidx
import torch
from torch import Tensor

from crossdna_interpret.dna import alphabet

__all__ = ["Interval", "ShortWarning", "Windows", "open_windows", "read_bed"]

_PIECE = 1 << 20  # bases in one read
_LAYOUT = "All lines of a record but the last must be of one length, without empty lines or spaces."
_AMBIGUOUS = str.maketrans("RYSWKMBDHV", "NNNNNNNNNN")
Interval = tuple[str, int, int]  # contig, start, end; 0-based, end not included


class ShortWarning(UserWarning):
    """Some contigs are shorter than a window and are not used."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of equal length on contigs.

    Attributes:
        fasta: the open file.
        length: length of a window in bases.
        contigs: names of the contigs.
        contig: (N,) int64, index of the contig of each window.
        start: (N,) int64, first base of each window.
        hashes: SHA-256 of the bases of each contig that has windows.
    """

    fasta: pyfaidx.Fasta
    length: int
    contigs: tuple[str, ...]
    contig: np.ndarray
    start: np.ndarray
    hashes: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) length of each window in bases."""
        return np.full(len(self), self.length, dtype=np.int64)

    def batch(self, index: Sequence[int] | np.ndarray) -> Tensor:
        """Ids (n, L) uint8 on the forward strand: A=0 C=1 G=2 T=3 N=4.

        Raises:
            ValueError: a character that is not a base.
        """
        return torch.from_numpy(np.stack([_encoded(self.fasta, *self.where(int(at))) for at in index]))

    def content_hash(self) -> str:
        """SHA-256 of the window positions and of their contigs. It detects changed files."""
        used = {name: self.hashes[name] for name in (self.contigs[at] for at in np.unique(self.contig))}
        content = hashlib.sha256(repr((self.length, self.contigs, used)).encode())
        for column in (self.contig, self.start):
            content.update(column.astype(np.int64).tobytes())
        return content.hexdigest()

    def sequences(self) -> Iterator[np.ndarray]:
        """Ids (L,) of each window, read one at a time."""
        return (_encoded(self.fasta, *self.where(at)) for at in range(len(self)))

    def where(self, at: int) -> Interval:
        """Contig, first base and end of a window."""
        start = int(self.start[at])
        return self.contigs[self.contig[at]], start, start + self.length

    def split(self, *, contigs: Sequence[str] = (), share: float = 0.0, seed: int = 0) -> tuple[Windows, Windows]:
        """Split into training windows and held-out windows.

        Args:
            contigs: hold out the windows on these contigs.
            share: or hold out this random fraction of all windows.
            seed: seed of the random choice.

        Raises:
            ValueError: an unknown contig, a share that is not from 0 to less than 1, both contigs and a share, or an
                empty part of the split.
        """
        if not 0 <= share < 1:
            raise ValueError(f"`share` must be from 0 to less than 1, but is {share}.")
        unknown = [name for name in contigs if name not in self.contigs]
        if unknown:
            raise ValueError(f"`contigs` must be in the FASTA and at least a window long, but {unknown} are not.")
        if contigs and share:
            raise ValueError(f"`contigs` and `share` both say what to hold out: {list(contigs)} and {share}. Give one.")
        if contigs:
            held = np.isin(self.contig, [self.contigs.index(name) for name in contigs])
        else:
            held = np.zeros(len(self), dtype=bool)
            held[np.random.default_rng(seed).permutation(len(self))[: round(share * len(self))]] = True
        what = f"`contigs` {list(contigs)}" if contigs else f"`share` {share}"
        if (contigs or share) and not held.any():
            raise ValueError(f"{what} would hold none of the {len(self)} windows.")
        if held.all():
            raise ValueError(f"{what} would hold every window; there is none left to train on.")
        return tuple(replace(self, contig=self.contig[rows], start=self.start[rows]) for rows in (~held, held))  # type: ignore[return-value]


def _encoded(fasta: pyfaidx.Fasta, name: str, start: int, end: int) -> np.ndarray:
    """Ids (end - start,) uint8. Ambiguity codes, which genomes have in a few places, become N."""
    text = fasta[name][start:end].upper().translate(_AMBIGUOUS)
    where = f"{fasta.filename}, {name}:{start}-{end}"
    if len(text) != end - start:  # for example after an empty line at the start of a record with Windows line ends
        raise ValueError(f"{where} has {end - start} bases by the index, but {len(text)} were read. {_LAYOUT}")
    return alphabet.encode(alphabet.normalize(text, name=where)).astype(np.uint8)


def _tiles(first: int, last: int, length: int, size: int, *, whole: bool) -> range:
    """Starts of adjacent windows on a contig of `size` bases: inside first to last, or covering this interval."""
    if whole:
        return range(first, last - length + 1, length)
    count = -(-(last - first) // length)
    start = first - (count * length - (last - first)) // 2
    start = max(0, min(start, size - count * length))
    return range(start, min(start + count * length, size - length + 1), length)


def read_bed(path: str | Path) -> list[Interval]:
    """Read intervals from a BED file, plain or gzipped: contig, start and end, 0-based. Other columns are ignored.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is not an interval (the message has its number), or there is no interval.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a BED file, but there is no file {path}.")
    intervals = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip() or line.startswith(("#", "track", "browser")):
                    continue
                columns = line.split("\t") if "\t" in line else line.split()
                try:
                    name, start, end = columns[0], int(columns[1]), int(columns[2])
                except (IndexError, ValueError):
                    start = end = -1
                if not 0 <= start < end:
                    raise ValueError(
                        f"{path}, line {number}: expected contig, start and end with 0 <= start < end, but got "
                        f"{line.strip()!r}."
                    )
                intervals.append((name, start, end))
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable BED file: {error}") from error
    if not intervals:
        raise ValueError(f"{path} has no intervals.")
    return intervals


def open_windows(
    path: str | Path,
    length: int,
    *,
    bed: str | Path | None = None,
    index: str | Path | None = None,
    max_unknown: float = 0.5,
) -> Windows:
    """Tile a FASTA file, or intervals of it, with windows.

    Windows are adjacent. Without intervals, they begin at the start of a contig, and the remainder at its end is not
    used. An interval gets the smallest number of windows that cover it, centred on it. They are shifted if they would
    extend past the contig.

    Args:
        path: FASTA file, plain or compressed by bgzip.
        length: length of a window in bases.
        bed: BED file with intervals.
        index: path of the index. The default is beside the FASTA. A compressed file also gets an index of its blocks
            beside it, with .gzi added to the name.
        max_unknown: largest fraction of N in a window.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a FASTA file, a character that is not a base, an interval outside the FASTA, or no windows.

    Warns:
        ShortWarning: contigs that are shorter than a window are not used.
    """
    path = Path(path)
    if length < 1:
        raise ValueError(f"`length` must be at least 1, but is {length}.")
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a FASTA file, but there is no file {path}.")
    try:
        fasta = pyfaidx.Fasta(
            str(path),
            indexname=None if index is None else str(index),
            gzi_indexname=None if index is None else f"{index}.gzi",
            as_raw=True,
        )
    except (pyfaidx.UnsupportedCompressionFormat, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as FASTA, plain or compressed by bgzip: {error}") from error
    except (pyfaidx.FastaIndexingError, RuntimeError) as error:  # RuntimeError: an error that pyfaidx does not expect
        problem = str(error).partition("Please report")[0].rstrip(". ")
        raise ValueError(f"{path} cannot be read as FASTA at random places: {problem}. {_LAYOUT}") from error
    sizes = {name: len(record) for name, record in fasta.items()}
    intervals = read_bed(bed) if bed is not None else [(name, 0, size) for name, size in sizes.items()]
    for name, start, end in intervals:
        if end > sizes.get(name, -1):
            there = f"has {sizes[name]:,} bases" if name in sizes else "is not in the FASTA"
            raise ValueError(f"{bed}: there can be no interval {name}:{start}-{end}, for {name} {there}.")
    short = sorted({name for name, *_ in intervals if sizes[name] < length})
    if short:
        warnings.warn(
            f"{len(short)} contigs are shorter than a window of {length} bases and are left out: "
            f"{', '.join(short[:3])}{' ...' if len(short) > 3 else ''}.",
            ShortWarning,
            stacklevel=2,
        )
    names = tuple(name for name, size in sizes.items() if size >= length)
    starts: dict[str, list[int]] = {name: [] for name in names}
    for name, first, last in intervals:
        if name in starts:
            starts[name] += _tiles(first, last, length, sizes[name], whole=bed is None)
    kept: dict[str, np.ndarray] = {}
    hashes: dict[str, str] = {}
    for name in names:
        if not starts[name]:
            continue
        unknown, hashes[name] = _read_whole(fasta, name, sizes[name])
        known = [at for at in dict.fromkeys(starts[name]) if unknown[at : at + length].mean() <= max_unknown]
        kept[name] = np.array(known, dtype=np.int64)
    if not any(map(len, kept.values())):
        raise ValueError(f"{path} gives no window of {length} bases with at most {max_unknown:.0%} N.")
    contig = np.concatenate([np.full(len(known), names.index(name)) for name, known in kept.items()])
    return Windows(fasta, length, names, contig, np.concatenate(list(kept.values())), hashes)


def _read_whole(fasta: pyfaidx.Fasta, name: str, size: int) -> tuple[np.ndarray, str]:
    """Mask (size,) of the positions of N in a contig, and the SHA-256 of its bases."""
    unknown = np.empty(size, dtype=bool)
    content = hashlib.sha256()
    for start in range(0, size, _PIECE):
        # Past the end of a contig, pyfaidx returns fewer bases for a plain file and fails for a compressed one.
        ids = _encoded(fasta, name, start, min(start + _PIECE, size))
        unknown[start : start + len(ids)] = ids == alphabet.N_ID
        content.update(ids.tobytes())
    return unknown, content.hexdigest()

"""Collections of motifs: JASPAR's, a MEME file, or any that are given.

M  motifs    W  width of a motif
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossdna_interpret import alphabet
from crossdna_interpret.caching import cache_folder
from crossdna_interpret.libraries import leaving_no_trace

__all__ = ["COLLECTIONS", "Motif", "MotifsLike", "find_motif", "jaspar", "read_meme", "read_motifs", "write_meme"]

RELEASE = "JASPAR2026"
COLLECTIONS = {"jaspar-vertebrates": "vertebrates", "jaspar-insects": "insects", "jaspar-plants": "plants"}
_SITES = 20.0  # that a MEME file which does not say is taken to be made from, as MEME's own tools do
_ROUNDING = 0.02  # by which a column of probabilities may fail to sum to 1


@dataclass(frozen=True, eq=False)
class Motif:
    """What a factor binds.

    Attributes:
        id: of the collection, such as "MA0467.3".
        name: of the factor, such as "Crx".
        counts: (4, W) how often each of A, C, G, T was seen at each position of a site.

    Example:
        >>> motif = Motif("M1", "CRX", np.array([[0, 9, 9, 0], [0, 0, 0, 1], [1, 0, 0, 0], [8, 0, 0, 8]]))
        >>> motif.consensus, motif.width
        ('TAAT', 4)
    """

    id: str
    name: str
    counts: np.ndarray

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=float)
        if counts.ndim != 2 or counts.shape[0] != 4 or counts.shape[1] < 1:
            raise ValueError(f"`counts` of motif {self.id} must be of shape (4, width), but got {counts.shape}.")
        if not np.isfinite(counts).all() or (counts < 0).any() or (counts.sum(axis=0) <= 0).any():
            raise ValueError(f"`counts` of motif {self.id} must be numbers of at least 0, some of them in each column.")
        object.__setattr__(self, "counts", counts)

    @property
    def width(self) -> int:
        """W."""
        return int(self.counts.shape[1])

    @property
    def label(self) -> str:
        """The name, or the id where there is none."""
        return self.name or self.id

    @property
    def probabilities(self) -> np.ndarray:
        """(4, W) share of each base at each position, with a pseudocount of one site."""
        return (self.counts + 0.25) / (self.counts.sum(axis=0) + 1)

    @property
    def log_odds(self) -> np.ndarray:
        """(4, W) bits that a base speaks for a site, against a background of even bases."""
        return np.log2(self.probabilities * 4)

    @property
    def consensus(self) -> str:
        """The most frequent base at each position."""
        return "".join(alphabet.BASES[base] for base in self.counts.argmax(axis=0))


MotifsLike = str | os.PathLike[str] | Sequence[Motif] | Mapping[str, np.ndarray]


def read_motifs(motifs: MotifsLike) -> list[Motif]:
    """The motifs that an argument stands for.

    Args:
        motifs: "jaspar-vertebrates", "jaspar-insects" or "jaspar-plants"; a MEME file; motifs; or a mapping of names to
            probabilities or counts (4, W).

    Returns:
        M of them, in their own order. JASPAR's are the newest version of each motif of the core collection. The first
        time they take some seconds, since they are read out of a database; after that they are in the user's cache
        folder, as MEME text.

    Raises:
        ValueError: no such collection (near matches are listed), no motifs, or a file that is not in MEME's format; the
            line is named.
        FileNotFoundError: no such file.

    Example:
        >>> [motif.name for motif in read_motifs({"TATA": np.eye(4)[[3, 0, 3, 0]].T})]
        ['TATA']
    """
    if isinstance(motifs, (str, os.PathLike)):
        named = str(motifs)
        if named in COLLECTIONS:
            return jaspar(COLLECTIONS[named])
        path = Path(motifs)
        if not path.exists():
            near = difflib.get_close_matches(named, COLLECTIONS, cutoff=0.5)
            if near or (not path.suffix and len(path.parts) == 1):
                raise ValueError(
                    f"`motifs` must be one of {list(COLLECTIONS)}, a MEME file or motifs, but got {named!r}."
                    + (f" Did you mean {near[0]!r}?" if near else "")
                )
            raise FileNotFoundError(f"`motifs`: there is no file {path}.")
        return read_meme(path)
    if isinstance(motifs, Mapping):
        found = [Motif(str(name), str(name), _as_counts(np.asarray(matrix))) for name, matrix in motifs.items()]
    else:
        found = list(motifs)
        for index, motif in enumerate(found):
            if not isinstance(motif, Motif):
                raise TypeError(f"`motifs[{index}]` must be a Motif, but got {type(motif).__name__}.")
    if not found:
        raise ValueError("`motifs` holds no motif.")
    return found


def _as_counts(matrix: np.ndarray) -> np.ndarray:
    """Counts; probabilities count as a site each for `_SITES`."""
    sums = matrix.sum(axis=0) if matrix.ndim == 2 else np.zeros(1)
    return matrix * _SITES if np.allclose(sums, 1, atol=_ROUNDING) else matrix


def find_motif(name: str, motifs: Sequence[Motif]) -> Motif:
    """The motif with an id, or a name in whatever case; the first where several share a name.

    Raises:
        ValueError: there is none; near matches are listed.
    """
    lower = name.lower()
    for motif in motifs:
        if lower in (motif.id.lower(), motif.name.lower()):
            return motif
    known = {each.lower(): each for motif in motifs for each in (motif.name, motif.id)}
    near = [known[each] for each in difflib.get_close_matches(lower, known, cutoff=0.6)]
    raise ValueError(f"No motif is called {name!r}." + (f" Near matches: {', '.join(near)}." if near else ""))


def jaspar(tax_group: str) -> list[Motif]:
    """JASPAR's core collection for a group of species, such as "vertebrates", sorted by id.

    Source: JASPAR 2026, CC BY 4.0, through pyjaspar, which carries the database. Kept in the cache folder as MEME text;
    where that cannot be written, it is read from the database each time.
    """
    path = cache_folder() / f"{RELEASE}-core-{tax_group}.meme"
    try:
        return read_meme(path)
    except (OSError, ValueError):  # not there yet, or somebody has damaged it
        pass
    found = from_database(tax_group)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # another process sees the whole file or none
            written = Path(folder) / path.name
            write_meme(written, found)
            written.replace(path)
        return read_meme(path)
    except OSError:
        return found


def from_database(tax_group: str, release: str = RELEASE) -> list[Motif]:
    """The newest version of every motif of a release of JASPAR's core collection, sorted by id, with its counts."""
    with leaving_no_trace():
        from pyjaspar import jaspardb  # loads Biopython, which only this needs

        found = jaspardb(release=release).fetch_motifs(collection="CORE", tax_group=[tax_group])
    motifs = [Motif(m.matrix_id, m.name, np.array([m.counts[base] for base in "ACGT"], dtype=float)) for m in found]
    return sorted(motifs, key=lambda motif: motif.id)


def read_meme(path: str | os.PathLike[str]) -> list[Motif]:
    """The motifs of a file in MEME's minimal format (https://meme-suite.org/meme/doc/meme-format.html).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no motif in it, another alphabet, or a matrix that is not one; the line is named.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = iter(enumerate(text.splitlines(), start=1))
    found, current = [], ("", "")
    for number, line in lines:
        fields = line.split()
        if line.startswith("ALPHABET=") and fields[-1].removeprefix("ALPHABET=") != "ACGT":
            raise ValueError(f"{path}, line {number}: the alphabet must be ACGT, but is {fields[-1]!r}.")
        if line.startswith("MOTIF"):
            if len(fields) < 2:
                raise ValueError(f"{path}, line {number}: MOTIF must be followed by a name.")
            current = fields[1], " ".join(fields[2:]) or fields[1]
        elif line.startswith("letter-probability matrix"):
            if not current[0]:
                raise ValueError(f"{path}, line {number}: a matrix before any MOTIF.")
            found.append(Motif(*current, _matrix(path, number, line, lines)))
            current = "", ""
    if not found:
        empty = "is empty" if not text.strip() else "holds no motif in MEME's format"
        raise ValueError(f"`motifs`: {path} {empty}.")
    return found


def _matrix(path: Path, number: int, line: str, lines: Iterator[tuple[int, str]]) -> np.ndarray:
    """(4, W) counts from the rows that follow."""
    width = re.search(r"\bw=\s*(\d+)", line)
    if width is None or int(width[1]) < 1:
        raise ValueError(f"{path}, line {number}: the matrix must say its width, as in w= 8.")
    sites = re.search(r"\bnsites=\s*([\d.eE+]+)", line)
    rows = []
    for _ in range(int(width[1])):
        at, row = next(lines, (number, ""))
        try:
            values = [float(field) for field in row.split()]
        except ValueError:
            values = []
        if len(values) != 4 or min(values) < 0 or abs(sum(values) - 1) > _ROUNDING:
            raise ValueError(
                f"{path}, line {at}: expected the probabilities of A, C, G and T, which sum to 1, "
                f"in each of {width[1]} rows, but got {row.strip()!r}."
            )
        rows.append(np.array(values) / sum(values))
    return np.array(rows).T * (float(sites[1]) if sites and float(sites[1]) > 0 else _SITES)


def write_meme(path: str | os.PathLike[str], motifs: Sequence[Motif]) -> None:
    """Write motifs in MEME's minimal format."""
    parts = [
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
        "Background letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n"
    ]
    for motif in motifs:
        sites = float(motif.counts.sum(axis=0).mean())
        parts.append(
            f"\nMOTIF {motif.id} {motif.name}\n"
            f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {sites:g} E= 0\n"
        )
        shares = motif.counts / motif.counts.sum(axis=0)
        parts.extend(" ".join(f"{share:.6f}" for share in column) + "\n" for column in shares.T)
    Path(path).write_text("".join(parts), encoding="utf-8")

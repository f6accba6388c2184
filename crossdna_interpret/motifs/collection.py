"""Collections of motifs: JASPAR, a file in MEME or JASPAR format, or matrices.

M  motifs    W  width of a motif
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crossdna_interpret._cache_folder import cache_folder
from crossdna_interpret._compat import quiet_and_same_threads
from crossdna_interpret.dna import alphabet
from crossdna_interpret.results.shown import Shown

__all__ = [
    "COLLECTIONS",
    "Motif",
    "MotifsLike",
    "find_motif",
    "jaspar",
    "read_jaspar",
    "read_meme",
    "read_motifs",
    "write_meme",
]

RELEASE = "JASPAR2026"
COLLECTIONS = {"jaspar-vertebrates": "vertebrates", "jaspar-insects": "insects", "jaspar-plants": "plants"}
_SITES = 20.0  # assumed number of sites of a probability matrix if the number is unknown, as in MEME
_ROUNDING = 0.02  # allowed deviation of a row sum in a file from 1
_ROUGHLY = 0.05  # allowed deviation of a column sum in a matrix from 1


@dataclass(frozen=True, eq=False, repr=False)
class Motif(Shown):
    """The binding motif of a transcription factor.

    Attributes:
        id: id in the collection, such as "MA0467.3".
        name: name of the factor, such as "Crx".
        counts: (4, W) counts of A, C, G, T at each position of the binding sites.

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
        """Width W in bases."""
        return int(self.counts.shape[1])

    @property
    def label(self) -> str:
        """The name, or the id if there is no name."""
        return self.name or self.id

    @property
    def probabilities(self) -> np.ndarray:
        """(4, W) probability of each base at each position, with a pseudocount of one site."""
        return (self.counts + 0.25) / (self.counts.sum(axis=0) + 1)

    @property
    def log_odds(self) -> np.ndarray:
        """(4, W) log odds in bits, relative to equal base frequencies."""
        return np.log2(self.probabilities * 4)

    @property
    def consensus(self) -> str:
        """The most frequent base at each position."""
        return "".join(alphabet.BASES[base] for base in self.counts.argmax(axis=0))


MotifsLike = str | os.PathLike[str] | Sequence[Motif] | Mapping[str, np.ndarray]


def read_motifs(motifs: MotifsLike) -> list[Motif]:
    """Read the motifs of a `motifs=` argument.

    Args:
        motifs: one of: "jaspar-vertebrates", "jaspar-insects" or "jaspar-plants"; a file in MEME or JASPAR format; a
            list of motifs; a mapping of names to probabilities or counts. The latter are an array (4, W) with rows in
            the order ACGT, or a mapping of A, C, G and T to W numbers each, such as `counts` of a Biopython motif.

    Returns:
        M motifs in their original order. For JASPAR, they are the newest version of each motif of the core collection.
        The first call takes some seconds, because it reads a database. Later calls read MEME text from the user's cache
        folder.

    Raises:
        ValueError: an unknown collection (the message lists near matches), no motifs, a matrix with neither counts nor
            columns that sum to 1, or a file in another format (the message has the line).
        FileNotFoundError: the file does not exist.

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
                    f"`motifs` must be one of {list(COLLECTIONS)}, a file of motifs or motifs, but got {named!r}."
                    + (f" Did you mean {near[0]!r}?" if near else "")
                )
            raise FileNotFoundError(f"`motifs`: there is no file {path}.")
        return _read(path)
    if isinstance(motifs, Mapping):
        result = [_from_matrix(str(name), str(name), matrix) for name, matrix in motifs.items()]
    else:
        result = list(motifs)
        for index, motif in enumerate(result):
            if not isinstance(motif, Motif):
                raise TypeError(f"`motifs[{index}]` must be a Motif, but got {type(motif).__name__}.")
    if not result:
        raise ValueError("`motifs` holds no motif.")
    return result


def _from_matrix(identifier: str, name: str, matrix: object) -> Motif:
    """A motif from counts or probabilities. Probabilities are multiplied by `_SITES`."""
    bases = list(alphabet.BASES)
    if isinstance(matrix, Mapping) and set(bases) <= set(matrix):
        matrix = [matrix[base] for base in bases]
    if isinstance(matrix, pd.DataFrame):
        if set(matrix.columns) == set(bases):
            raise ValueError(f"`motifs`: {name} must have rows A, C, G and T, but these are its columns: transpose it.")
        matrix = matrix.loc[bases] if set(matrix.index) == set(bases) else matrix
    try:
        numbers = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"`motifs`: {name} must be a matrix (4, width) of numbers, but got {matrix!r}.") from None
    motif = Motif(identifier, name, numbers)
    columns, rows = motif.counts.sum(axis=0), motif.counts.sum(axis=1)
    whole = bool((motif.counts == motif.counts.round()).all())
    if motif.counts.max() > 1 + _ROUGHLY or (whole and (columns > 1).any()):  # counts
        if motif.width == 4 and np.ptp(rows) < 1e-3 * rows.max() and np.ptp(columns) > _ROUGHLY * columns.max():
            raise ValueError(
                f"`motifs`: {name} must have rows A, C, G and T, but it is its rows that have equal sums: transpose it."
            )
        return motif
    if np.abs(columns - 1).max() > _ROUGHLY:
        reverse = motif.width == 4 and np.abs(rows - 1).max() <= _ROUGHLY
        raise ValueError(
            f"`motifs`: the columns of {name} must be counts, or probabilities that sum to 1, but they sum to "
            f"{', '.join(f'{total:.3g}' for total in columns)}{', and its rows to 1: transpose it' if reverse else ''}."
        )
    return Motif(identifier, name, motif.counts / columns * _SITES)


def find_motif(name: str, motifs: Sequence[Motif]) -> Motif:
    """The motif with this id or name, in upper or lower case. If several share the name, the first.

    Raises:
        ValueError: there is no such motif. The message lists near matches.
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

    Source: JASPAR 2026, CC BY 4.0, from the database in pyjaspar. The motifs are saved in the cache folder as MEME
    text. If the folder is not writable, each call reads the database.
    """
    path = cache_folder() / f"{RELEASE}-core-{tax_group}.meme"
    try:
        return read_meme(path)
    except (OSError, ValueError):  # missing or damaged
        pass
    result = from_database(tax_group)
    try:
        # Only the user may write here: compiled kernels in this folder are not loaded if others can write to it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # other processes must not see an incomplete file
            written = Path(folder) / path.name
            write_meme(written, result, whole_sites=False)
            written.replace(path)
        return read_meme(path)
    except OSError:
        return result


def from_database(tax_group: str, release: str = RELEASE) -> list[Motif]:
    """The newest version of every motif of a release of JASPAR's core collection, sorted by id, with its counts."""
    with quiet_and_same_threads():
        from pyjaspar import jaspardb  # imports Biopython, which nothing else needs

        result = jaspardb(release=release).fetch_motifs(collection="CORE", tax_group=[tax_group])
    motifs = [Motif(m.matrix_id, m.name, np.array([m.counts[base] for base in "ACGT"], dtype=float)) for m in result]
    return sorted(motifs, key=lambda motif: motif.id)


def _read(path: Path) -> list[Motif]:
    """The motifs of a file. The format is JASPAR if its first line has a ">", and MEME otherwise."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return read_jaspar(path) if text.lstrip().startswith(">") else read_meme(path)


def read_jaspar(path: str | os.PathLike[str]) -> list[Motif]:
    """Read motifs in JASPAR format: a line ">id name", then a row of counts for each of A, C, G and T.

    Rows may begin with their base and have brackets, as in "A [ 4 19 0 ]". Otherwise they are in the order ACGT.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file has no motif, or rows that are not counts. The message has the line.
    """
    path = Path(path)
    result: list[Motif] = []
    header, rows = "", dict[str, list[float]]()
    lines = [*path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), ">"]
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith(">"):
            if header:
                if len(rows) != 4 or len({len(row) for row in rows.values()}) > 1:
                    raise ValueError(f"{path}, line {number}: {header} must have four rows of as many counts.")
                identifier, _, name = header.partition(" ")
                result.append(_of_file(path, number - 1, identifier, name or identifier, rows))
            header, rows = " ".join(line.lstrip()[1:].split()), {}
        elif line.strip():
            labelled = re.fullmatch(r"\s*([ACGTacgt])\b[\s|]*(.*)", line)
            base = labelled[1].upper() if labelled else alphabet.BASES[len(rows) % 4]
            fields = (labelled[2] if labelled else line).replace("[", " ").replace("]", " ").split()
            try:
                counts = [float(field) for field in fields]
            except ValueError:
                counts = []
            if not header or not counts or base in rows or not all(0 <= count < np.inf for count in counts):
                raise ValueError(f"{path}, line {number}: expected the counts of {base}, but got {line.strip()!r}.")
            rows[base] = counts
    if not result:
        raise ValueError(f"`motifs`: {path} holds no motif in JASPAR's format.")
    return result


def _of_file(path: Path, number: int, identifier: str, name: str, rows: Mapping[str, list[float]]) -> Motif:
    try:
        return _from_matrix(identifier, name, rows)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None


def read_meme(path: str | os.PathLike[str]) -> list[Motif]:
    """Read motifs in MEME's minimal format or text output.

    Format: https://meme-suite.org/meme/doc/meme-format.html. "nsites= 0" and "nsites= 1" count as unknown, because
    memelite and TF-MoDISco write them for every motif.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file has no motif, another alphabet or an invalid matrix. The message has the line.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    result: list[Motif] = []
    open_motif: tuple[int, str, str] | None = None  # line, id and name of a motif without a matrix yet

    def must_be_closed() -> None:
        if open_motif is not None:
            raise ValueError(f"{path}, line {open_motif[0]}: MOTIF {open_motif[1]} has no letter-probability matrix.")

    for number, line in enumerate(lines, start=1):
        letters = re.match(r"ALPHABET\s*=\s*(\S+)", line)
        if letters and letters[1].upper() != "ACGT":
            raise ValueError(f"{path}, line {number}: the alphabet must be ACGT, but is {letters[1]!r}.")
        if re.match(r"MOTIF(\s|$)", line):
            must_be_closed()
            fields = re.split(r"\s+width\s*=", line)[0].split()[1:]
            if not fields:
                raise ValueError(f"{path}, line {number}: MOTIF must be followed by a name.")
            name = " ".join(fields[1:]) or fields[0]
            open_motif = number, fields[0], f"MEME-{fields[0]}" if name == "MEME" else name
        elif line.startswith("letter-probability matrix"):
            if open_motif is None:
                raise ValueError(f"{path}, line {number}: a matrix before any MOTIF.")
            result.append(Motif(*open_motif[1:], _matrix(path, number, lines)))
            open_motif = None
    must_be_closed()
    if not result:
        empty = "is empty" if not any(map(str.strip, lines)) else "holds no motif in MEME's format"
        raise ValueError(f"`motifs`: {path} {empty}.")
    return result


def _matrix(path: Path, number: int, lines: list[str]) -> np.ndarray:
    """Counts (4, W) from the rows after a line of a file. Line numbers start at 1."""
    header = lines[number - 1]
    said = re.search(r"\bw=\s*(\d+)(?!\S)", header)
    width = int(said[1]) if said else 0
    if width < 1:
        raise ValueError(f"{path}, line {number}: the matrix must say its width, as in w= 8.")
    sites = _sites(path, number, header)
    rows = []
    for at in range(number, number + width):
        row = lines[at] if at < len(lines) else ""
        values = _numbers(row)
        if len(values) != 4 or not min(values) >= 0 or not abs(sum(values) - 1) <= _ROUNDING:
            raise ValueError(
                f"{path}, line {at + 1 if at < len(lines) else number}: expected the probabilities of A, C, G and T, "
                f"which sum to 1, in each of {width} rows, but got {row.strip()!r}."
            )
        rows.append(np.array(values) / sum(values))
    for at, row in enumerate(lines[number + width :], start=number + width + 1):
        if len(_numbers(row)) == 4:
            raise ValueError(f"{path}, line {at}: more rows than the {width} of w= {width}.")
        if row.strip():
            break
    return np.array(rows).T * sites


def _numbers(row: str) -> list[float]:
    """The numbers of a row, or an empty list if it has anything else."""
    try:
        return [float(field) for field in row.split()]
    except ValueError:
        return []


def _sites(path: Path, number: int, header: str) -> float:
    """Number of sites of a matrix."""
    said = re.search(r"\bnsites=\s*(\S*)", header)
    if said is None:
        return _SITES
    (sites,) = _numbers(said[1]) or [np.nan]
    if sites in (0, 1):
        return _SITES
    if not 1 < sites < np.inf:
        raise ValueError(f"{path}, line {number}: nsites= must be a number of sites, but is {said[1]!r}.")
    return sites


def write_meme(path: str | os.PathLike[str], motifs: Sequence[Motif], *, whole_sites: bool = True) -> None:
    """Write motifs in MEME's minimal format. Spaces in ids become "_", because the format does not allow them.

    Numbers of sites are rounded to integers, because some programs read only these. `whole_sites` False prevents it. A
    motif of one site is read back with 20 sites: programs that do not count sites also write `nsites= 1`.
    """
    parts = [
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
        "Background letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n"
    ]
    for motif in motifs:
        sites = float(motif.counts.sum(axis=0).mean())
        said = f"{max(1, round(sites))}" if whole_sites else f"{sites:g}"
        identifier = "_".join(motif.id.split()) or "motif"
        name = " ".join(motif.name.split())
        parts.append(
            f"\nMOTIF {identifier} {name if name != identifier else ''}".rstrip() + "\n"
            f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {said} E= 0\n"
        )
        shares = motif.counts / motif.counts.sum(axis=0)
        parts.extend(" ".join(f"{share:.6f}" for share in column) + "\n" for column in shares.T)
    Path(path).write_text("".join(parts), encoding="utf-8")

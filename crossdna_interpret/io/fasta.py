"""FASTA files, plain or compressed."""

from __future__ import annotations

import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crossdna_interpret.dna import alphabet

__all__ = ["FastaRecord", "read_fasta", "read_fasta_records"]


@dataclass(frozen=True)
class FastaRecord:
    """One sequence of a FASTA file.

    Attributes:
        name: the header up to the first space.
        description: the rest of the header. It may be empty.
        sequence: bases ACGTN.
    """

    name: str
    description: str
    sequence: str


def read_fasta(path: str | Path) -> dict[str, str]:
    """Read every record of a FASTA file.

    Args:
        path: the file. gzip, bzip2 and xz are recognised by their content. Windows line ends, a byte-order mark, empty
            lines, lower case and RNA are allowed. Headers are UTF-8, or Latin-1 if they are not valid UTF-8.

    Returns:
        Mapping from each record's name (the header up to the first space) to its sequence of ACGTN, in file order.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no record, a record without a name or a sequence, two records with the same name, or a character
            that is not a base. The message names the record.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "enhancers.fa"
        >>> _ = path.write_text(">first\\nACGT\\n>second\\nTTAA\\n")
        >>> read_fasta(path)
        {'first': 'ACGT', 'second': 'TTAA'}
    """
    return {record.name: record.sequence for record in read_fasta_records(path)}


def read_fasta_records(source: str | Path | BinaryIO, label: str | None = None) -> list[FastaRecord]:
    """Read every record with its description. See `read_fasta`.

    Args:
        source: the path, or an open file in binary mode.
        label: name of the source in errors. The default is its path or name.

    Raises:
        FileNotFoundError, ValueError: as for `read_fasta`.
    """
    if isinstance(source, (str, Path)):
        source = Path(source)
        if not source.is_file():
            raise FileNotFoundError(f"`path` {source} is not a file.")
    whole = label or str(source)
    short = source.name if isinstance(source, Path) else whole
    records: dict[str, FastaRecord] = {}
    for number, (header, bases) in enumerate(_records(source, whole), start=1):
        name, _, description = " ".join(header.split()).partition(" ")
        if not name:
            raise ValueError(f"{whole}: record {number} has no name after '>'.")
        if name in records:
            raise ValueError(f"{whole}: the name {name!r} occurs twice; names must be unique.")
        records[name] = FastaRecord(name, description, alphabet.normalize(bases, name=f"{short}: {name}"))
    if not records:
        raise ValueError(f"{whole} holds no FASTA record; expected lines such as '>name' followed by bases.")
    return list(records.values())


def _records(source: Path | BinaryIO, label: str) -> list[tuple[str, str]]:
    """Headers without '>', and the text below each, without white space."""
    from xopen import xopen

    entries: list[tuple[str, list[str]]] = []
    try:
        # Latin-1 can decode every byte and restore it. UTF-8 headers are then decoded from the bytes.
        with xopen(source, "rt", encoding="latin-1", threads=0) as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix("\u00ef\u00bb\u00bf") if number == 1 else line  # a byte-order mark
                if text.startswith(">"):
                    entries.append((_decoded(text[1:]), []))
                elif text.strip():
                    if not entries:
                        raise ValueError(f"line {number} comes before the first header, which begins with '>'")
                    entries[-1][1].append("".join(text.split()))
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{label} is not a readable FASTA file: {error}") from error
    return [(header, _decoded("".join(lines))) for header, lines in entries]


def _decoded(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return text

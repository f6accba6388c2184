"""Reading FASTA files, plain or compressed, with errors that say what is wrong and where."""

from __future__ import annotations

from pathlib import Path

import dnaio

from crossdna_interpret import alphabet

__all__ = ["read_fasta"]


def read_fasta(path: str | Path) -> dict[str, str]:
    """Read every record of a FASTA file.

    Args:
        path: the file; gzip, bzip2 and xz are recognised by their content. Windows line ends, lower case and RNA are
            fine.

    Returns:
        From each record's name (the header up to the first space) to its sequence over ACGTN, in file order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no record, a record without a name or a sequence, two records of one name, or a character that is
            not a base; the message names the record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` {path} is not a file.")
    records: dict[str, str] = {}
    try:
        with dnaio.open(path, fileformat="fasta", open_threads=0) as file:
            for number, record in enumerate(file, start=1):
                name = (record.name.split() or [""])[0]
                if not name:
                    raise ValueError(f"{path}: record {number} has no name after '>'.")
                if name in records:
                    raise ValueError(f"{path}: the name {name!r} occurs twice; names must be unique.")
                records[name] = alphabet.normalize(record.sequence, name=f"{path.name}: {name}")
    except (dnaio.FileFormatError, UnicodeDecodeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable FASTA file: {error}") from error
    if not records:
        raise ValueError(f"{path} holds no FASTA record; expected lines such as '>name' followed by bases.")
    return records

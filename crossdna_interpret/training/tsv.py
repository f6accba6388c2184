"""Strict reading of tab-separated values."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Piece", "read_pieces"]

_GZIP = b"\x1f\x8b"  # first bytes of a gzipped file


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of a table.

    Attributes:
        first: number of the first row, 1-based, without the header and blank lines.
        columns: mapping from the name of a column to its values.
        problem: error message for a row that ends early, or None. Its missing values are empty. The caller decides
            whether this is an error.
    """

    first: int
    columns: dict[str, list[str]]
    problem: str | None


def read_pieces(path: Path, wanted: Sequence[str], size: int) -> Iterator[Piece]:
    """Read columns of a table of tab-separated values, plain or gzipped, in pieces of rows.

    If a field begins and ends with a quotation mark, both are removed. Other quotation marks are normal characters.
    Windows line ends, a byte-order mark, blank lines, and empty fields at the end of a row are allowed.

    Args:
        path: the file.
        wanted: names of columns.
        size: largest number of rows in a piece.

    Raises:
        ValueError: not a table of tab-separated values in UTF-8, a missing or repeated column, a row with more fields
            than the header, or no row.
    """
    try:
        with _opened(path) as file:
            yield from _pieces(path, filter(str.strip, file), list(dict.fromkeys(wanted)), size)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as tab-separated values in UTF-8: {error}") from error


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path, "rt", encoding="utf-8-sig") if zipped else path.open(encoding="utf-8-sig")


def _pieces(path: Path, lines: Iterator[str], wanted: list[str], size: int) -> Iterator[Piece]:
    header = next(lines, None)
    if header is None:
        raise ValueError(f"{path} cannot be read as tab-separated values: it is empty.")
    names = [_unquoted(name) for name in _fields(header)]
    places = {name: _place(path, names, wanted, name) for name in wanted}
    rows: list[list[str]] = []
    number = 0
    problem = None
    for number, line in enumerate(lines, start=1):
        row = _fields(line)
        if len(row) > len(names):
            if any(row[len(names) :]):
                raise ValueError(f"{path} cannot be read as tab-separated values: {_ragged(number, row, names)}")
        elif len(row) < len(names):
            problem = problem or f"{path}, {_ragged(number, row, names)}"
            row += [""] * (len(names) - len(row))
        rows.append(row)
        if len(rows) == size:
            yield _piece(number, rows, places, problem)
            rows = []
    if not number:
        raise ValueError(f"{path} has no rows.")
    if rows:
        yield _piece(number, rows, places, problem)


def _piece(last: int, rows: list[list[str]], places: dict[str, int], problem: str | None) -> Piece:
    columns = {name: [_unquoted(row[place]) for row in rows] for name, place in places.items()}
    return Piece(last - len(rows) + 1, columns, problem)


def _fields(line: str) -> list[str]:
    return line.rstrip("\n").split("\t")


def _unquoted(field: str) -> str:
    quoted = len(field) > 1 and field[0] == field[-1] == '"'
    return field[1:-1].replace('""', '"') if quoted else field


def _place(path: Path, names: list[str], wanted: list[str], name: str) -> int:
    """Index of a column."""
    if names.count(name) > 1:
        raise ValueError(f"{path} has {names.count(name)} columns {name!r}; the name of a column must be unique.")
    if name in names:
        return names.index(name)
    missing = [each for each in wanted if each not in names]
    hint = next((f" It looks separated by {mark!r}, not by tabs." for mark in ",; " if mark in names[0]), "")
    raise ValueError(f"{path} lacks the columns {missing}; it has {names}.{hint if len(names) == 1 else ''}")


def _ragged(number: int, row: list[str], names: list[str]) -> str:
    quoted = any('"' in field for field in row)
    hint = " A tab or a line end inside quotation marks is not supported." if quoted else ""
    return f"row {number}: expected {len(names)} fields, as in the header, but got {len(row)}.{hint}"

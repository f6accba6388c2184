"""Tab-separated values: valid and invalid tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from crossdna_interpret.training.tsv import read_pieces

TABLE = "name\tsequence\ty\na\tACGT\t1\nb\tGGCC\t2\nc\tTTAA\t3\n"
GZIPPED = gzip.compress(TABLE.encode(), mtime=0)  # no time in it: the names of tests are the same in each worker
COLUMNS = {"sequence": ["ACGT", "GGCC", "TTAA"], "y": ["1", "2", "3"]}


def columns(path: Path, *wanted: str, size: int = 2) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {name: [] for name in wanted}
    first = 1
    for piece in read_pieces(path, wanted, size):
        assert piece.first == first
        assert piece.problem is None
        for name in wanted:
            result[name] += piece.columns[name]
        first += len(piece.columns[wanted[0]])
    return result


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        TABLE.rstrip("\n").encode(),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + TABLE.encode(),  # a byte-order mark, as Excel writes it
        TABLE.replace("\n", "\t\n").encode(),
        TABLE.replace("\t1\n", "\t1\t\t\n").encode(),  # empty fields behind one row alone
        ("\n" + TABLE.replace("\n", "\n\n") + " \n\t\t\n").encode(),
        GZIPPED,
        TABLE.replace("\ta", '\t"a').replace("\nb", '\n"b').encode(),
        "\n".join("\t".join(f'"{field}"' for field in line.split("\t")) for line in TABLE.splitlines()).encode(),
        TABLE.replace("name", "sequence_name\tx\tx").replace("\na", "\na\t\t").replace("\nb", "\nb\t\t")
        .replace("\nc", "\nc\t\t").encode(),  # a name occurs twice, but not one that is wanted
    ],
)  # fmt: skip
def test_columns_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    assert columns(tmp_path / "t.tsv", "sequence", "y") == COLUMNS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ('"a b"', "a b"), ('"a"', "a"), ('""', ""), ('"a ""b"""', 'a "b"'), ('"a', '"a'), ('a"', 'a"'), ('"', '"'),
        ('a"b', 'a"b'), ("'a'", "'a'"), (" a ", " a "), ("NA", "NA"), ("", ""), ("a,b", "a,b"), ("#a", "#a"),
    ],
)  # fmt: skip
def test_a_quotation_mark_has_no_effect_beyond_its_field(tmp_path: Path, field: str, value: str) -> None:
    (tmp_path / "t.tsv").write_text(f"x\tname\ty\n1\t{field}\t2\n3\t{field}\t4\n5\tb\t6\n")
    expected = {"x": ["1", "3", "5"], "name": [value, value, "b"], "y": ["2", "4", "6"]}
    assert columns(tmp_path / "t.tsv", "x", "name", "y") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as tab-separated values: it is empty"),
        (b"\n \n", "it is empty"),
        (b"name\tsequence\ty\n\n", "has no rows"),
        (TABLE.replace("\t2", "\t2\tx").encode(), r"row 2: expected 3 fields, as in the header, but got 4\.$"),
        (TABLE.replace("name\t", "").encode(), "row 1: expected 2 fields, as in the header, but got 3"),  # as R writes
        (TABLE.replace("b\t", '"b\tb"\t').encode(), "row 2: expected 3 .* got 4. A tab or a line end inside quotation"),
        (TABLE.replace("name", "y").encode(), "has 2 columns 'y'; the name of a column must be unique"),
        (TABLE.replace("\t", ",").encode(), r"lacks the columns \['sequence', 'y'\].* It looks separated by ','"),
        (TABLE.replace("\t", ";").encode(), "It looks separated by ';'"),
        (TABLE.replace("\t", " ").encode(), "It looks separated by ' '"),
        (TABLE.replace("sequence", "dna").encode(), r"lacks the columns \['sequence'\]; it has .*'y'\]\.$"),
        (TABLE.replace("sequence", "sequence ").encode(), r"lacks the columns \['sequence'\]"),
        (TABLE.encode("utf-16"), "cannot be read as tab-separated values in UTF-8"),
        (TABLE.replace("b\t", "Zürich\t").encode("latin-1"), "cannot be read as tab-separated values in UTF-8"),
        (GZIPPED[:-9], "cannot be read as tab-separated values in UTF-8"),
        (GZIPPED[:12] + b"damaged" * 9, "cannot be read as tab-separated values in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        columns(tmp_path / "t.tsv", "sequence", "y")


def test_a_row_that_ends_early_has_empty_values_and_a_problem(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(TABLE.replace("GGCC\t2", "GG") + "d\tAA\n")
    first, second = read_pieces(tmp_path / "t.tsv", ["y"], 2)
    assert first.columns == {"y": ["1", ""]}
    assert first.problem == f"{tmp_path / 't.tsv'}, row 2: expected 3 fields, as in the header, but got 2."
    assert second.columns == {"y": ["3", ""]}
    assert second.problem == first.problem

"""What FASTA files may look like, and what is said about those that are wrong."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest

from crossdna_interpret.fasta import read_fasta


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.fa", b">one first\nACGT\nACGT\n>two\nNNAC\n"),
        ("windows.fa", b">one first\r\nACGT\r\nACGT\r\n>two\r\nNNAC\r\n"),
        ("lower_case_rna.fa", b">one first\nacguACGU\n>two\nnnac\n"),
        ("no_last_newline.fa", b">one\nACGTACGT\n>two\nNNAC"),
        ("gzipped.fa.gz", gzip.compress(b">one\nACGTACGT\n>two\nNNAC\n")),
        ("gzipped_without_saying.fa", gzip.compress(b">one\nACGTACGT\n>two\nNNAC\n")),
        ("bzipped.fa.bz2", bz2.compress(b">one\nACGTACGT\n>two\nNNAC\n")),
    ],
)
def test_every_usual_shape_of_file_gives_the_same_records(tmp_path: Path, name: str, content: bytes) -> None:
    assert read_fasta(write(tmp_path / name, content)) == {"one": "ACGTACGT", "two": "NNAC"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no FASTA record"),
        (b"\n\n", "holds no FASTA record"),
        (b"ACGT\n", "not a readable FASTA file"),
        (b">one\nAC\n>one again\nGT\n", "name 'one' occurs twice"),
        (b">one\n>two\nAC\n", "`bad.fa: one` must hold at least one base"),
        (b">one\nAC\n>two\nACGX\n", "`bad.fa: two` has 'X' at position 3"),
        (b">\nACGT\n", "record 1 has no name"),
        (b"\xff\xfe>x\nAC\n", "not a readable FASTA file"),
        (gzip.compress(b">one\nACGTACGT\n")[:-6], "not a readable FASTA file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_fasta(write(tmp_path / "bad.fa", content))
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.fa is not a file"):
        read_fasta(tmp_path / "nowhere.fa")

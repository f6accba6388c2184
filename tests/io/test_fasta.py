"""Valid FASTA files, and errors for invalid ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest

from crossdna_interpret.io.fasta import FastaRecord, read_fasta, read_fasta_records


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
        ("gzipped.fa.gz", gzip.compress(b">one\nACGTACGT\n>two\nNNAC\n", mtime=0)),
        ("gzipped_without_saying.fa", gzip.compress(b">one\nACGTACGT\n>two\nNNAC\n", mtime=0)),
        ("bzipped.fa.bz2", bz2.compress(b">one\nACGTACGT\n>two\nNNAC\n")),
        ("xzipped.fa.xz", lzma.compress(b">one\nACGTACGT\n>two\nNNAC\n")),
        ("byte_order_mark.fa", b"\xef\xbb\xbf>one\nACGTACGT\n>two\nNNAC\n"),
        ("gzipped_with_a_byte_order_mark.fa.gz", gzip.compress(b"\xef\xbb\xbf>one\nACGTACGT\n>two\nNNAC\n", mtime=0)),
        ("empty_lines.fa", b"\n\n>one\n\nACGT\n\n\nACGT\n\n\n>two\nNNAC\n\n"),
        ("empty_lines_of_windows.fa", b"\r\n>one\r\nACGTACGT\r\n\r\n \r\n>two\r\nNNAC\r\n\r\n"),
        ("old_mac.fa", b">one\rACGT\rACGT\r>two\rNNAC\r"),
        ("spaces.fa", b"> one\n ACGT ACGT\t\n>two \nNNAC\n"),
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
        (gzip.compress(b">one\nACGTACGT\n", mtime=0)[:-6], "not a readable FASTA file"),
        (gzip.compress(b">one\nACGTACGT\n" * 50, mtime=0)[:30] + b"\xff" * 30, "not a readable FASTA file"),
        (lzma.compress(b">one\nACGTACGT\n")[:-9], "not a readable FASTA file"),
        (b"\nACGT\n>one\nACGT\n", "line 2 comes before the first header"),
        (">é\nACGÉ\n".encode(), "`bad.fa: é` has 'É' at position 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_fasta(write(tmp_path / "bad.fa", content))
    assert message in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_headers_may_hold_any_letters(tmp_path: Path, encoding: str) -> None:
    content = ">gène/é  activé à l'œil\nACGT\n" if encoding == "utf-8" else ">gène/é  activé\nACGT\n"
    (record,) = read_fasta_records(write(tmp_path / "é.fa", content.encode(encoding)))
    assert record.name == "gène/é"
    assert record.description == content.split("\n")[0].partition("  ")[2]
    assert record.sequence == "ACGT"


def test_descriptions_are_read_and_an_open_file_too() -> None:
    data = b">one  chr1:10-18 a  promoter\nACGTACGT\n>two\nNNAC\n"
    expected = [FastaRecord("one", "chr1:10-18 a promoter", "ACGTACGT"), FastaRecord("two", "", "NNAC")]
    for content in (data, gzip.compress(data)):
        assert read_fasta_records(io.BytesIO(content), "standard input") == expected
    with pytest.raises(ValueError, match="standard input holds no FASTA record"):
        read_fasta_records(io.BytesIO(b""), "standard input")
    with pytest.raises(ValueError, match="`standard input: one` has 'X' at position 1"):
        read_fasta_records(io.BytesIO(b">one\nAX\n"), "standard input")


def test_a_very_long_name_is_kept(tmp_path: Path) -> None:
    name = "n" * 100_000
    assert read_fasta(write(tmp_path / "long.fa", f">{name}\nACGT\n".encode())) == {name: "ACGT"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.fa is not a file"):
        read_fasta(tmp_path / "nowhere.fa")

"""Windows: their positions, their content, and invalid input."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf

from crossdna_interpret.dna import alphabet
from crossdna_interpret.training.windows import ShortWarning, Windows, open_windows, read_bed

GENOME = {
    "chr1": "ACGTACGTTTGGCCAANNNNNNNNACGTAC",
    "chr2": "GGGGCCCCAAAATTTTRGGY",
    "tiny": "ACG",
}


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    wrapped = (f">{name}\n" + "\n".join(seq[i : i + 7] for i in range(0, len(seq), 7)) for name, seq in GENOME.items())
    path.write_text("\n".join(wrapped) + "\n")
    return path


def bed(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "intervals.bed"
    path.write_text("\n".join(lines) + "\n")
    return path


def places(windows: Windows) -> list[tuple[str, int, int]]:
    return [windows.where(at) for at in range(len(windows))]


@pytest.mark.filterwarnings("ignore::crossdna_interpret.training.windows.ShortWarning")
def test_windows_tile_the_contigs_and_leave_out_what_is_mostly_unknown(fasta: Path) -> None:
    windows = open_windows(fasta, 8)
    # chr1 16-24 is all N; chr2 has room for two windows, and tiny for none.
    assert places(windows) == [("chr1", 0, 8), ("chr1", 8, 16), ("chr2", 0, 8), ("chr2", 8, 16)]
    ids = windows.batch([3, 1])
    assert [alphabet.decode(row) for row in ids.numpy()] == [GENOME["chr2"][8:16], GENOME["chr1"][8:16]]
    assert windows.lengths.tolist() == [8] * 4


@pytest.mark.filterwarnings("ignore::crossdna_interpret.training.windows.ShortWarning")
def test_an_ambiguity_code_is_an_n(fasta: Path) -> None:
    windows = open_windows(fasta, 20)
    assert alphabet.decode(windows.batch([-1])[0].numpy()) == GENOME["chr2"].replace("R", "N").replace("Y", "N")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((4, 12), [4]),  # as long as a window
        ((6, 10), [4]),  # shorter: centred on it
        ((0, 2), [0]),  # moved, for the contig starts here
        ((14, 16), [8]),  # moved, for it ends here
        ((2, 12), [-1, 7]),  # longer: as few as cover it, moved to start at 0
    ],
)
def test_an_interval_is_covered_by_few_windows(tmp_path: Path, interval: tuple[int, int], expected: list[int]) -> None:
    path = tmp_path / "one.fa"
    path.write_text(">c\n" + "ACGT" * 4 + "\n")
    windows = open_windows(path, 8, bed=bed(tmp_path, f"c\t{interval[0]}\t{interval[1]}\tname"))
    starts = [start for _, start, _ in places(windows)]
    assert starts == [max(0, at) for at in expected] if len(expected) == 1 else starts == [0, 8]


def test_an_interval_given_twice_is_used_once(tmp_path: Path, fasta: Path) -> None:
    windows = open_windows(fasta, 8, bed=bed(tmp_path, "chr1 0 8", "chr1 0 8", "# note", "chr2 0 8"))
    assert places(windows) == [("chr1", 0, 8), ("chr2", 0, 8)]


def test_short_contigs_are_a_warning_and_no_windows_an_error(fasta: Path) -> None:
    with pytest.warns(ShortWarning, match="1 contigs are shorter than a window of 8 bases and are left out: tiny"):
        open_windows(fasta, 8)
    with pytest.raises(ValueError, match="no window of 1000 bases"), pytest.warns(ShortWarning):
        open_windows(fasta, 1000)


@pytest.mark.filterwarnings("ignore::crossdna_interpret.training.windows.ShortWarning")
def test_windows_are_held_out_by_contig_or_at_random(fasta: Path) -> None:
    windows = open_windows(fasta, 8)
    train, valid = windows.split(contigs=["chr2"])
    assert {name for name, *_ in places(train)} == {"chr1"}
    assert {name for name, *_ in places(valid)} == {"chr2"}
    train, valid = windows.split(share=0.25, seed=3)
    assert (len(train), len(valid)) == (3, 1)
    assert sorted(places(train) + places(valid)) == sorted(places(windows))
    assert places(windows.split(share=0.25, seed=3)[1]) == places(valid)
    assert len(windows.split()[1]) == 0
    with pytest.raises(ValueError, match=r"`contigs` must be in the FASTA .* but \['chr9'\] are not"):
        windows.split(contigs=["chr9"])
    with pytest.raises(ValueError, match="hold every window"):
        windows.split(contigs=["chr1", "chr2"])
    with pytest.raises(ValueError, match=r"`share` 0\.9 would hold every window"):
        windows.split(share=0.9)
    with pytest.raises(ValueError, match="`share` must be from 0 to less than 1"):
        windows.split(share=1.0)


def test_the_index_can_be_kept_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.fa").write_text(">c\nACGTACGT\n")
    open_windows(folder / "x.fa", 4, index=tmp_path / "index.fai")
    assert [path.name for path in folder.iterdir()] == ["x.fa"]


def test_a_fasta_may_be_compressed_by_bgzip(tmp_path: Path, fasta: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with bgzf.open(str(folder / "genome.fa.gz"), "wb") as file:
        file.write(fasta.read_bytes())
    with pytest.warns(ShortWarning):
        windows = open_windows(folder / "genome.fa.gz", 8, index=tmp_path / "index.fai")
    assert alphabet.decode(windows.batch([2])[0].numpy()) == GENOME["chr2"][:8]
    assert [path.name for path in folder.iterdir()] == ["genome.fa.gz"]


def test_a_bed_file_may_be_gzipped(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.bed.gz", "wt") as file:
        file.write("track name=x\nchr1\t3\t9\n\n")
    assert read_bed(tmp_path / "x.bed.gz") == [("chr1", 3, 9)]


@pytest.mark.parametrize("line", ["chr1\t9\t3", "chr1\tx\t3", "chr1\t3", "chr1\t-1\t3"])
def test_a_line_that_is_no_interval_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="line 2: expected contig, start and end"):
        read_bed(bed(tmp_path, "chr1\t0\t5", line))


def test_what_cannot_be_read_is_an_error(tmp_path: Path, fasta: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`path` must be a FASTA file"):
        open_windows(tmp_path / "none.fa", 8)
    with pytest.raises(FileNotFoundError, match="`path` must be a BED file"):
        open_windows(fasta, 8, bed=tmp_path / "none.bed")
    with pytest.raises(ValueError, match="`length` must be at least 1"):
        open_windows(fasta, 0)
    with pytest.raises(ValueError, match="has no intervals"):
        read_bed(bed(tmp_path, "# nothing"))
    with pytest.raises(ValueError, match="chr9 is not in the FASTA"):
        open_windows(fasta, 8, bed=bed(tmp_path, "chr9\t0\t8"))
    with pytest.raises(ValueError, match="chr2 has 20 bases"):
        open_windows(fasta, 8, bed=bed(tmp_path, "chr2\t0\t21"))
    (tmp_path / "plain.fa.gz").write_bytes(gzip.compress(b">c\nACGT\n"))
    with pytest.raises(ValueError, match="cannot be read as FASTA, plain or compressed by bgzip"):
        open_windows(tmp_path / "plain.fa.gz", 4)
    (tmp_path / "bad.fa").write_text(">c\nACGTAC?T\n")
    with pytest.raises(ValueError, match=r"c:0-.*'\?' at position 6"):
        open_windows(tmp_path / "bad.fa", 4)


@pytest.mark.parametrize(
    "text",
    [
        ">a\nACGT\nACGT\n\n\n>b\nGGCC\nGGCC\n",
        ">a\nACGT\nACGT\n\n>b\nGGCC\nGGCC\n",
        ">a\nACGT\nACGT\n>b\nGGCC\nGGCC\n\n\n\n",
        "\n\n>a\nACGT\nACGT\n>b\nGGCC\nGGCC",
        ">a\n\nACGT\nACGT\n>b\nGGCC\nGGCC\n",
        ">a\n\nACGTACGT\n>b\nGGCCGGCC\n",
        ">a\nACGT\n\nACGT\n>b\nGGCC\nGGCC\n",
        ">a\nACGT\nACGT\n \n>b\nGGCC\nGGCC\n",
        ">a\nACGT \nACGT\n>b\nGGCC\nGGCC\n",
        ">a\nACG\nTACGT\n>b\nGGCC\nGGCC\n",
        ";note\n>a\nACGT\nACGT\n\n\n\n\n>b\nGGCC\nGGCC\n",
        ">a\nACGT\nACGT\n>b\nGGCC\nGGCC\n>\nACGT\n",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_empty_lines_are_read_over_or_a_clear_error(tmp_path: Path, text: str, end: str) -> None:
    (tmp_path / "x.fa").write_bytes(text.replace("\n", end).encode())
    problem = ""
    try:
        read = [alphabet.decode(ids) for ids in open_windows(tmp_path / "x.fa", 8).sequences()]
    except ValueError as error:
        problem = str(error)
    if problem:
        assert "x.fa" in problem
        assert "pyfaidx" not in problem
        assert "of one length, without empty lines or spaces" in problem or "has ' ' at position" in problem
    else:
        assert read == ["ACGTACGT", "GGCCGGCC"]


def test_the_hash_tells_of_other_bases_and_of_other_windows(tmp_path: Path) -> None:
    def opened(one: str, two: str, *, share: float = 0.0) -> Windows:
        folder = tmp_path / f"{one}-{two}-{share}"
        folder.mkdir(exist_ok=True)
        (folder / "x.fa").write_text(f">one\n{one}\n>two\n{two}\n")
        return open_windows(folder / "x.fa", 4)

    windows = opened("ACGTACGT", "GGCCGGCC")
    assert windows.content_hash() == opened("ACGTACGT", "GGCCGGCC").content_hash()
    assert windows.content_hash() != opened("ACGTACGA", "GGCCGGCC").content_hash()
    assert windows.content_hash() != opened("GGCCGGCC", "ACGTACGT").content_hash()
    first, second = windows.split(contigs=["two"])
    other = opened("ACGTACGT", "GGCCGGCA").split(contigs=["two"])
    assert len({each.content_hash() for each in (windows, first, second)}) == 3
    assert first.content_hash() == other[0].content_hash()  # of contigs that are used
    assert second.content_hash() != other[1].content_hash()


@pytest.mark.filterwarnings("ignore::crossdna_interpret.training.windows.ShortWarning")
def test_what_is_to_be_held_out_must_be_there(fasta: Path, tmp_path: Path) -> None:
    windows = open_windows(fasta, 8)
    with pytest.raises(ValueError, match=r"`contigs` and `share` both say what to hold out: \['chr2'\] and 0\.3"):
        windows.split(contigs=["chr2"], share=0.3)
    with pytest.raises(ValueError, match=r"`share` 0\.1 would hold none of the 4 windows"):
        windows.split(share=0.1)
    of_one = open_windows(fasta, 8, bed=bed(tmp_path, "chr1 0 16"))
    with pytest.raises(ValueError, match=r"`contigs` \['chr2'\] would hold none of the 2 windows"):
        of_one.split(contigs=["chr2"])


def test_batches_of_windows_are_of_ids(fasta: Path) -> None:
    from crossdna_interpret.training.batches import Batches

    with pytest.warns(ShortWarning):
        windows = open_windows(fasta, 5)
    seen = np.concatenate([batch.numpy() for batch in Batches(windows, 2, seed=0)])
    expected = windows.batch(range(len(windows))).numpy()
    assert sorted(row.tobytes() for row in seen) == sorted(row.tobytes() for row in expected)
    assert [row.tobytes() for row in windows.sequences()] == [row.tobytes() for row in expected]

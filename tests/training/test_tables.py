"""Tables of measured sequences, and batches that depend on the seed and the step alone."""

from __future__ import annotations

import gzip
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from crossdna_interpret import alphabet, cli
from crossdna_interpret.training.batches import Batches
from crossdna_interpret.training.tables import LeakWarning, Table, read_table

GOOD = """\
sequence\tactivity\tlibrary\tbarcodes\tsplit
ACGT\t1.5\tb\t3\ttrain
acguN\t-2\ta\t0\tvalid
GGCC\t0\tb\t1\ttrain
"""
COLUMNS = {"targets": ["activity"], "covariate": "library", "weight": "barcodes", "split": "split"}


def write(folder: Path, text: str) -> Path:
    path = folder / "table.tsv"
    path.write_text(text)
    return path


def test_a_table_is_read_by_split(tmp_path: Path) -> None:
    splits = read_table(write(tmp_path, GOOD), **COLUMNS)  # type: ignore[arg-type]
    assert list(splits) == ["train", "valid"]
    train, valid = splits["train"], splits["valid"]
    assert [alphabet.decode(ids) for ids in train.ids] == ["ACGT", "GGCC"]
    assert [alphabet.decode(ids) for ids in valid.ids] == ["ACGTN"]
    assert train.targets.tolist() == [[1.5], [0.0]]
    assert train.weight.tolist() == [3, 1]
    assert train.levels == valid.levels == ("a", "b")
    assert train.level.tolist() == [1, 1]
    assert valid.level.tolist() == [0]
    assert valid.target_names == ("activity",)


def test_a_gzipped_table_without_any_further_columns_is_all_for_training(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write(GOOD)
    splits = read_table(path, targets=["activity", "barcodes"])
    assert list(splits) == ["train"]
    assert splits["train"].targets.tolist() == [[1.5, 3], [-2, 0], [0, 1]]
    assert splits["train"].weight.tolist() == [1, 1, 1]
    assert splits["train"].levels == ("",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("acguN", "acguX", r"row 2.*'X'"),
        ("acguN", "", "row 2.*empty"),
        ("-2", "", "row 2: activity must be a finite number, but is ''"),
        ("1.5", "inf", "row 1: activity must be a finite number, but is 'inf'"),
        ("1.5", "high", "row 1: activity must be a finite number, but is 'high'"),
        ("\t3\t", "\t-3\t", "row 1: barcodes must be at least 0"),
        ("\ta\t", "\t\t", "row 2: library is empty"),
        ("valid", "", "row 2: split is empty"),
        ("activity", "signal", r"lacks the columns \['activity'\]"),
        (GOOD.split("\n", 1)[1], "", "has no rows"),
        (GOOD, "", "cannot be read"),
    ],
)
def test_a_bad_table_is_an_error_that_names_the_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_table(path, **COLUMNS)  # type: ignore[arg-type]


def test_no_file_and_no_targets_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`path`.*none\.tsv"):
        read_table(tmp_path / "none.tsv", targets=["activity"])
    for targets in ([], "activity"):
        with pytest.raises(ValueError, match="`targets` must be a list"):
            read_table(write(tmp_path, GOOD), targets=targets)


@pytest.mark.parametrize("repeat", ["GGCC", "ggcc", "AACC"])
def test_a_sequence_in_two_splits_is_warned_of_on_either_strand(tmp_path: Path, repeat: str) -> None:
    text = GOOD + f"{repeat}\t1\ta\t1\tvalid\nGGTT\t1\ta\t1\ttrain\n"
    if repeat == "AACC":  # whose reverse complement comes after it
        expected = r"1 sequences.*row 5, which repeats row 4"
    else:
        expected = r"1 sequences.*row 4, which repeats row 3"
    with pytest.warns(LeakWarning, match=expected):
        splits = read_table(write(tmp_path, text), **COLUMNS)  # type: ignore[arg-type]
    assert sum(map(len, splits.values())) == 5  # nothing is dropped


def test_the_places_of_a_long_table_are_named(tmp_path: Path) -> None:
    lines = [f"{'ACGT' * (1 + row % 3)}\t{row}\t{'ba'[row % 2]}\t1\ttrain\n" for row in range(2500)]
    header = GOOD.split("\n", 1)[0] + "\n"
    train = read_table(write(tmp_path, header + "".join(lines)), **COLUMNS)["train"]  # type: ignore[arg-type]
    assert train.targets[:, 0].tolist() == list(range(2500))
    assert train.lengths.tolist() == [4 * (1 + row % 3) for row in range(2500)]
    assert train.level.tolist() == [1 - row % 2 for row in range(2500)]
    lines[2400] = lines[2400].replace("ACGT", "ACGX", 1)
    with pytest.raises(ValueError, match=r"row 2401.*'X'"):
        read_table(write(tmp_path, header + "".join(lines)), **COLUMNS)  # type: ignore[arg-type]
    lines[2400] = "ACGT\t1\n"  # which ends early
    with pytest.raises(ValueError, match="row 2401: barcodes must be a finite number, but is ''"):
        read_table(write(tmp_path, header + "".join(lines)), **COLUMNS)  # type: ignore[arg-type]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux counts it")
def test_a_table_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, (12_000, 5_000))]
    with (tmp_path / "table.tsv").open("wb") as file:
        file.write(b"sequence\ty\tsplit\n")
        for row, letters in enumerate(bases):
            file.write(letters.tobytes() + b"\t%d\t%s\n" % (row, b"valid" if row % 10 == 0 else b"train"))
    code = """
import resource, sys
from pathlib import Path
from crossdna_interpret.training.tables import read_table
held = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
resource.setrlimit(resource.RLIMIT_DATA, (1024 * held + 30_000_000,) * 2)  # of a table of 60 MB
splits = read_table(sys.argv[1], targets=["y"], split="split")
ids, targets, *_ = splits["valid"].batch([1, 1199])
print(len(splits["train"]), tuple(ids.shape), targets[:, 0].tolist())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "table.tsv")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "10800 (2, 5000) [10.0, 11990.0]\n", result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no file here that is always full")
def test_no_room_for_the_sequences_is_an_error_that_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "wb"))  # noqa: SIM115
    table = write(tmp_path, GOOD)
    message = f"The sequences cannot be kept in {tempfile.gettempdir()}: .*No space left"
    with pytest.raises(OSError, match=message):
        read_table(table, **COLUMNS)  # type: ignore[arg-type]
    run = ["--run-folder", str(tmp_path / "run"), "--targets", "activity"]
    assert cli.main(["train", "finetune", "--table", str(table), *run]) == 2
    assert re.match(f"crossdna-interpret: {message}", capsys.readouterr().err)


def numbered(lengths: list[int]) -> Table:
    """Rows whose target is their number."""
    n = len(lengths)
    ids = [np.zeros(length, dtype=np.uint8) for length in lengths]
    numbers = np.arange(n, dtype=np.float32)
    return Table(ids, numbers[:, None], np.ones(n, np.float32), np.zeros(n, np.int64), ("number",))


def test_a_level_is_offset_by_its_mean_and_one_without_rows_by_nothing() -> None:
    ids = [np.zeros(4, dtype=np.uint8)] * 3
    targets = np.array([[1.0, 0.0], [3.0, 0.0], [8.0, 3.0]], dtype=np.float32)
    table = Table(ids, targets, np.ones(3, np.float32), np.array([2, 2, 0]), ("x", "y"), ("a", "b", "c"))
    assert table.level_offsets().tolist() == [[4.0, 2.0], [0.0, 0.0], [-2.0, -1.0]]


def seen(batches: Batches) -> list[list[int]]:
    return [targets[:, 0].int().tolist() for _, targets, _, _ in batches]


def test_batches_are_of_one_length_and_show_every_row_once() -> None:
    table = numbered([5, 7] * 6)
    batches = seen(Batches(table, 3, seed=0))
    assert sorted(itertools.chain(*batches)) == list(range(12))
    assert all(len({row % 2 for row in batch}) == 1 for batch in batches)
    assert len(batches) == len(Batches(table, 3, seed=0)) == 4


def test_the_order_depends_on_the_seed_and_the_pass() -> None:
    table = numbered([4] * 20)
    one = seen(Batches(table, 4, seed=0))
    assert seen(Batches(table, 4, seed=0)) == one
    assert seen(Batches(table, 4, seed=1)) != one
    second = seen(Batches(table, 4, seed=0, first=5))
    assert second != one
    assert sorted(itertools.chain(*second)) == list(range(20))


def test_a_run_goes_on_with_the_batches_it_would_have_seen() -> None:
    table = numbered([4] * 10 + [6] * 7)
    for first in range(8):
        epoch, begin = divmod(first, 8)
        assert seen(Batches(table, 2, seed=3, first=first)) == seen(Batches(table, 2, seed=3, first=8 * epoch))[begin:]


def test_processes_share_the_batches_evenly() -> None:
    table = numbered([4] * 21)
    whole = seen(Batches(table, 2, seed=0))
    shares = [seen(Batches(table, 2, seed=0, share=(i, 3))) for i in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]  # ten batches: one is left out
    assert [batch for turn in zip(*shares, strict=True) for batch in turn] == whole[:9]


def test_without_a_seed_the_order_is_the_tables_and_nothing_is_left_out() -> None:
    table = numbered([4] * 5 + [6])
    batches = Batches(table, 2, seed=None)
    assert seen(batches) == [[0, 1], [2, 3], [4], [5]]
    assert len(batches) == 4
    assert [seen(Batches(table, 2, seed=None, share=(i, 2))) for i in range(2)] == [[[0, 1], [4]], [[2, 3], [5]]]


def test_too_few_rows_for_a_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match="`size` is 4, but there are no 4 rows of one length"):
        Batches(numbered([3, 3, 3, 5, 5]), 4, seed=0)
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        Batches(numbered([3]), 0, seed=None)


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match=r"`weight` must have shape \(2,\), but has \(3,\)"):
        Table([np.zeros(3)] * 2, np.zeros((2, 1)), np.ones(3), np.zeros(2), ("y",))  # type: ignore[arg-type]

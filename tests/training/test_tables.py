"""Tables of measured sequences, and batches that depend on the seed and the step alone."""

from __future__ import annotations

import gzip
import itertools
import math
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossdna_interpret import cli
from crossdna_interpret.dna import alphabet
from crossdna_interpret.training.batches import Batches
from crossdna_interpret.training.supervised import by_length
from crossdna_interpret.training.tables import PADDING, LeakWarning, Table, read_table

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
        ("1.5", "1e39", r"row 1: activity must be within 3\.4e\+38, the range of float32, but is '1e39'"),
        ("-2", "-1e300", "row 2: activity must be within"),
        ("1.5", "1e400", "row 1: activity must be a finite number"),
        ("1.5", "1_5", "row 1: activity must be a finite number"),
        ("\t3\t", "\t1e39\t", "row 1: barcodes must be within"),
        ("\t0\tvalid", "\tNA\tvalid", "row 2: barcodes must be a finite number, but is 'NA'"),
        ("valid", "valid\tx", "row 2: expected 5 fields, as in the header, but got 6"),
    ],
)
def test_a_bad_table_is_an_error_that_names_the_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_table(path, **COLUMNS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "missing", ["NA", "NaN", "nan", "NAN", "Na", "NULL", "None", "<NA>", "N/A", " NA ", '"NA"', ""]
)
def test_a_missing_sequence_is_not_taken_for_bases(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path, GOOD.replace("GGCC", missing))
    with pytest.raises(ValueError, match=r"row 3.*(missing|empty)"):
        read_table(path, **COLUMNS)  # type: ignore[arg-type]


@pytest.mark.parametrize("short", ["N", "AN", "NNA", "A"])
def test_short_sequences_are_read(tmp_path: Path, short: str) -> None:
    train = read_table(write(tmp_path, GOOD.replace("GGCC", short)), **COLUMNS)["train"]  # type: ignore[arg-type]
    assert alphabet.decode(train.ids[1]) == short


def test_quotation_marks_and_row_ends_change_nothing(tmp_path: Path) -> None:
    quoted = "name\t" + GOOD.replace("\n", "\nx\t", 3).replace("x", '"unclosed', 1).replace("x", 'end"', 1)
    plain = read_table(write(tmp_path, GOOD), **COLUMNS)  # type: ignore[arg-type]
    for text in (quoted, GOOD.replace("\n", "\r\n"), GOOD.replace("ACGT", '"ACGT"'), GOOD.replace("\n", "\n\n")):
        splits = read_table(write(tmp_path, text), **COLUMNS)  # type: ignore[arg-type]
        assert {name: split.content_hash() for name, split in splits.items()} == {
            name: split.content_hash() for name, split in plain.items()
        }


@pytest.mark.parametrize("label", ["2", "-1", "1.001", "-1e-6"])
def test_a_label_that_is_not_from_0_to_1_is_named(tmp_path: Path, label: str) -> None:
    text = f"sequence\ta\tb\nACGT\t0\t1\nACGG\t1\t0.3\nACGA\t0\t{label}\n"
    path = write(tmp_path, text)
    assert read_table(path, targets=["a", "b"])["train"].targets[2, 1] == np.float32(label)
    with pytest.raises(ValueError, match=f"row 3: b must be from 0 to 1, but is '{label}'"):
        read_table(path, targets=["a", "b"], task="classification")
    labels = read_table(path, targets=["a"], weight="a", task="classification")["train"]
    assert labels.targets[:, 0].tolist() == labels.weight.tolist() == [0, 1, 0]


def test_a_row_that_ends_early_is_an_error_though_all_that_is_read_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("GGCC\t0\tb\t1\ttrain", "GGCC\t0"))
    with pytest.raises(ValueError, match="row 3: expected 5 fields, as in the header, but got 2"):
        read_table(path, targets=["activity"])


@pytest.mark.parametrize(
    "change",
    [
        {"ids": [np.array([0, 1]), np.array([2, 3, 3])]},
        {"ids": [np.array([0]), np.array([1, 2, 3])]},  # the same bases, cut elsewhere
        {"targets": np.array([[1.0], [2.5]], np.float32)},
        {"weight": np.array([1, 2], np.float32)},
        {"level": np.array([1, 0])},
        {"target_names": ("z",)},
        {"levels": ("a", "c")},
    ],
)
def test_the_hash_of_a_table_tells_of_any_change(change: dict[str, object]) -> None:
    table = Table(
        [np.array([0, 1]), np.array([2, 3])], np.array([[1.0], [2.0]], np.float32), np.array([1, 1], np.float32),
        np.array([0, 1]), ("y",), ("a", "b"),
    )  # fmt: skip
    assert replace(table).content_hash() == table.content_hash()
    assert table.rows([1, 0]).content_hash() != table.content_hash()
    assert replace(table, **change).content_hash() != table.content_hash()  # type: ignore[arg-type]


def test_no_file_and_no_targets_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`path`.*none\.tsv"):
        read_table(tmp_path / "none.tsv", targets=["activity"])
    for targets in ([], "activity"):
        with pytest.raises(ValueError, match="`targets` must be a list"):
            read_table(write(tmp_path, GOOD), targets=targets)
    with pytest.raises(ValueError, match="`targets` must be different columns"):
        read_table(write(tmp_path, GOOD), targets=["activity", "activity"])


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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "lengths", [[5, 7] * 6, [4] * 33, list(range(3, 40)), [4] * 40 + [5, 5, 5, 6] * 9, [8], [8, 9]]
)
@pytest.mark.parametrize("size", [1, 3, 16, 1000])
def test_every_row_is_shown_once_in_each_pass(lengths: list[int], size: int) -> None:
    batches = Batches(numbered(lengths), size, seed=0)
    for epoch in range(2):
        order = batches.order(epoch)
        assert sorted(np.concatenate(order).tolist()) == list(range(len(lengths)))
        sizes = [len(rows) for rows in order]
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1  # none is so small that it teaches little
        assert len(order) == len(batches) == math.ceil(len(lengths) / size)
    assert sorted(itertools.chain(*seen(batches))) == list(range(len(lengths)))


@pytest.mark.parametrize("lengths", [[5, 7] * 6, list(range(3, 40)), [4] * 40 + [5, 5, 5, 6] * 9])
def test_rows_of_one_length_stand_together(lengths: list[int]) -> None:
    table = numbered(lengths)
    of_batches = [table.lengths[rows] for rows in Batches(table, 6, seed=0).order(0)]
    assert all((np.diff(each) >= 0).all() for each in of_batches)
    parts = sum(len(np.unique(each)) for each in of_batches)
    assert parts <= len(of_batches) + len(set(lengths))  # passes through a model


def test_a_batch_of_several_lengths_is_split_into_its_sequences() -> None:
    table = Table(
        [np.array(ids, np.uint8) for ids in ([0, 1, 4], [2, 3, 4], [0, 1, 2, 3])], np.zeros((3, 1), np.float32),
        np.ones(3, np.float32), np.zeros(3, np.int64), ("y",),
    )  # fmt: skip
    ids, *_ = table.batch([0, 1, 2])
    assert ids.tolist() == [[0, 1, 4, PADDING], [2, 3, 4, PADDING], [0, 1, 2, 3]]
    assert [part.tolist() for part in by_length(ids)] == [[[0, 1, 4], [2, 3, 4]], [[0, 1, 2, 3]]]
    ids, *_ = table.batch([1, 2, 0])  # in whatever order
    assert [part.tolist() for part in by_length(ids)] == [[[2, 3, 4]], [[0, 1, 2, 3]], [[0, 1, 4]]]


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
    for first in range(18):
        epoch, begin = divmod(first, 9)
        assert seen(Batches(table, 2, seed=3, first=first)) == seen(Batches(table, 2, seed=3, first=9 * epoch))[begin:]


@pytest.mark.parametrize(("rows", "processes"), [(21, 3), (22, 2), (3, 2), (2, 4), (1, 3)])
def test_processes_share_the_batches_evenly(rows: int, processes: int) -> None:
    table = numbered([4] * rows)
    whole = seen(Batches(table, 2, seed=0))
    shares = [seen(Batches(table, 2, seed=0, share=(i, processes))) for i in range(processes)]
    turns = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert turns[: len(whole)] == whole
    assert all(batch in whole for batch in turns)  # what is left of the last turn repeats some
    assert len(turns) - len(whole) < processes


def test_each_of_several_processes_continues_with_the_batches_it_would_have_seen() -> None:
    table = numbered([4] * 11)
    for own in range(2):
        whole = seen(Batches(table, 2, seed=0, share=(own, 2)))
        assert seen(Batches(table, 2, seed=0, first=2, share=(own, 2))) == whole[2:]


def test_without_a_seed_the_order_is_the_tables_and_nothing_is_left_out() -> None:
    table = numbered([4] * 5 + [6])
    batches = Batches(table, 2, seed=None)
    assert seen(batches) == [[0, 1], [2, 3], [4], [5]]
    assert len(batches) == 4
    assert [seen(Batches(table, 2, seed=None, share=(i, 2))) for i in range(2)] == [[[0, 1], [4]], [[2, 3], [5]]]


def test_no_rows_and_no_size_are_errors() -> None:
    with pytest.raises(ValueError, match="`rows` must hold at least one row"):
        Batches(numbered([]), 4, seed=0)
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        Batches(numbered([3]), 0, seed=None)


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match=r"`weight` must have shape \(2,\), but has \(3,\)"):
        Table([np.zeros(3)] * 2, np.zeros((2, 1)), np.ones(3), np.zeros(2), ("y",))  # type: ignore[arg-type]

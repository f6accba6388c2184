"""Comparison with the laboratory, on tables small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossdna_interpret.measured.laboratory import crx_pairs, scanning


def count_of_g(seqs: Sequence[str]) -> np.ndarray:
    return np.array([seq.count("G") for seq in seqs], dtype=np.float32)


def write(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "table.tsv.gz"
    frame.to_csv(path, sep="\t", index=False)
    return path


def test_scanning_compares_effects_not_levels(tmp_path: Path) -> None:
    bases = {"second": "GGGGGG", "first": "AAAAAA"}
    mutants = {"second": ["GGGGGA", "GGGAAA", "GGGGAA", "GAAAAA"], "first": ["AAAAAG", "AAAAGG", "AAAGGG", "AAGGGG"]}
    rows = []
    for parent, sign, level in (("second", 1, 600), ("first", -1, 500)):
        for mutant in mutants[parent]:
            effect = sign * (mutant.count("G") - bases[parent].count("G"))
            rows.append(
                {
                    "parent": parent, "base_sequence": bases[parent], "sequence": mutant, "group_median_log2": level,
                    "log2_activity": level + effect,
                }
            )  # fmt: skip
    result = scanning(write(tmp_path, pd.DataFrame(rows)), count_of_g)
    assert result["parent"].tolist() == ["second", "first"]
    assert result["n"].tolist() == [4, 4]
    assert result["r"].tolist() == pytest.approx([1, -1])


def test_pairs_are_of_one_enhancer_and_one_library(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [
            ("a_MUT-allCrxSites", "GAAA", 1.0, 1),
            ("a_WT", "GGGA", 4.0, 1),
            ("a_WT", "GGGG", 9.0, 2),  # no mutant in this library
            ("b_WT", "CCCC", 0.5, 1),
            ("b_MUT-shape", "GGGG", 3.0, 1),  # another kind of mutant
            ("b_MUT-allCrxSites", "CCCG", 0.0, 1),
        ],
        columns=["id", "sequence", "log2_activity", "library"],
    )
    result = crx_pairs(write(tmp_path, frame), count_of_g)
    assert result["enhancer"].tolist() == ["a", "b"]
    assert result["activity"].tolist() == [4.0, 0.5]
    assert result["measured"].tolist() == [-3.0, -0.5]
    assert result["predicted"].tolist() == [-2.0, 1.0]


def test_bad_tables_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        scanning(tmp_path / "none.tsv", count_of_g)
    path = write(tmp_path, pd.DataFrame({"id": ["a_WT"], "sequence": ["A"], "log2_activity": [1.0], "library": [1]}))
    with pytest.raises(ValueError, match=r"lacks the columns \['parent', 'base_sequence', 'group_median_log2'\]"):
        scanning(path, count_of_g)
    with pytest.raises(ValueError, match="no pairs"):
        crx_pairs(path, count_of_g)


def test_the_laboratorys_tables_are_read(shared: Path) -> None:
    folder = shared / "data" / "retina_mpra"
    assert len(scanning(folder / "scanning_valid.tsv.gz", count_of_g)) == 3
    assert len(scanning(folder / "scanning_train.tsv.gz", count_of_g)) == 19
    assert len(crx_pairs(folder / "valid.tsv.gz", count_of_g)) == 552


SCANNED = "parent\tbase_sequence\tsequence\tlog2_activity\tgroup_median_log2\n"


def test_a_quotation_mark_swallows_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    rows = [f'"{name}\tAAAA\t{mutant}\t{value}\t0' for name in "ab" for mutant, value in (("AAAG", 1), ("AAGG", 2))]
    path.write_text("\ufeff" + SCANNED + "\n".join(rows) + "\n")
    assert scanning(path, count_of_g)["n"].tolist() == [2, 2]


def test_quoted_fields_are_read_as_r_writes_them(tmp_path: Path) -> None:
    lines = [
        SCANNED,
        *(f"a\tAAAA\t{mutant}\t{value}\t0\n" for mutant, value in (("AAAG", 1), ("AAGG", 2), ("AGGG", 4))),
    ]
    plain, quoted = tmp_path / "plain.tsv", tmp_path / "quoted.tsv"
    plain.write_text("".join(lines))
    quoted.write_text("".join("\t".join(f'"{field}"' for field in line.rstrip().split("\t")) + "\n" for line in lines))
    pd.testing.assert_frame_equal(scanning(quoted, count_of_g), scanning(plain, count_of_g))


@pytest.mark.parametrize("row", ["a\tAAAA\tNA\t1\t0", "a\tAAAA\tAAAG\t\t0", "a\t\tAAAG\t1\t0"])
def test_a_missing_value_is_named(row: str, tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(SCANNED + f"a\tAAAA\tAAAG\t1\t0\n{row}\n")
    with pytest.raises(ValueError, match=r"table\.tsv, row 2: \w+ is missing"):
        scanning(path, count_of_g)


def test_parents_that_look_like_numbers_stay_apart(tmp_path: Path) -> None:
    rows = ["parent\tbase_sequence\tsequence\tlog2_activity\tgroup_median_log2"]
    for parent, base in (("01", "ACGT"), ("1", "AACC"), ("1e3", "ACCA"), ("1000", "TTGG")):
        rows += [f"{parent}\t{base}\t{base[:at]}G{base[at + 1 :]}\t{at}.5\t1" for at in range(4)]
    (tmp_path / "x.tsv").write_text("\n".join(rows) + "\n")
    result = scanning(tmp_path / "x.tsv", lambda seqs: np.array([len(set(each)) for each in seqs], dtype=float))
    assert result["parent"].tolist() == ["01", "1", "1e3", "1000"]
    assert result["n"].tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("a\tACGT\tACGA\t1,5\t1\n", "row 1: log2_activity must be a number, but is '1,5'"),
        ("a\tACGT\tACGA\tinf\t1\n", "row 1: log2_activity must be a number, but is 'inf'"),
        ("a\tACGT\tACGA\t1\tabc\n", "row 1: group_median_log2 must be a number, but is 'abc'"),
    ],
)
def test_tables_without_numbers_are_refused(tmp_path: Path, content: str, message: str) -> None:
    header = "parent\tbase_sequence\tsequence\tlog2_activity\tgroup_median_log2\n"
    (tmp_path / "x.tsv").write_text(header + content)
    with pytest.raises(ValueError, match=message):
        scanning(tmp_path / "x.tsv", lambda seqs: np.zeros(len(seqs)))


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes("parent\tbase_sequence\né\tACGT\n".encode("latin-1"))
    with pytest.raises(ValueError, match="must be a table in UTF-8"):
        scanning(tmp_path / "x.tsv", lambda seqs: np.zeros(len(seqs)))

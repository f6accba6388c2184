"""Saturation mutagenesis, on a model whose effects are known."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.dna import alphabet
from crossdna_interpret.measured.satmut import read_elements, read_variants, satmut
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna

WORTH = {"A": 0.5, "C": 0.0, "G": 1.0, "T": 0.0}


def effects(sequence: str, start: int, end: int) -> np.ndarray:
    """Of a model that counts weighted bases."""
    return np.array([[WORTH[alt] - WORTH[ref] for alt in "ACGT"] for ref in sequence[start:end]])


SEQUENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 70))


def measured(noise: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = [
        ("toy", 101 + at, ref, alt, WORTH[alt] - WORTH[ref] + noise * random.normal(), 20)
        for at, ref in enumerate(SEQUENCE)
        for alt in "ACGT"
        if alt != ref
    ]
    return pd.DataFrame(rows, columns=["element", "position", "ref", "alt", "effect", "barcodes"])


def test_every_variant_of_an_inner_part_is_compared() -> None:
    table = satmut(measured(), {"toy": (101, SEQUENCE)}, effects, window=40, step=7, margin=5)
    assert table["r"].tolist() == pytest.approx([1.0])
    assert table["same_sign"].tolist() == [1.0]
    assert table["variants"].tolist() == [3 * 60]  # five bases at either end are in no window's inner part
    assert satmut(measured(1.0), {"toy": (101, SEQUENCE)}, effects, window=40)["r"][0] < 0.9


def test_effects_are_means_over_windows() -> None:
    """Of effects that are the start of the window."""
    starts = {SEQUENCE[at : at + 40]: at for at in range(31)}

    def by_window(sequence: str, start: int, end: int) -> np.ndarray:
        return np.full((end - start, 4), starts[sequence], dtype=float)

    variants = measured()
    at = variants["position"].to_numpy() - 101
    holding = [[start for start in (0, 9, 18, 27, 30) if start + 12 <= place < start + 28] for place in at]
    variants["effect"] = [np.mean(each) if each else 5.0 for each in holding]
    table = satmut(variants, {"toy": (101, SEQUENCE)}, by_window, window=40, step=9)
    assert table["variants"][0] == sum(map(bool, holding))
    assert table["r"][0] == pytest.approx(1.0)


def test_a_short_element_is_one_window() -> None:
    table = satmut(measured(), {"toy": (101, SEQUENCE)}, effects, window=400, margin=0)
    assert table["variants"].tolist() == [3 * 70]


def test_wrong_positions_are_refused() -> None:
    variants = measured()
    with pytest.raises(ValueError, match="`variants`: position 170 is outside of toy"):
        satmut(variants, {"toy": (101, SEQUENCE[:-1])}, effects, window=40)
    with pytest.raises(ValueError, match=r"`variants`: toy has . where the reference base is said to be ."):
        satmut(variants, {"toy": (101, SEQUENCE[1:] + "A")}, effects, window=40)
    with pytest.raises(ValueError, match="`elements` must hold toy, but has other"):
        satmut(variants, {"other": (101, SEQUENCE)}, effects, window=40)
    with pytest.raises(ValueError, match="`window` must be"):
        satmut(variants, {"toy": (101, SEQUENCE)}, effects, window=0)


def test_the_published_table_is_read(shared: Path) -> None:
    folder = shared / "data" / "kircher_satmut"
    elements = read_elements(folder / "elements_reference_GRCh38.fa")
    variants = read_variants(folder / "elements.tsv.gz")
    assert len(elements) == variants["element"].nunique() == 29
    for name, group in variants.groupby("element"):
        start, sequence = elements[str(name)]
        at = group["position"].to_numpy() - start
        inside = (at >= 0) & (at < len(sequence))
        assert inside.all()
        assert [sequence[each] for each in at] == group["ref"].tolist()
    assert set(variants["alt"]) == set(alphabet.BASES)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`path` must be a table of variants"):
        read_variants(tmp_path / "x")
    with gzip.open(tmp_path / "x.tsv.gz", "wt") as file:
        file.write("Pos\tRef\n1\tA\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        read_variants(tmp_path / "x.tsv.gz")
    (tmp_path / "x.fa").write_text(">toy chr1:1-5\nACGT\n")
    with pytest.raises(ValueError, match="toy is 5 bases by its header, but has 4"):
        read_elements(tmp_path / "x.fa")
    (tmp_path / "x.fa").write_text(">toy\nACGT\n")
    with pytest.raises(ValueError, match="a header must read"):
        read_elements(tmp_path / "x.fa")


def test_the_command_prints_a_row_for_each_element(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_model: Callable
) -> None:
    model = make_model(targets=("one", "two"))
    folder = save_crossdna(model, tmp_path / "model", card="# Toy\n")
    table = measured().rename(columns={"position": "Pos", "ref": "Ref", "alt": "Alt", "barcodes": "Barcodes",
                                       "effect": "Coefficient", "element": "Element"})  # fmt: skip
    table.assign(Chrom="1", Release="GRCh38").to_csv(tmp_path / "variants.tsv", sep="\t", index=False)
    (tmp_path / "toy.fa").write_text(f">toy chr1:101-170\n{SEQUENCE}\n")
    words = ["satmut", str(tmp_path / "variants.tsv"), str(tmp_path / "toy.fa"), "--model", str(folder)]
    assert cli.main([*words, "--window", "70", "-o", str(tmp_path / "out.tsv")]) == 0
    assert "the mean of its targets; windows of 70 bases" in capsys.readouterr().out
    row = pd.read_csv(tmp_path / "out.tsv", sep="\t").iloc[0]
    delta = cdi.ism(SEQUENCE, model, target=0)
    mean = (delta.predictions - delta.reference).mean(-1)
    variants = measured()
    at = variants["position"].to_numpy() - 101
    inside = (at >= 12) & (at < 58)
    predicted = mean[at, ["ACGT".index(base) for base in variants["alt"]]]
    assert row["variants"] == inside.sum()
    assert row["r"] == pytest.approx(np.corrcoef(predicted[inside], variants["effect"][inside])[0, 1], abs=1e-5)
    assert cli.main([*words, "--target", "two", "--window", "70"]) == 0
    assert ", two; windows" in capsys.readouterr().out
    assert cli.main([*words, "--element", "other", "--window", "70"]) == 2
    assert "`element` other has no variants. Near matches: toy" in capsys.readouterr().err
    assert cli.main([*words, "--window", "0"]) == 2
    assert "`window` must be an integer of at least 1, but got 0" in capsys.readouterr().err
    assert cli.main(words) == 2
    assert "`window` must be given" in capsys.readouterr().err


def test_windows_outside_of_the_training_range_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = measured().rename(columns={"position": "Pos", "ref": "Ref", "alt": "Alt", "barcodes": "Barcodes",
                                       "effect": "Coefficient", "element": "Element"})  # fmt: skip
    table.assign(Chrom="1", Release="GRCh38").to_csv(tmp_path / "variants.tsv", sep="\t", index=False)
    (tmp_path / "toy.fa").write_text(f">toy chr1:101-170\n{SEQUENCE}\n")
    assert cli.main(["satmut", str(tmp_path / "variants.tsv"), str(tmp_path / "toy.fa")]) == 0
    problem = cdi.outside_training(cdi.load_model(), SEQUENCE)
    assert (
        f"1 of 1 windows are unlike the training data, for example: {problem}. retina-enhancer extrapolates there."
        in capsys.readouterr().err
    )


def test_an_element_that_no_window_fits_has_no_variants() -> None:
    table = satmut(measured().head(6), {"toy": (101, SEQUENCE[:20])}, effects, window=40)
    assert table["variants"].tolist() == [0]
    assert np.isnan(table["r"][0])


def test_windows_leave_no_gap() -> None:
    """Whatever the step, all but the ends of the element are compared."""
    table = satmut(measured(), {"toy": (101, SEQUENCE)}, effects, window=30, step=36, margin=12)
    assert table["variants"].tolist() == [3 * (len(SEQUENCE) - 24)]
    with pytest.raises(ValueError, match="`window` must be above 24, twice the margin, but is 24"):
        satmut(measured(), {"toy": (101, SEQUENCE)}, effects, window=24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt": "AC"}, "row 3: alt must be A, C, G or T, and not ref, but is 'AC'"),
        ({"alt": "N"}, "row 3: alt must be A, C, G or T, and not ref, but is 'N'"),
        ({"alt": measured()["ref"][3]}, "row 3: alt must be A, C, G or T, and not ref"),
        ({"effect": np.nan}, "row 3: effect must be a finite number"),
        ({"element": None}, "row 3: element is missing"),
    ],
)
def test_bad_variants_are_refused(change: dict, message: str) -> None:
    table = measured()
    for column, value in change.items():
        table.loc[3, column] = value
    with pytest.raises(ValueError, match=message):
        satmut(table, {"toy": (101, SEQUENCE)}, effects, window=40)


def test_tables_that_cannot_be_compared_are_refused() -> None:
    elements = {"toy": (101, SEQUENCE)}
    with pytest.raises(ValueError, match=r"`variants` must have the columns \['ref'\]"):
        satmut(measured().drop(columns="ref"), elements, effects, window=40)
    with pytest.raises(ValueError, match="must have whole positions, but they are float64"):
        satmut(measured().astype({"position": float}), elements, effects, window=40)
    with pytest.raises(ValueError, match="`variants` row 210 repeats an earlier variant"):
        satmut(pd.concat([measured(), measured()[:1]]), elements, effects, window=40)
    with pytest.raises(ValueError, match=r"`effects` must return \(16, 4\), but returned \(4,\)"):
        satmut(measured(), elements, lambda *_: np.zeros(4), window=40)


def test_lower_case_and_odd_files(tmp_path: Path) -> None:
    columns = ["Chrom", "Pos", "Ref", "Alt", "Barcodes", "Coefficient", "Element", "Release"]
    rows = [["1", 101, "a", "C", 20, 0.5, "toy", "GRCh38"], ["1", 102, "G", "t", 20, 0.5, "toy", "GRCh38"]]
    path = tmp_path / "v.tsv"
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)
    assert read_variants(path)[["ref", "alt"]].to_numpy().tolist() == [["A", "C"], ["G", "T"]]
    with pytest.raises(ValueError, match="`barcodes` must be an integer"):
        read_variants(path, barcodes=None)  # type: ignore[arg-type]
    for column, value, message in (
        (6, "NA", "row 1: Element is missing"), (4, "many", "Barcodes must be numbers"),
        (5, "high", "Coefficient must be numbers"),
    ):  # fmt: skip
        odd = [[*rows[0][:column], value, *rows[0][column + 1 :]], rows[1]]
        pd.DataFrame(odd, columns=columns).to_csv(path, sep="\t", index=False)
        with pytest.raises(ValueError, match=message):
            read_variants(path)
    pd.DataFrame([[*rows[0][:5], np.nan, 7, "GRCh38"], [*rows[1][:7], np.nan]], columns=columns).to_csv(
        path, sep="\t", index=False
    )
    assert read_variants(path).empty  # one without an effect, and one of no release
    with pytest.raises(ValueError, match=r"`release` must be one of \['GRCh38'\], but is 'other'"):
        read_variants(path, release="other")
    rows[0][1] = 101.5
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"Pos must be whole numbers, but has 101\.5"):
        read_variants(path)
    for text, message in (
        (">a chr1:1-4\nACGT\n>a chr1:1-4\nACGT\n", "a is there twice"),
        (">a chr1:1-4 GRCh38 - strand\nACGT\n", "must be the forward strand"),
        ("", "must be a FASTA file"),
    ):
        (tmp_path / "e.fa").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_elements(tmp_path / "e.fa")


def test_the_command_does_not_overwrite_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("v.tsv", "e.fa"):
        (tmp_path / name).write_text("kept")
    words = ["satmut", str(tmp_path / "v.tsv"), str(tmp_path / "e.fa"), "-o"]
    for name in ("v.tsv", "e.fa"):
        assert cli.main([*words, str(tmp_path / name)]) == 2
        assert "is a file that is read; choose another" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "kept"
    assert cli.main([*words, str(tmp_path / "none" / "x.tsv")]) == 2
    assert "`out` must be in a folder that exists" in capsys.readouterr().err

"""The example loci agree with the measured table, and no model was trained on them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossdna_interpret import (
    ExampleLocus,
    ExampleVariant,
    example,
    example_families,
    example_names,
    example_variants,
)
from crossdna_interpret.dna import alphabet
from crossdna_interpret.io.examples import example_sequences, fitting_example


@pytest.fixture(params=example_names())
def locus(request: pytest.FixtureRequest) -> ExampleLocus:
    return example(request.param)


@pytest.fixture
def table(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "data" / "retina_mpra" / "valid.tsv.gz", sep="\t")


def test_sequence_is_as_long_as_its_interval(locus: ExampleLocus) -> None:
    assert alphabet.normalize(locus.sequence) == locus.sequence
    assert len(locus.sequence) == locus.end - locus.start
    assert "N" not in locus.sequence


def test_fields_are_filled(locus: ExampleLocus) -> None:
    assert locus.description.endswith(".")
    assert locus.chrom.startswith("chr")
    assert np.isfinite(locus.measured)
    assert isinstance(locus.library, int)
    assert "doi" in locus.citation


def test_names_are_unique() -> None:
    names = example_names()
    assert len(names) >= 2
    assert len(set(names)) == len(names)
    assert [example(name).name for name in names] == names
    assert len({example(name).sequence for name in names}) == len(names)


def test_first_is_the_default() -> None:
    assert example() == example(example_names()[0])


def test_unknown_name_lists_near_matches() -> None:
    with pytest.raises(ValueError, match=r"`name` 'silence' is not an example locus\. Near matches: silencer"):
        example("silence")
    with pytest.raises(ValueError, match="Near matches: ") as error:
        example("qqq")
    for name in example_names():
        assert name in str(error.value)


def test_list_of_names_is_the_callers_own() -> None:
    example_names().clear()
    assert example_names()


def test_sequence_and_value_are_those_of_the_table(locus: ExampleLocus, table: pd.DataFrame) -> None:
    rows = table[(table["sequence"] == locus.sequence) & (table["library"] == locus.library)]
    assert len(rows) == 1
    row = rows.iloc[0]
    assert row["log2_activity"] == locus.measured
    assert row["chrom"] == locus.chrom
    assert row["id"].startswith(f"{locus.chrom}-{locus.start}-{locus.end}_")


@pytest.mark.parametrize("name", ["strong-enhancer", "crx-dependent"])
def test_mutated_partner_is_the_same_locus(name: str) -> None:
    locus, other = example(name), example(f"{name}-without-crx")
    assert (other.chrom, other.start, other.end, other.library) == (locus.chrom, locus.start, locus.end, locus.library)
    # CRX binds TAAT and the like: a few bases each, in a few places.
    changed = sum(a != b for a, b in zip(locus.sequence, other.sequence, strict=True))
    assert 0 < changed < 20
    assert other.measured < locus.measured


def test_no_training_sequence_is_among_them(locus: ExampleLocus, shared: Path) -> None:
    with gzip.open(shared / "data" / "retina_mpra" / "train.tsv.gz", "rt") as lines:
        trained = {line.split("\t")[1] for line in lines}
    assert len(trained) > 10_000
    assert locus.sequence not in trained


def test_the_table_of_families_is_the_validation_table(shared: Path) -> None:
    table = example_families()
    source = pd.read_csv(shared / "data" / "yeast_promoters" / "valid.tsv.gz", sep="\t")
    pd.testing.assert_frame_equal(table, source[list(table.columns)])


def test_every_kind_of_example_has_a_sequence_that_fits() -> None:
    sequences = example_sequences()
    assert set(example_names()) | set(example_variants()) < set(sequences)
    assert {len(each) for each in sequences.values()} == {80, 145, 164}
    assert fitting_example(lambda each: len(each) == 80) == "yeast-strong-promoter"
    assert fitting_example(lambda each: len(each) == 145) == "SORT1-rs12740374"
    assert fitting_example(lambda each: False) == example_names()[0]
    table = example_families().set_index("sequence")["complex"]
    assert table[sequences["yeast-strong-promoter"]] > 13 > 3 > table[sequences["yeast-weak-promoter"]]


def test_an_unknown_table_of_families() -> None:
    with pytest.raises(ValueError, match="`name` 'yeast' is not a table of families"):
        example_families("yeast")


@pytest.fixture(params=example_variants())
def variant(request: pytest.FixtureRequest) -> ExampleVariant:
    return example_variants()[request.param]


def test_a_variant_stands_in_its_sequence(variant: ExampleVariant) -> None:
    assert variant.sequence[variant.position - variant.start] == variant.ref
    for length in (1, 2, 145, len(variant.sequence)):
        sequence, edit = variant.window(length)
        assert len(sequence) == length
        assert sequence in variant.sequence
        assert sequence[edit.start : edit.end] == variant.ref
        assert edit.string == variant.alt
    with pytest.raises(ValueError, match="`length` must be from 1 to"):
        variant.window(len(variant.sequence) + 1)


def test_variants_and_their_effects_are_those_of_the_table(variant: ExampleVariant, shared: Path) -> None:
    folder = shared / "data" / "kircher_satmut"
    table = pd.read_csv(folder / "elements.tsv.gz", sep="\t", dtype={"Chrom": str})
    row = table[
        (table["Release"] == "GRCh38")
        & (table["Element"] == variant.element)
        & (table["Pos"] == variant.position + 1)
        & (table["Alt"] == variant.alt)
    ].iloc[0]
    assert (f"chr{row['Chrom']}", row["Ref"], row["Barcodes"]) == (variant.chrom, variant.ref, variant.barcodes)
    # Of a construct with T at this place, substitutions to C are the most frequent and those to G the rarest.
    sign = -1 if variant.gene == "SORT1" else 1
    assert variant.measured == pytest.approx(sign * row["Coefficient"], abs=1e-4)
    elements = (folder / "elements_reference_GRCh38.fa").read_text().split(">")
    own = next(each for each in elements if each.startswith(f"{variant.element} "))
    header, _, body = own.partition("\n")
    assert header.split()[1].startswith(f"{variant.chrom}:{variant.start + 1}-")
    assert "".join(body.split()) == variant.sequence


def test_the_sign_of_rs12740374_is_reversed_for_a_reason(shared: Path) -> None:
    """Its construct held T: substitutions of the neighbouring T have the same ratios of barcodes."""
    table = pd.read_csv(shared / "data" / "kircher_satmut" / "elements.tsv.gz", sep="\t", dtype={"Chrom": str})
    element = table[(table["Release"] == "GRCh38") & (table["Element"] == "SORT1.2") & table["Ref"].str.len().eq(1)]
    counts = element[element["Alt"] != "-"].pivot_table(index="Alt", columns="Pos", values="Barcodes")
    own = counts[109274968.0]
    assert own["C"] > own["A"] > own["T"]  # of a G, substitutions to A are the most frequent
    of_g = element[(element["Ref"] == "G") & (element["Pos"] != 109274968)].groupby("Alt")["Barcodes"].median()
    of_t = element[element["Ref"] == "T"].groupby("Alt")["Barcodes"].median()
    assert of_g.idxmax() == "A"
    assert of_t.idxmax() == "C"
    assert of_t.drop("C").idxmax() == "A"

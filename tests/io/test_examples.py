"""The example loci agree with the measured table, and no model was trained on them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossdna_interpret import ExampleLocus, example, example_families, example_names
from crossdna_interpret.dna import alphabet


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


def test_an_unknown_table_of_families() -> None:
    with pytest.raises(ValueError, match="`name` 'yeast' is not a table of families"):
        example_families("yeast")

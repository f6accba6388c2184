"""Sources of motifs, and valid and invalid motif files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import Bio.motifs
import Bio.motifs.jaspar
import memelite.io
import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret import Motif
from crossdna_interpret.motifs import collection
from crossdna_interpret.motifs.collection import find_motif, from_database, jaspar, read_meme, write_meme

HEAD = "MEME version 4\n\nALPHABET= ACGT\n\n"
GOOD = f"{HEAD}MOTIF M1 one two\nletter-probability matrix: alength= 4 w= 2 nsites= 10 E= 0\n1 0 0 0\n0.5 0.5 0 0\n"


def test_meme_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.meme"
    path.write_text(GOOD + "URL x\n\nMOTIF\tM2\nletter-probability matrix: alength= 4 w= 1\n 0 0 1 0\n")
    one, two = cdi.read_motifs(path)
    assert (one.id, one.name, one.width, one.consensus) == ("M1", "one two", 2, "AA")
    np.testing.assert_allclose(one.counts, [[10, 5], [0, 5], [0, 0], [0, 0]])
    assert (two.id, two.name, two.label, two.consensus) == ("M2", "M2", "M2", "G")
    assert two.counts.sum() == 20


def test_meme_is_written_as_it_is_read(tmp_path: Path, vertebrates: list[Motif]) -> None:
    write_meme(tmp_path / "m.meme", vertebrates[:50], whole_sites=False)
    for before, after in zip(vertebrates, read_meme(tmp_path / "m.meme"), strict=False):
        assert (before.id, before.name) == (after.id, after.name)
        np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-4)


def test_the_files_of_others_are_read(shared: Path) -> None:
    from memelite.io import read_meme as read_by_memelite

    path = shared / "data/motifs/retina_8tf.meme"
    expected = read_by_memelite(str(path))
    result = cdi.read_motifs(path)
    assert len(result) == len(expected) == 8
    for motif, shares in zip(result, expected.values(), strict=True):
        np.testing.assert_allclose(motif.counts / motif.counts.sum(axis=0), shares, atol=2e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello\n", "holds no motif in MEME's format"),
        (HEAD, "holds no motif in MEME's format"),
        (GOOD.replace("0.5 0.5 0 0\n", ""), r"line 6: expected the probabilities of A, C, G and T"),
        (GOOD.replace("0.5 0.5 0 0", "0.5 0.5 0"), r"line 8: expected the probabilities.*'0.5 0.5 0'"),
        (GOOD.replace("0.5 0.5 0 0", "0.5 0.1 0 0"), r"line 8: .*which sum to 1"),
        (GOOD.replace("0.5 0.5 0 0", "1.5 -0.5 0 0"), r"line 8"),
        (GOOD.replace("0.5 0.5 0 0", "a b c d"), r"line 8"),
        (GOOD.replace("w= 2", ""), "line 6: the matrix must say its width"),
        (GOOD.replace("w= 2", "w= 0"), "line 6: the matrix must say its width"),
        (GOOD.replace("MOTIF M1 one two\n", ""), "line 5: a matrix before any MOTIF"),
        (GOOD.replace("MOTIF M1 one two", "MOTIF"), "line 5: MOTIF must be followed by a name"),
        (GOOD.replace("ALPHABET= ACGT", "ALPHABET= ACDEFGHIKLMNPQRSTVWY"), "line 3: the alphabet must be ACGT"),
        (GOOD.replace("MOTIF M1 one two", "MOTIF\twidth = 4"), "line 5: MOTIF must be followed by a name"),
        (GOOD.replace("MOTIF M1", "MOTIF M0\n\nMOTIF M1"), "line 5: MOTIF M0 has no letter-probability matrix"),
        (GOOD + "MOTIF M2\n", "line 9: MOTIF M2 has no letter-probability matrix"),
        (GOOD + "0 0 1 0\n", "line 9: more rows than the 2 of w= 2"),
        (GOOD + "\n0 0 1 0\n", "line 10: more rows than the 2 of w= 2"),
        (GOOD.replace("w= 2", "w= 2.5"), "line 6: the matrix must say its width"),
        (GOOD.replace("0.5 0.5 0 0", "nan 0.5 0.5 0"), "line 8"),
        (GOOD.replace("0.5 0.5 0 0", "inf 0 0 0"), "line 8"),
        *(
            (
                GOOD.replace("nsites= 10", f"nsites= {sites}"),
                f"line 6: nsites= must be a number of sites, but is '{said}'",
            )
            for sites, said in (
                ("", "E="),
                ("1.2.3", "1.2.3"),
                ("1,234", "1,234"),
                ("nan", "nan"),
                ("inf", "inf"),
                ("-5", "-5"),
                ("1e-05", "1e-05"),
                ("0.5", "0.5"),
                ("ten", "ten"),
                ("10E=", "10E="),
            )
        ),
    ],
)
def test_malformed_files_are_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.meme"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        cdi.read_motifs(path)
    assert "m.meme" in str(caught.value)


# What other programs write

TAAT = np.array([[0.02, 0.9, 0.88, 0.1], [0.04, 0.02, 0.04, 0.1], [0.04, 0.03, 0.04, 0.1], [0.9, 0.05, 0.04, 0.7]])


@pytest.mark.parametrize("sites", [0, 1])
def test_sites_that_are_not_said_count_as_twenty(sites: int, tmp_path: Path) -> None:
    """memelite and TF-MoDISco write "nsites= 1" for every motif, other tools 0."""
    path = tmp_path / "m.meme"
    memelite.io.write_meme(str(path), {"a one": TAAT, "b": TAAT[::-1, ::-1]})
    path.write_text(path.read_text().replace("nsites= 1", f"nsites= {sites}"))
    one, other = cdi.read_motifs(path)
    assert (one.id, one.name, other.id, other.name) == ("a", "one", "b", "b")
    for motif, shares in ((one, TAAT), (other, TAAT[::-1, ::-1])):
        np.testing.assert_allclose(motif.counts, 20 * shares)
        np.testing.assert_allclose(motif.probabilities, cdi.read_motifs({"a": shares})[0].probabilities)


def test_others_read_what_is_written(tmp_path: Path, vertebrates: list[Motif]) -> None:
    path = tmp_path / "m.meme"
    write_meme(path, vertebrates[:30])
    by_memelite = memelite.io.read_meme(str(path))
    with open(path) as file:
        by_biopython = {motif.name: motif for motif in Bio.motifs.parse(file, "minimal")}
    for motif in vertebrates[:30]:
        shares = motif.counts / motif.counts.sum(axis=0)
        np.testing.assert_allclose(by_memelite[f"{motif.id} {motif.name}"], shares, atol=1e-6)
        result = by_biopython[motif.id]
        assert result.num_occurrences == round(motif.counts.sum(axis=0).mean())
        np.testing.assert_allclose([result.counts[base] for base in "ACGT"], result.num_occurrences * shares, atol=1)


def test_names_with_spaces_are_written_as_one_word(tmp_path: Path) -> None:
    write_meme(tmp_path / "m.meme", cdi.read_motifs({"my motif": TAAT, "other": TAAT}))
    assert [(motif.id, motif.name) for motif in read_meme(tmp_path / "m.meme")] == [
        ("my_motif", "my motif"),
        ("other", "other"),
    ]


@pytest.mark.parametrize("form", ["jaspar", "pfm"])
def test_jaspar_files_of_biopython_are_read(form: str, tmp_path: Path, vertebrates: list[Motif]) -> None:
    whole = [Motif(motif.id, motif.name, motif.counts.round() + 1) for motif in vertebrates[:10]]
    theirs = []
    for motif in whole:
        counts = {base: row.tolist() for base, row in zip("ACGT", motif.counts, strict=True)}
        theirs.append(Bio.motifs.jaspar.Motif(motif.id, motif.name, alphabet="ACGT", counts=counts))
    path = tmp_path / f"m.{form}"
    text = Bio.motifs.write(theirs if form == "jaspar" else theirs[:1], form)
    path.write_text(text if form == "jaspar" else f">{whole[0].id} {whole[0].name}\n{text}")
    result = cdi.read_motifs(path)
    for motif, expected in zip(result, whole if form == "jaspar" else whole[:1], strict=True):
        assert (motif.id, motif.name) == (expected.id, expected.name)
        np.testing.assert_allclose(motif.counts, expected.counts, atol=0.01)
    (one,) = cdi.read_motifs({"theirs": theirs[0].counts})
    np.testing.assert_array_equal(one.counts, whole[0].counts)


@pytest.mark.parametrize(
    "text",
    [
        ">M1 one two\nA [ 1 2 ]\nC [ 0 0 ]\nG [3 0]\nT [ 0 4 ]\n>M2\nT  0 1\nA  7 1\nG  0 1\nC  0 1\n",
        ">M1\tone  two\n1 2\n0 0\n3 0\n0 4\n\n>M2\n7 1\n0 1\n0 1\n0 1",
        "\n>M1 one two\na [1 2]\nc [0 0]\ng [3 0]\nt [0 4]\n>M2\nA | 7 1\nC | 0 1\nG | 0 1\nT | 0 1\n",
    ],
)
@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t])
def test_jaspar_files_are_read(text: str, change: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "m.jaspar"
    path.write_bytes(change(text).encode())
    one, two = cdi.read_motifs(path)
    assert (one.id, one.name, two.id, two.name) == ("M1", "one two", "M2", "M2")
    np.testing.assert_array_equal(one.counts, [[1, 2], [0, 0], [3, 0], [0, 4]])
    np.testing.assert_array_equal(two.counts, [[7, 1], [0, 1], [0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">s\nACGTACGT\n", r"line 2: expected the counts of A, but got 'ACGTACGT'"),
        (">M\nA [1 2]\nC [0 0]\n", "line 4: M must have four rows"),
        (">M\nA [1 2]\nC [0]\nG [1 1]\nT [1 1]\n", "line 6: M must have four rows of as many counts"),
        (">M\nA [1 2]\nA [0 0]\nG [1 1]\nT [1 1]\n", r"line 3: expected the counts of A, but got 'A \[0 0\]'"),
        (">M\nA [1 -2]\nC [0 0]\nG [1 1]\nT [1 1]\n", "line 2: expected the counts of A"),
        (">M\nA [1 nan]\nC [0 0]\nG [1 1]\nT [1 1]\n", "line 2: expected the counts of A"),
        (">M\nA [0 2]\nC [0 0]\nG [0 1]\nT [0 1]\n", "line 5: .*some of them in each column"),
        (">M\n", "must have four rows"),
        (">\n", "holds no motif in JASPAR's format"),
    ],
)
def test_malformed_jaspar_files_are_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jaspar"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        cdi.read_motifs(path)
    assert "m.jaspar" in str(caught.value)


FULL = """********************************************************************************
MEME - Motif discovery tool
********************************************************************************
ALPHABET= ACGT
Background letter frequencies (from file dataset with add-one prior applied):
A 0.307 C 0.193 G 0.193 T 0.307
********************************************************************************
MOTIF {head}
********************************************************************************
	Motif TAAT MEME-1 Description
Simplified        A  1
pos.-specific     C  :
	Motif TAAT MEME-1 position-specific scoring matrix
--------------------------------------------------------------------------------
log-odds matrix: alength= 4 w= 2 n= 900 bayes= 7.5 E= 6.9e-002
   131   -997   -997   -997
  -997   -997   -997    131
--------------------------------------------------------------------------------
	Motif TAAT MEME-1 position-specific probability matrix
--------------------------------------------------------------------------------
letter-probability matrix: alength= 4 w= 2 nsites= 10 E= 6.9e-002
 1.000000  0.000000  0.000000  0.000000
 0.000000  0.000000  0.000000  1.000000
--------------------------------------------------------------------------------
	Motif TAAT MEME-1 regular expression
MOTIFS are not what follows
"""


@pytest.mark.parametrize(
    ("head", "identifier", "name"),
    [
        ("TAAT MEME-1\twidth =   4  sites =  10  llr = 43  p-value = 1.1e-003  E-value = 6.9e-002", "TAAT", "MEME-1"),
        (" 1 MEME\twidth =   4   sites =  10   llr = 43   E-value = 6.9e-002", "1", "MEME-1"),
        (" 2\twidth =   4   sites =  10", "2", "2"),
        ("1-TAAT STREME-1", "1-TAAT", "STREME-1"),
        ("TAAT DREME-1", "TAAT", "DREME-1"),
    ],
)
def test_the_text_output_of_meme_is_read(head: str, identifier: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "meme.txt"
    path.write_text(FULL.format(head=head))
    (motif,) = cdi.read_motifs(path)
    assert (motif.id, motif.name, motif.consensus) == (identifier, name, "AT")
    assert motif.counts.sum() == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("ALPHABET= ACGT", "ALPHABET=acgt"),
        lambda text: text.replace("ALPHABET= ACGT\n", "ALPHABET = ACGT\n\nstrands: + -\n\n"),
        lambda text: text.replace("MOTIF", "Background letter frequencies\nA 0.3 C 0.2 G 0.2 T 0.3\n\nMOTIF", 1),
        lambda text: text.replace("nsites= 10", "nsites= 1e1"),
        lambda text: text.replace("MOTIF M1 one two", "MOTIF\tM1  one\ttwo  "),
        lambda text: text.rstrip("\n"),
    ],
)
def test_other_ways_of_writing_meme_say_the_same(change: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "m.meme"
    path.write_bytes(change(GOOD).encode())
    (motif,) = cdi.read_motifs(path)
    assert (motif.id, motif.name) == ("M1", "one two")
    np.testing.assert_allclose(motif.counts, [[10, 5], [0, 5], [0, 0], [0, 0]])


# Matrices


def test_matrices_may_be_labelled() -> None:
    expected = cdi.read_motifs({"TAAT": TAAT})[0].counts
    np.testing.assert_allclose(expected, 20 * TAAT)
    labelled = pd.DataFrame(TAAT[[3, 1, 0, 2]], index=list("TCAG"))
    for matrix in (labelled, pd.DataFrame(TAAT), {base: TAAT["ACGT".index(base)] for base in "TGCA"}, TAAT.tolist()):
        np.testing.assert_allclose(cdi.read_motifs({"TAAT": matrix})[0].counts, expected)


def test_rounded_probabilities_stay_probabilities() -> None:
    rough = TAAT.copy()
    rough[0, 1] -= 0.03
    (motif,) = cdi.read_motifs({"TAAT": rough})
    assert motif.counts.sum(axis=0) == pytest.approx([20] * 4)
    np.testing.assert_allclose(motif.counts[:, 1], 20 * rough[:, 1] / 0.97)


def test_counts_stay_counts() -> None:
    for counts in (np.array([[9, 0, 3], [0, 1, 3], [1, 2, 3], [0, 7, 3]]), np.ones((4, 5)), TAAT * 3.7):
        np.testing.assert_array_equal(cdi.read_motifs({"M": counts})[0].counts, counts)
    one_sequence = np.eye(4)[[3, 0, 0, 3]].T  # which says no more than probabilities do
    np.testing.assert_array_equal(cdi.read_motifs({"M": one_sequence})[0].counts, 20 * one_sequence)


@pytest.mark.parametrize(
    ("motifs", "error", "message"),
    [
        ("jaspar-vertebrate", ValueError, "Did you mean 'jaspar-vertebrates'?"),
        ("nothing", ValueError, r"`motifs` must be one of \['jaspar-vertebrates'"),
        ("no/such.meme", FileNotFoundError, "`motifs`: there is no file no/such.meme"),
        ([], ValueError, "`motifs` holds no motif"),
        ({}, ValueError, "`motifs` holds no motif"),
        ([3], TypeError, r"`motifs\[0\]` must be a Motif, but got int"),
        ({"A": np.ones((3, 4))}, ValueError, r"motif A must be of shape \(4, width\)"),
        ({"A": np.ones(4)}, ValueError, r"motif A must be of shape \(4, width\)"),
        ({"A": -np.ones((4, 2))}, ValueError, "motif A must be numbers of at least 0"),
        ({"A": np.zeros((4, 2))}, ValueError, "motif A must be numbers of at least 0"),
        ({"A": np.full((4, 2), np.nan)}, ValueError, "motif A must be numbers of at least 0"),
        ({"A": [[1, 2], [3]]}, ValueError, r"`motifs`: A must be a matrix \(4, width\) of numbers"),
        ({"A": "ACGT"}, ValueError, r"`motifs`: A must be a matrix \(4, width\) of numbers, but got 'ACGT'"),
        ({"A": TAAT.T}, ValueError, "columns of A must be counts, or.*they sum to .*and its rows to 1: transpose it"),
        ({"A": (100 * TAAT.T).round()}, ValueError, "it is its rows that have equal sums: transpose it"),
        ({"A": pd.DataFrame(TAAT.T, columns=list("ACGT"))}, ValueError, "but these are its columns: transpose it"),
        ({"A": pd.DataFrame(np.eye(4), columns=list("ACGT"))}, ValueError, "but these are its columns: transpose it"),
        (
            {"A": TAAT * 0.9},
            ValueError,
            "columns of A must be counts, or probabilities that sum to 1, but they sum to 0.9",
        ),
    ],
)
def test_bad_motifs(motifs: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cdi.read_motifs(motifs)


def test_jaspar_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "cache"))
    expected = from_database("insects")
    result = jaspar("insects")
    assert [motif.id for motif in result] == [motif.id for motif in expected]
    (kept,) = (tmp_path / "cache").iterdir()

    def not_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(collection, "from_database", not_again)
    again = cdi.read_motifs("jaspar-insects")
    for one, other in zip(result, again, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.counts, other.counts)
    monkeypatch.undo()
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "cache"))
    kept.write_text("broken")
    assert len(jaspar("insects")) == len(expected)
    assert read_meme(kept)


def test_without_a_place_to_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "file"))
    assert len(jaspar("insects")) > 200


def test_motifs_are_found_by_name(vertebrates: list[Motif]) -> None:
    assert find_motif("crx", vertebrates).name.lower() == "crx"
    assert find_motif("MA0139.2", vertebrates).name == "CTCF"
    with pytest.raises(ValueError, match=r"No motif is called 'CTCG'\. Near matches: CTCF"):
        find_motif("CTCG", vertebrates)


def test_log_odds_are_of_counts_with_a_pseudocount() -> None:
    odds = Motif("M", "m", np.array([[9.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 9.0]])).log_odds
    np.testing.assert_allclose(odds[:, 0], np.log2(4 * np.array([9.25, 0.25, 0.25, 0.25]) / 10))
    np.testing.assert_allclose(odds[:, 1], odds[::-1, 0])


@pytest.mark.skipif(os.name != "posix", reason="folders have other rights here")
def test_the_cache_folder_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(collection, "from_database", lambda tax_group: read_meme_text(tmp_path))
    before = os.umask(0o002)
    try:
        jaspar("vertebrates")
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def read_meme_text(folder: Path) -> list[Motif]:
    (folder / "m.meme").write_text(GOOD)
    return read_meme(folder / "m.meme")

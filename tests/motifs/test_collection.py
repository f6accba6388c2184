"""Where motifs come from, and what a file must look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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
    write_meme(tmp_path / "m.meme", vertebrates[:50])
    for before, after in zip(vertebrates, read_meme(tmp_path / "m.meme"), strict=False):
        assert (before.id, before.name) == (after.id, after.name)
        np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-4)


def test_the_files_of_others_are_read(shared: Path) -> None:
    from memelite.io import read_meme as read_by_memelite

    path = shared / "data/motifs/retina_8tf.meme"
    expected = read_by_memelite(str(path))
    found = cdi.read_motifs(path)
    assert len(found) == len(expected) == 8
    for motif, shares in zip(found, expected.values(), strict=True):
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
    ],
)
def test_malformed_files_are_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.meme"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        cdi.read_motifs(path)
    assert "m.meme" in str(caught.value)


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
    ],
)
def test_bad_motifs(motifs: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cdi.read_motifs(motifs)


def test_jaspar_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSDNA_INTERPRET_CACHE", str(tmp_path / "cache"))
    expected = from_database("insects")
    found = jaspar("insects")
    assert [motif.id for motif in found] == [motif.id for motif in expected]
    (kept,) = (tmp_path / "cache").iterdir()

    def not_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(collection, "from_database", not_again)
    again = cdi.read_motifs("jaspar-insects")
    for one, other in zip(found, again, strict=True):
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

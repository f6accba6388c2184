"""Motif features, position by position and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.motifs.collection import Motif, from_database
from crossdna_interpret.training.recipes.motif_scan import FEATURES, MotifScan, composition


def ids(*seqs: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([alphabet.encode(seq).astype(np.uint8) for seq in seqs]))


@pytest.fixture
def motifs() -> list[Motif]:
    random = np.random.default_rng(0)
    return [Motif(f"M{i}", f"m{i}", random.gamma(0.3, 20, (4, width))) for i, width in enumerate((6, 9, 4))]


def test_log_odds_are_of_counts_with_a_pseudocount() -> None:
    odds = Motif("M", "m", np.array([[9.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 9.0]])).log_odds * np.log(2)
    assert odds[0, 0] == pytest.approx(np.log(9.25 / 10 * 4))
    assert odds[1, 1] == pytest.approx(np.log(0.25 / 10 * 4))


def slow(motif: Motif, seq: str) -> np.ndarray:
    """Log-odds at each place, on the better strand."""
    odds, width = motif.log_odds * np.log(2), motif.counts.shape[1]
    score = lambda window: sum(odds["ACGT".index(base), i] for i, base in enumerate(window) if base != "N")  # noqa: E731
    windows = [seq[at : at + width] for at in range(len(seq) - width + 1)]
    return np.array([max(score(window), score(strand.reverse_complement(window))) for window in windows]).round(3)


def test_features_are_those_found_one_position_after_the_other(motifs: list[Motif], make_sequence) -> None:  # type: ignore[no-untyped-def]
    seqs = [make_sequence(40, seed, n_at=(3, 17)) for seed in range(3)]
    features = MotifScan(motifs).features(ids(*seqs)).numpy()
    for row, seq in enumerate(seqs):
        for column, motif in enumerate(motifs):
            scores = slow(motif, seq)
            highest = (motif.log_odds * np.log(2)).max(0).sum()
            at = np.arange(len(scores))
            share = np.exp(scores) / np.exp(scores).sum()
            expected = {
                "best": scores.max(),
                "second": np.sort(scores)[-2],
                "total_soft": np.log(np.exp(scores / 2).sum()),
                "total": np.log(np.exp(scores).sum()),
                "total_sharp": np.log(np.exp(scores * 1.5).sum()),
                "above_60": (scores > 0.6 * highest).sum(),
                "above_75": (scores > 0.75 * highest).sum(),
                "position": scores.argmax(),
                "from_centre": (share * np.abs(at - (len(scores) - 1) / 2)).sum(),
            }
            if np.isclose(np.sort(scores)[-2], scores.max()):
                continue  # two alike: see below
            result = dict(zip(FEATURES, features[row, column], strict=True))
            for name, value in expected.items():
                assert result[name] == pytest.approx(value, abs=2e-3), name


def test_the_reverse_complement_has_the_same_features_but_for_the_position(motifs: list[Motif], make_sequence) -> None:  # type: ignore[no-untyped-def]
    scan = MotifScan(motifs)
    seqs = ["ACGTTGCA" * 5, *(make_sequence(40, seed) for seed in range(5))]  # the first has many matches alike
    forward = scan.features(ids(*seqs))
    reverse = scan.features(ids(*(strand.reverse_complement(seq) for seq in seqs)))
    torch.testing.assert_close(scan.of_reverse(forward, 40), reverse, rtol=0, atol=1.1e-3)


def test_a_motif_longer_than_the_sequence_matches_nowhere(motifs: list[Motif]) -> None:
    features = MotifScan(motifs).features(ids("ACGTAC"))
    assert features[0, 1, 0] < -50
    assert features.isfinite().all()


def test_totals_are_two_of_the_features(motifs: list[Motif], make_sequence) -> None:  # type: ignore[no-untyped-def]
    scan = MotifScan(motifs)
    x = ids(make_sequence(30, 1))
    chosen = [FEATURES.index(name) for name in ("best", "total")]
    assert torch.equal(scan.totals(x), scan.features(x)[..., chosen])


def test_composition_counts_bases_and_pairs() -> None:
    shares = composition(ids("AACGN"))[0]
    assert shares[:4].tolist() == pytest.approx([0.4, 0.2, 0.2, 0.0])
    pairs = {"AA": 0.25, "AC": 0.25, "CG": 0.25}
    for i, first in enumerate("ACGT"):
        for j, second in enumerate("ACGT"):
            assert shares[4 + 4 * i + j] == pytest.approx(pairs.get(first + second, 0.0))


@pytest.mark.slow
def test_jaspar_has_the_motifs_of_vertebrates() -> None:
    motifs = from_database("vertebrates")
    assert len(motifs) > 800
    assert [motif.id for motif in motifs] == sorted({motif.id for motif in motifs})
    crx = next(motif for motif in motifs if motif.name.upper() == "CRX")
    consensus = "".join("ACGT"[at] for at in crx.counts.argmax(0))
    assert "GGATTA" in (consensus, strand.reverse_complement(consensus)) or "TAATCC" in consensus

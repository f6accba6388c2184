"""The baseline models for comparison with CrossDNA."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.training.recipes.retina.baselines import KmerRidge, ResidualCNN, kmer_counts
from crossdna_interpret.training.tables import Table


def encode(*seqs: str) -> list[np.ndarray]:
    return [alphabet.encode(seq).astype(np.uint8) for seq in seqs]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_kmers_are_counted_on_both_strands_together(k: int, make_sequence) -> None:  # type: ignore[no-untyped-def]
    seq = make_sequence(60, 3, n_at=(7, 31))
    names = []
    for letters in itertools.product("ACGT", repeat=k):
        kmer = "".join(letters)
        if kmer <= strand.reverse_complement(kmer):
            names.append(kmer)
    windows = [seq[i : i + k] for i in range(len(seq) - k + 1)]
    expected = [sum(w in (name, strand.reverse_complement(name)) for w in windows) / len(windows) for name in names]
    counts = kmer_counts(encode(seq, strand.reverse_complement(seq)), k)
    np.testing.assert_allclose(counts[0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(counts[1], counts[0], rtol=1e-5, atol=1e-7)


def test_a_sequence_shorter_than_a_kmer_has_none() -> None:
    assert not kmer_counts(encode("ACG"), 5).any()


def test_ridge_finds_a_motif_and_leaves_the_covariate_out() -> None:
    random = np.random.default_rng(0)
    ids = [random.integers(0, 4, 80).astype(np.uint8) for _ in range(400)]
    signal = kmer_counts(ids, 3)[:, 5]
    level = random.integers(0, 2, 400)
    activity = (signal / signal.std() + 10 * level).astype(np.float32)
    table = Table(ids, activity[:, None], np.ones(400, np.float32), level, ("y",), ("a", "b"))
    fitted = KmerRidge.fit(table.rows(range(300)), k=3, penalty=1.0)
    predicted = fitted.predict(ids[300:])
    assert np.corrcoef(predicted, signal[300:])[0, 1] > 0.95
    assert abs(np.corrcoef(predicted, level[300:])[0, 1]) < 0.3
    assert predicted.mean() == pytest.approx(activity[:300].mean(), abs=0.5)


def test_the_network_has_about_half_a_million_parameters_and_takes_any_length() -> None:
    network = ResidualCNN(targets=2).eval()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(500_000, rel=0.1)
    for length in (10, 164, 300):
        assert network(torch.zeros(3, 5, length)).shape == (3, 2)

"""Many sequences: patterns of TF-MoDISco, and motif enrichment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from modiscolite.cli import cli
from scipy.stats import fisher_exact

import crossdna_interpret as cdi
from crossdna_interpret import Motif
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.collection import find_motif
from tests.motifs.logic import Affinity, oriented, planted

# A hundred and fifty sequences are few for it.
FEW = {"min_metacluster_size": 20, "target_seqlet_fdr": 0.5, "max_passing_windows_frac": 0.5}


@pytest.fixture(scope="module")
def results(vertebrates: list[Motif]) -> list[cdi.Mutagenesis]:
    """Mutagenesis of sequences with one motif, on either strand, by a model that looks for it."""
    rng = np.random.default_rng(0)
    motif = find_motif("CTCF", vertebrates)
    model = Affinity([motif], lambda strength: strength[:, 0])
    result = []
    for _ in range(150):
        sequence = "".join(rng.choice(list("ACGT"), 100))
        strand = "+-"[rng.integers(2)]
        sampled = "".join(rng.choice(list("ACGT"), p=column / column.sum()) for column in motif.counts.T)
        string = sampled if strand == "+" else cdi.reverse_complement(sampled)
        result.append(cdi.ism(planted(sequence, (int(rng.integers(20, 65)), string)), model))
    return result


@pytest.mark.slow
def test_what_is_exported_is_what_modisco_reads(results: list[cdi.Mutagenesis], tmp_path: Path) -> None:
    sequences, attributions = cdi.export_modisco(results, tmp_path / "new" / "folder")
    one_hot, hypothetical = (np.load(path)["arr_0"] for path in (sequences, attributions))
    assert one_hot.shape == hypothetical.shape == (150, 4, 100)
    for row in (0, 7):
        np.testing.assert_array_equal(one_hot[row].argmax(axis=0), alphabet.encode(results[row].sequence))
        predictions = results[row].predictions[..., 0]
        expected = predictions - predictions.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(hypothetical[row].T, expected, rtol=0, atol=1e-5)
    run_cli(sequences, attributions, 100)


def run_cli(sequences: Path, attributions: Path, width: int) -> None:
    out = sequences.parent / "modisco.h5"
    with pytest.raises(SystemExit) as ended:
        cli(["motifs", "-s", str(sequences), "-a", str(attributions), "-n", "200", "-w", str(width), "-o", str(out)])
    assert not ended.value.code
    assert out.stat().st_size > 0


@pytest.mark.slow
def test_the_command_of_the_documentation_runs_for_odd_lengths(results: list[cdi.Mutagenesis], tmp_path: Path) -> None:
    assert "L - 1 if L is odd" in str(cdi.export_modisco.__doc__)
    odd = [
        dataclasses.replace(each, sequence=each.sequence[:-1], predictions=each.predictions[:-1]) for each in results
    ]
    run_cli(*cdi.export_modisco(odd, tmp_path), 98)


@pytest.mark.slow
def test_modisco_finds_the_motif_and_its_name(results: list[cdi.Mutagenesis], vertebrates: list[Motif]) -> None:
    result = cdi.run_modisco(results, max_seqlets=200, **FEW)
    first = result.table.iloc[0]
    assert first["sign"] == 1
    assert first["seqlets"] > 60
    sites = cdi.scan(first["consensus"], [find_motif("CTCF", vertebrates)])
    assert len(sites) == 1
    assert result.contributions[0].shape == result.motifs[0].counts.shape


def test_attributions_are_exported_too(model: CrossDNA, make_sequence: Callable, tmp_path: Path) -> None:
    sequence = make_sequence(24)
    result = cdi.integrated_gradients(sequence, model, baseline="zeros", tolerance=1e6)
    _, path = cdi.export_modisco([result], tmp_path)
    np.testing.assert_array_equal(np.load(path)["arr_0"][0].T, result.values)


def test_enrichment_is_fishers(vertebrates: list[Motif], make_sequence: Callable) -> None:
    motif = find_motif("CTCF", vertebrates)
    seqs = [planted(make_sequence(60, seed=at), (20, oriented(motif, "+-"[at % 2]))) for at in range(20)]
    background = [make_sequence(60, seed=100 + at) for at in range(18)] + seqs[:2]
    few = [motif, *(each for each in vertebrates[:30] if each is not motif)]
    result = cdi.motif_enrichment(seqs, background, few)
    first = result.iloc[0]
    assert (first["name"], first["count"], first["background_count"]) == ("CTCF", 20, 2)
    expected = fisher_exact([[20, 0], [2, 18]])
    assert first["p_value"] == pytest.approx(expected.pvalue)
    assert first["q_value"] == pytest.approx(expected.pvalue * len(few))
    against_shuffles = cdi.motif_enrichment(seqs, motifs=few)
    assert against_shuffles.iloc[0]["name"] == "CTCF"
    assert against_shuffles.iloc[0]["background_count"] <= 3


def test_bad_input(results: list[cdi.Mutagenesis], model: CrossDNA, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`result` is an empty list"):
        cdi.export_modisco([], tmp_path)
    with pytest.raises(ValueError, match="of one length, but are of 12 to 100"):
        cdi.export_modisco([cdi.ism(seq, model) for seq in ("ACGT" * 25, "ACGTACGTACGT")], tmp_path)
    with pytest.raises(ValueError, match=r"`results\[0\]` must be of the whole sequence, but is of 3 to 9"):
        cdi.export_modisco([cdi.ism("ACGTACGTACGT", model, start=3, end=9)], tmp_path)
    with pytest.raises(ValueError, match="`max_seqlets` must be an integer of at least 1"):
        cdi.run_modisco(results, max_seqlets=0)

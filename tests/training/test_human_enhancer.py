"""The recipe of `human-enhancer`: its teacher, its windows, and a run on a few of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.measured.satmut import read_elements
from crossdna_interpret.training.recipes.human import enhancer
from crossdna_interpret.training.recipes.human.teacher import Dragonn, teach
from crossdna_interpret.training.recipes.human.windows import genome_windows, known_sequences
from crossdna_interpret.training.recipes.kmers import held_out_kmers, kmer_codes, without_kmers


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "data" / "human_mpra" / "mpra_dragonn.safetensors"


def by_hand(stored: dict[str, np.ndarray], sequence: str) -> np.ndarray:
    """The 12 outputs of the published network, as the README of its weights describes it."""
    h = np.array([[base == letter for letter in "ACGT"] for base in sequence], dtype=np.float64)
    for number in (1, 2, 3):
        kernel, bias = stored[f"conv1d_{number}.kernel"], stored[f"conv1d_{number}.bias"]
        windows = np.stack([h[at : at + 5] for at in range(len(h) - 4)])
        h = np.maximum(np.tensordot(windows, kernel, axes=2) + bias, 0)
        norm = {
            name: stored[f"batch_normalization_{number}.{name}"]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        }
        h = (h - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
    return h.reshape(-1) @ stored["dense_1.kernel"] + stored["dense_1.bias"]


def test_the_teacher_computes_what_the_published_network_does(weights: Path) -> None:
    stored = {name: value.astype(np.float64) for name, value in load_file(weights).items()}
    network = Dragonn(weights)
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGT"), 145)) for _ in range(5)]
    ids = np.stack([alphabet.encode(each) for each in sequences]).astype(np.uint8)
    expected = []
    for sequence in sequences:
        both = by_hand(stored, sequence) + by_hand(stored, cdi.reverse_complement(sequence))
        expected.append([(both[2] + both[5]) / 4, (both[8] + both[11]) / 4])
    np.testing.assert_allclose(teach(network, ids), expected, atol=1e-5)


def test_a_missing_teacher(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`path` must be the weights of MPRA-DragoNN"):
        Dragonn(tmp_path / "none.safetensors")


def test_windows_cover_a_sequence_and_have_no_n() -> None:
    windows = genome_windows(["ACGTACGTAC", "ACG", "AAAANAAAAA"], 4, 3)
    assert ["".join(alphabet.decode(each)) for each in windows] == ["ACGT", "TACG", "GTAC", "AAAA", "AAAA"]


def test_windows_that_share_a_word_with_what_is_held_out_are_left_out() -> None:
    random = np.random.default_rng(0)
    held_out = ["".join(random.choice(list("ACGT"), 90)), "ACGTN" + "".join(random.choice(list("ACGT"), 40))]
    windows = random.integers(4, size=(300, 60)).astype(np.uint8)
    for row in range(0, 300, 3):  # 18 to 22 bases of a held-out sequence, on either strand
        source = held_out[row % 2].replace("N", "")
        start, length = int(random.integers(0, 20)), int(random.integers(18, 23))
        piece = source[start : start + length]
        piece = cdi.reverse_complement(piece) if random.random() < 0.5 else piece
        windows[row, 30 : 30 + length] = alphabet.encode(piece)
    texts = [alphabet.decode(each) for each in windows]
    both = [strand for each in held_out for strand in (each, cdi.reverse_complement(each))]
    forbidden = {each[at : at + 20] for each in both for at in range(len(each) - 19) if "N" not in each[at : at + 20]}
    expected = [each for each in texts if not any(each[at : at + 20] in forbidden for at in range(len(each) - 19))]
    kmers = held_out_kmers(held_out)
    assert len(kmers) == len(forbidden)
    assert [alphabet.decode(each) for each in without_kmers(windows, kmers)] == expected
    assert 200 < len(expected) < 300


@pytest.mark.slow
def test_no_training_window_shares_a_word_with_what_is_held_out(shared: Path) -> None:
    data = shared / "data"
    kircher = data / "kircher_satmut" / "elements_reference_GRCh38.fa"
    measured = pd.read_csv(data / "human_mpra" / "k562_valid.tsv.gz", sep="\t")["sequence"].tolist()
    chromosome = data / "hg38_chr22_slice" / "hg38_chr22_32000000_32300000.fa.gz"
    train, valid = enhancer.human_windows(data / "genomic_benchmarks", chromosome, kircher, measured)
    assert len(train) > 60_000
    elements = [sequence for _, sequence in read_elements(kircher).values()]
    both = [*kmer_codes(valid).reshape(-1), *held_out_kmers([*measured, *elements])]
    assert not np.isin(kmer_codes(train), np.unique(both)).any()


def test_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must hold tables"):
        known_sequences(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data
def test_the_recipe_ends_with_a_model_of_both_strands(shared: Path, tmp_path: Path) -> None:
    words = ["--data", str(shared / "data"), "--run", str(tmp_path), "--rows", "100", "--families", "30"]
    with pytest.raises(SystemExit) as ended:
        enhancer.main([*words, "--threads", "1"])
    assert ended.value.code == 0
    model = cdi.load_model(tmp_path / "model")
    assert model.targets == ("K562", "HepG2")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "from 100 windows of" in card
    assert "{" not in card
    sequence = "ACGTTGCATTGAC" * 11
    np.testing.assert_allclose(
        cdi.predict(sequence, model), cdi.predict(cdi.reverse_complement(sequence), model), atol=1e-5
    )

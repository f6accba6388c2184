"""The recipe of `human-enhancer`: its teacher, its windows, and a run on a few of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.measured.satmut import read_elements
from crossdna_interpret.training.recipes.human import enhancer
from crossdna_interpret.training.recipes.human.distillation import PositionDistillation
from crossdna_interpret.training.recipes.human.teacher import LENGTH, Contributions, Dragonn, teach
from crossdna_interpret.training.recipes.human.windows import genome_windows, known_sequences
from crossdna_interpret.training.recipes.kmers import held_out_kmers, kmer_codes, without_kmers


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "data" / "human_mpra" / "mpra_dragonn.safetensors"


def features_by_hand(stored: dict[str, np.ndarray], sequence: str) -> np.ndarray:
    """Features (133, 120) of the published network before its last layer, as the README of its weights has it."""
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
    return h


def by_hand(stored: dict[str, np.ndarray], sequence: str) -> np.ndarray:
    """The 12 outputs of the published network."""
    return features_by_hand(stored, sequence).reshape(-1) @ stored["dense_1.kernel"] + stored["dense_1.bias"]


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


def test_contributions_are_the_published_network_with_the_mean_weight_of_all_places(weights: Path) -> None:
    stored = {name: value.astype(np.float64) for name, value in load_file(weights).items()}
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGT"), 145)) for _ in range(3)]
    ids = np.stack([alphabet.encode(each) for each in sequences]).astype(np.uint8)
    teacher = Contributions(Dragonn(weights), random.integers(4, size=(20, 145)).astype(np.uint8))
    mean_weight = stored["dense_1.kernel"].reshape(133, 120, 12).mean(0)
    for row, sequence in enumerate(sequences):
        forward = features_by_hand(stored, sequence) @ mean_weight
        reverse = (features_by_hand(stored, cdi.reverse_complement(sequence)) @ mean_weight)[::-1]
        terms = (forward + reverse) / 2 * 133 + stored["dense_1.bias"]
        pooled = np.stack([terms[:, [2, 5]].mean(1), terms[:, [8, 11]].mean(1)], axis=1)
        np.testing.assert_allclose(teacher.activity(ids)[row], pooled.mean(0), atol=1e-5)
        own = teacher(torch.from_numpy(ids))[row].numpy()
        np.testing.assert_allclose(own.mean(0), pooled.mean(0), atol=1e-5)
        inner = own[6:-6] - teacher.centre.numpy()
        np.testing.assert_allclose(inner, (pooled - teacher.centre.numpy()) * 145 / 133, atol=1e-4)


def test_contributions_of_a_long_sequence_are_a_mean_over_its_windows(weights: Path) -> None:
    """Far from the ends, each 13 bases count equally in the sequence and in the mean of its windows."""
    random = np.random.default_rng(0)
    teacher = Contributions(Dragonn(weights), random.integers(4, size=(20, 145)).astype(np.uint8))
    long = np.tile(random.integers(4, size=100).astype(np.uint8), 4)[None]  # periodic, so there are no ends
    windows = np.concatenate([long[:, at : at + LENGTH] for at in range(100)])
    np.testing.assert_allclose(teacher.activity(long[:, :312])[0], teacher.activity(windows).mean(0), atol=1e-4)


def test_a_change_moves_only_the_terms_that_see_it(weights: Path) -> None:
    random = np.random.default_rng(0)
    ids = random.integers(4, size=(1, 145)).astype(np.uint8)
    teacher = Contributions(Dragonn(weights), ids)
    other = ids.copy()
    other[0, 70] = (other[0, 70] + 1) % 4
    moved = (teacher(torch.from_numpy(ids)) != teacher(torch.from_numpy(other)))[0].any(1).numpy()
    assert moved[70 - 6 : 70 + 7].all()
    assert not moved[: 70 - 6].any()
    assert not moved[70 + 7 :].any()


def test_the_stem_begins_as_the_first_layer_of_the_teacher(weights: Path) -> None:
    network = Dragonn(weights)
    windows = np.random.default_rng(0).integers(4, size=(40, 200)).astype(np.uint8)
    model = enhancer.begun(network, windows, torch.zeros(2), seed=0)
    filters, bias = network.first_filters(model.config.d_model)
    for conv in (model.stem.conv_forward, model.stem.conv_reverse):
        x = torch.nn.functional.one_hot(torch.from_numpy(windows[:3]).long(), 5).transpose(1, 2).float()
        own = torch.nn.functional.conv1d(x[:, :4], filters, bias)
        scale = conv.bias / bias
        torch.testing.assert_close(conv(x)[:, :, 2:-2], own * scale[None, :, None], atol=1e-5, rtol=1e-4)


def test_distillation_learns_from_each_position(weights: Path) -> None:
    """The loss falls to zero for a model that computes the teacher's terms, whatever the crop."""
    random = np.random.default_rng(0)
    windows = random.integers(4, size=(8, 200)).astype(np.uint8)
    network = Dragonn(weights)
    model = enhancer.begun(network, windows, torch.zeros(2), seed=0)
    settings = {"offsets": torch.zeros(1, 2), "learning_rate": 1e-3, "weight_decay": 0.0, "symmetric": True}
    module = PositionDistillation(model, teacher=lambda ids: own(ids), lengths=(145, 200), **settings)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]

    def own(ids: torch.Tensor) -> torch.Tensor:
        x = module.encode(ids)
        features = model.represent(x, reverse_complement(x))
        return module.readout(features.flatten(0, 1)).unflatten(0, features.shape[:2]).detach()

    module.eval()
    rows = enhancer.labelled(windows, lambda ids: np.zeros((len(ids), 2), np.float32)).batch(np.arange(8))
    assert float(module.training_step(rows, 0).detach()) < 1e-6
    module.teacher = Contributions(network, windows)
    assert float(module.training_step(rows, 0).detach()) > 0.5


@pytest.mark.parametrize(
    ("lengths", "message"),
    [((200, 145), "`lengths` must be two lengths in order"), ((145, 201), "`train` must have at least 201 bases")],
)
def test_bad_lengths(lengths: tuple[int, int], message: str, weights: Path) -> None:
    random = np.random.default_rng(0)
    windows = random.integers(4, size=(8, 200)).astype(np.uint8)
    model = enhancer.begun(Dragonn(weights), windows, torch.zeros(2), seed=0)
    settings = {"offsets": torch.zeros(1, 2), "learning_rate": 1e-3, "weight_decay": 0.0}
    with pytest.raises(ValueError, match=message):
        PositionDistillation(model, teacher=lambda ids: ids, lengths=lengths, **settings).check(
            enhancer.labelled(windows, lambda ids: random.random((len(ids), 2), dtype=np.float32)),
            None, batch=4, monitor=None,
        )  # fmt: skip


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
    assert len(train) > 55_000
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

"""The training script, from a table to a model that loads; on a table small enough to train on in seconds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.regression import Regression, pearson
from crossdna_interpret.training.retina_enhancer import export, library_means, main
from crossdna_interpret.training.retina_mpra import read_split


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 164)) for _ in range(rows)]
    return pd.DataFrame(
        {
            "id": [f"row{i}" for i in range(rows)],
            "sequence": sequences,
            "log2_activity": [0.05 * sequence.count("G") for sequence in sequences],
            "n_barcodes": random.integers(1, 4, rows),
            "library": 1 + np.arange(rows) % 7,
            "chrom": "chr1",
        }
    )


def write(folder: Path, split: str, frame: pd.DataFrame) -> None:
    with gzip.open(folder / f"{split}.tsv.gz", "wt") as file:
        frame.to_csv(file, sep="\t", index=False)


def test_a_split_is_read_in_order(tmp_path: Path) -> None:
    frame = table(9)
    write(tmp_path, "train", frame)
    split = read_split(tmp_path, "train")
    assert len(split) == 9
    assert split.ids.shape == (9, 164)
    np.testing.assert_allclose(split.activity, frame["log2_activity"], rtol=1e-6)
    np.testing.assert_allclose(split.weight, frame["n_barcodes"] / (frame["n_barcodes"] + 2), rtol=1e-6)
    assert split.library.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert [split[3][i].tolist() for i in (0,)] == [["ACGT".index(base) for base in frame["sequence"][3]]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": "ACGX" * 41}, r"`row 3` has 'X' at position 3"),
        ({"sequence": "ACGT"}, r"row 3: the sequence has 4 bases, expected 164"),
        ({"log2_activity": float("nan")}, r"row 3: log2_activity and n_barcodes must be finite"),
        ({"library": 9}, r"row 3: library must be one of"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    frame = table(5)
    for column, value in change.items():
        frame.loc[2, column] = value
    write(tmp_path, "valid", frame)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path, "valid")


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train", table(3).drop(columns="library"))
    with pytest.raises(ValueError, match=r"lacks the columns \['library'\]"):
        read_split(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"must hold valid\.tsv\.gz"):
        read_split(tmp_path, "valid")


def test_the_table_has_the_rows_that_its_origin_states(shared: Path) -> None:
    assert len(read_split(shared / "data" / "retina_mpra", "train")) == 27_282
    assert len(read_split(shared / "data" / "retina_mpra", "valid")) == 6_292


def test_the_covariate_stays_out_of_the_model_and_its_basal_mean_goes_into_the_bias(
    tmp_path: Path, model: CrossDNA, make_sequence
) -> None:
    offsets = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 60.0, 70.0])
    module = Regression(model, offsets=offsets, learning_rate=1e-3, weight_decay=0.0, total_steps=10)
    sequence = make_sequence(40)
    before = cdi.predict(sequence, model)
    folder = export(module, tmp_path / "model", "a card", {"seed": 0})
    after = cdi.predict(sequence, str(folder))
    np.testing.assert_allclose(after - before, 3.0, rtol=1e-5)  # libraries 1 to 5 are on the basal promoter's scale
    assert json.loads((folder / "config.json").read_text())["provenance"] == {"seed": 0}
    assert (folder / "README.md").read_text() == "a card"


def test_the_loss_is_the_weighted_square_and_shows_either_strand(model: CrossDNA, make_sequence) -> None:
    offsets = torch.arange(7.0)
    module = Regression(model, offsets=offsets, learning_rate=1e-3, weight_decay=0.0, total_steps=10).double().eval()
    module.log = lambda *_, **__: None  # there is no trainer to log to
    module.pooled_norm = torch.nn.Identity()  # type: ignore[assignment]
    x = model.one_hot([make_sequence(30, seed) for seed in range(3)])
    ids, activity = x.argmax(1).to(torch.uint8), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    weight, library = torch.tensor([0.2, 0.5, 0.6], dtype=torch.float64), torch.tensor([0, 6, 3])
    scores = torch.stack([model(x)[:, 0], model(strand.reverse_complement(x))[:, 0]])
    squares = weight * (scores + offsets.double()[library] - activity).square() / weight.sum()
    either = {
        round(float(sum(squares[choice >> i & 1, i] for i in range(3))), 9) for choice in range(8)
    }  # every way to turn each of the three sequences or not
    seen = {round(module.training_step((ids, activity, weight, library), 0).item(), 9) for _ in range(60)}
    assert seen <= either
    assert len(seen) > 2


def test_a_symmetric_model_stays_so_while_it_trains(make_model, make_sequence) -> None:
    model = make_model(rc_blocks="aligned", dropout=0.0)
    x = model.double().one_hot([make_sequence(24, seed) for seed in range(4)])  # one block
    assert (model(x) - model(strand.reverse_complement(x))).abs().max() > 1e-3
    model.requires_grad_(True)
    module = Regression(
        model, offsets=torch.zeros(7), learning_rate=0.05, weight_decay=0.1, total_steps=10, symmetric=True
    ).double()
    module.log = lambda *_, **__: None
    optimizer = module.configure_optimizers()["optimizer"]
    batch = x.argmax(1), torch.tensor([1.0, -1.0, 2.0, 0.0]).double(), torch.ones(4).double(), torch.zeros(4).long()
    before = model(x).detach()
    for _ in range(3):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
    after = model(x)
    torch.testing.assert_close(after, model(strand.reverse_complement(x)), rtol=0, atol=1e-9)
    assert (after - before).abs().max() > 0.01


def test_the_normalisation_of_the_pooled_representation_goes_into_the_head(model: CrossDNA, make_sequence) -> None:
    module = Regression(model, offsets=torch.zeros(7), learning_rate=1e-3, weight_decay=0.0, total_steps=10).double()
    x = model.one_hot([make_sequence(30, seed) for seed in range(5)])
    with torch.no_grad():
        module.pooled_norm.weight.uniform_(0.5, 2)
        module.pooled_norm.bias.uniform_(-1, 1)
        module.train()
        for _ in range(5):
            module.score(x)  # which teaches it the mean and the variance
        module.eval()
        normalised, as_it_was = module.score(x), model(x)
        module.fold()
        folded = model(x)
    assert (normalised - as_it_was).abs().max() > 0.1
    torch.testing.assert_close(folded, normalised, rtol=1e-9, atol=1e-9)


def test_a_shifted_batch_is_filled_with_n(model: CrossDNA) -> None:
    module = Regression(model, offsets=torch.zeros(7), learning_rate=1e-3, weight_decay=0, total_steps=9, shift=2)
    ids = torch.tensor([[0, 1, 2, 3, 0]], dtype=torch.uint8)
    seen = {tuple(module._shifted(ids)[0].tolist()) for _ in range(100)}
    assert seen == {(0, 1, 2, 3, 0), (4, 0, 1, 2, 3), (4, 4, 0, 1, 2), (1, 2, 3, 0, 4), (2, 3, 0, 4, 4)}
    assert ids.tolist() == [[0, 1, 2, 3, 0]]


def test_pearson_is_that_of_numpy() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    assert pearson(torch.tensor(x), torch.tensor(y)) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


def test_library_means_fall_back_to_the_overall_mean(tmp_path: Path) -> None:
    write(tmp_path, "train", table(3))
    split = read_split(tmp_path, "train")
    means = library_means(split)
    np.testing.assert_allclose(means[:3], split.activity, rtol=1e-6)
    np.testing.assert_allclose(means[3:], split.activity.mean(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data
def test_the_script_trains_and_exports_and_the_same_seed_gives_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "train", table(24))
    write(tmp_path, "valid", table(16, seed=1))
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    weights = []
    try:
        for run in ("one", "two"):
            with pytest.raises(SystemExit) as stop:
                main(["--data", str(tmp_path), "--run", str(tmp_path / run), "--epochs", "1", "--batch", "8"])
            assert stop.value.code == 0
            model = cdi.load_model(tmp_path / run / "model")
            weights.append(model.state_dict())
    finally:  # a script may seed and set threads; the tests after this one should not notice
        torch.random.set_rng_state(state)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert model.targets == ("log2_activity",)
    assert model.config.rc_blocks == "aligned"
    sequence = "ACGTTGCAAC" * 16 + "GATA"
    np.testing.assert_allclose(
        cdi.predict(sequence, model), cdi.predict(strand.reverse_complement(sequence), model), rtol=0, atol=1e-5
    )
    card = (tmp_path / "two" / "model" / "README.md").read_text()
    facts = json.loads((tmp_path / "two" / "model" / "config.json").read_text())["provenance"]
    assert f"| as given, one orientation | {facts['valid_r']:.3f} |" in card
    assert "24 training and 16 validation sequences" in card


def test_the_bundled_model_is_what_its_card_says(shared: Path) -> None:
    """One orientation on every eighth validation row: the correlation is that of the card, within sampling error."""
    split = read_split(shared / "data" / "retina_mpra", "valid")
    model = cdi.load_model()
    rows = slice(None, None, 8)
    scores = [model(torch.nn.functional.one_hot(ids.long(), 5).transpose(1, 2).float())[:, 0]
              for ids in split.ids[rows].split(64)]  # fmt: skip
    r = pearson(torch.cat(scores), split.activity[rows])
    root = Path(cdi.__file__).parent / "assets" / "models" / "retina-enhancer"
    stated = json.loads((root / "config.json").read_text())["provenance"]["valid_r"]
    count = len(split.activity[rows])
    assert abs(np.arctanh(r) - np.arctanh(stated)) < 3 / np.sqrt(count - 3)
    assert stated >= 0.45
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000
    assert (root / "model.safetensors").stat().st_size <= 4_000_000

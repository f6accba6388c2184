"""The training script, from a table to a model that loads; on a table small enough to train on in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.collection import Motif
from crossdna_interpret.statistics import pearson
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.recipes.motif_scan import MotifScan
from crossdna_interpret.training.recipes.retina import enhancer as retina_enhancer
from crossdna_interpret.training.recipes.retina.enhancer import export_ready, main, teacher_of
from crossdna_interpret.training.recipes.retina.mpra import read_mutation_pairs, read_split
from crossdna_interpret.training.recipes.retina.teacher import MotifTeacher
from crossdna_interpret.training.tables import Table
from tests.training.mpra_tables import mpra_table, write_split


def test_a_split_is_read_in_order(tmp_path: Path) -> None:
    frame = mpra_table(9)
    write_split(tmp_path, "train", frame)
    split = read_split(tmp_path, "train")
    assert len(split) == 9
    np.testing.assert_allclose(split.targets[:, 0], frame["log2_activity"], rtol=1e-6)
    np.testing.assert_allclose(split.weight, frame["n_barcodes"] / (frame["n_barcodes"] + 2), rtol=1e-6)
    assert split.level.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert split.ids[3].tolist() == ["ACGT".index(base) for base in frame["sequence"][3]]


def test_a_library_has_its_number_in_every_split(tmp_path: Path) -> None:
    frame = mpra_table(3)
    frame["library"] = [7, 3, 7]
    write_split(tmp_path, "valid", frame)
    assert read_split(tmp_path, "valid").level.tolist() == [6, 2, 6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": "ACGX" * 41}, r"row 3` has 'X' at position 3"),
        ({"sequence": "ACGT"}, r"row 3: the sequence has 4 bases, expected 164"),
        ({"log2_activity": float("nan")}, r"row 3: log2_activity must be a finite number"),
        ({"library": 9}, r"row 3: library must be one of"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    frame = mpra_table(5)
    for column, value in change.items():
        frame.loc[2, column] = value
    write_split(tmp_path, "valid", frame)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path, "valid")


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, "train", mpra_table(3).drop(columns="library"))
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
    offsets = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 60.0, 70.0]).unsqueeze(1)
    module = Finetuning(model, offsets=offsets, learning_rate=1e-3, weight_decay=0.0)
    module.centred.gain = 1.0
    sequence = make_sequence(40)
    before = cdi.predict(sequence, model)
    folder = save_crossdna(export_ready(module), tmp_path / "model", card="a card", provenance={"seed": 0})
    after = cdi.predict(sequence, str(folder))
    np.testing.assert_allclose(after - before, 3.0, rtol=1e-5)  # libraries 1 to 5 are on the basal promoter's scale
    assert json.loads((folder / "config.json").read_text())["provenance"] == {"seed": 0}
    assert (folder / "README.md").read_text() == "a card"


def with_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with two enhancers beside their mutants, and pairs that are not of one library or of one enhancer."""
    mutated = "MUT-allCrxSites"
    frame.loc[[0, 7, 8, 15, 1, 2, 3, 10], "id"] = [
        "a_WT", f"a_{mutated}", f"b_{mutated}", "b_WT", "c_WT", f"c_{mutated}", "d_WT", f"e_{mutated}",
    ]  # fmt: skip
    return frame


def test_pairs_are_of_one_enhancer_and_library(tmp_path: Path) -> None:
    frame = with_pairs(mpra_table(24))
    write_split(tmp_path, "train", frame)
    contrasts = read_mutation_pairs(tmp_path)
    assert len(contrasts) == 2
    activity, barcodes = frame["log2_activity"], frame["n_barcodes"]
    rows = ((0, 7), (15, 8))
    for pair, (wild, mutant) in enumerate(rows):
        assert alphabet.decode(contrasts.before[pair].numpy()) == frame["sequence"][wild]
        assert alphabet.decode(contrasts.after[pair].numpy()) == frame["sequence"][mutant]
        assert contrasts.change[pair] == pytest.approx(activity[mutant] - activity[wild], abs=1e-6)
        one, other = (barcodes[row] / (barcodes[row] + 2) for row in (wild, mutant))
        assert contrasts.weight[pair] == pytest.approx(1 / (1 / one + 1 / other))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data
def test_the_script_trains_and_exports_and_the_same_seed_gives_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path, "train", with_pairs(mpra_table(24)))
    write_split(tmp_path, "valid", mpra_table(16, seed=1))
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
    assert model.training_range == cdi.TrainingRange.of(with_pairs(mpra_table(24))["sequence"])
    assert model.config.rc_blocks == "aligned"
    sequence = "ACGTTGCAAC" * 16 + "GATA"
    np.testing.assert_allclose(
        cdi.predict(sequence, model), cdi.predict(strand.reverse_complement(sequence), model), rtol=0, atol=1e-5
    )
    card = (tmp_path / "two" / "model" / "README.md").read_text()
    facts = json.loads((tmp_path / "two" / "model" / "config.json").read_text())["provenance"]
    assert f"| as given, one orientation | {facts['valid_r']:.3f} |" in card
    assert "24 training and 16 validation sequences" in card
    assert "The training sequences have 164 bases, " in card
    assert facts["contrasts"] == 2
    assert facts["minutes"] > 0
    assert f"{facts['distilled_valid_r_both_strands']:.3f}" in card
    assert "mean r of predicted and measured effects | not measured |" in card  # no such table here
    assert "{" not in card


def test_a_teacher_is_of_the_rows_that_it_was_fitted_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = mpra_table(8)
    write_split(tmp_path, "train", frame)
    fitted: list[int] = []

    class Teacher(MotifTeacher):
        @classmethod
        def fit(cls, table: Table, motifs: Sequence[Motif], **settings: object) -> MotifTeacher:
            fitted.append(len(table))
            return MotifTeacher(MotifScan(motifs), [])

    motifs = [Motif(name, name, np.full((4, 6), 5.0)) for name in "ab"]
    monkeypatch.setattr(retina_enhancer, "MotifTeacher", Teacher)
    monkeypatch.setattr(retina_enhancer, "from_database", lambda _: motifs)
    for activity, count in ((1, 1), (1, 1), (-1, 2), (-1, 2)):
        write_split(tmp_path, "train", frame.assign(log2_activity=activity * frame["log2_activity"]))
        teacher_of(read_split(tmp_path, "train"), tmp_path / "teacher", 0, 1)
        assert len(fitted) == count


def test_too_few_rows_to_measure_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path), "--run", str(tmp_path), "--rows", "1"])
    assert "--rows must be at least 2" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_table_without_pairs_is_trained_on_in_one_part(tmp_path: Path) -> None:
    write_split(tmp_path, "train", mpra_table(16))
    write_split(tmp_path, "valid", mpra_table(16, seed=1))
    threads = torch.get_num_threads()
    with torch.random.fork_rng(), pytest.raises(SystemExit) as stop:
        main(["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--epochs", "1", "--batch", "8"])
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    assert stop.value.code == 0
    facts = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["provenance"]
    assert facts["contrasts"] == 0
    assert facts["steps"] == 2
    assert not (tmp_path / "run" / "contrasts").exists()


def test_the_bundled_model_has_the_range_of_its_training_rows(shared: Path) -> None:
    rows = read_split(shared / "data" / "retina_mpra", "train")
    assert cdi.load_model().training_range == cdi.TrainingRange.of(rows.ids)


@pytest.mark.slow
def test_the_bundled_model_is_what_its_card_says(shared: Path) -> None:
    """One orientation on every eighth validation row: the correlation is that of the card, within sampling error."""
    split = read_split(shared / "data" / "retina_mpra", "valid")
    model = cdi.load_model()
    rows = slice(None, None, 8)
    scores = cdi.predict([alphabet.decode(ids) for ids in split.ids[rows]], model)
    r = pearson(scores[:, 0], split.targets[rows, 0])
    root = Path(cdi.__file__).parent / "assets" / "models" / "retina-enhancer"
    stated = json.loads((root / "config.json").read_text())["provenance"]["valid_r"]
    count = len(split.ids[rows])
    assert abs(np.arctanh(r) - np.arctanh(stated)) < 3 / np.sqrt(count - 3)
    assert stated >= 0.45
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000
    assert (root / "model.safetensors").stat().st_size <= 4_000_000

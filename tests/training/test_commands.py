"""The commands: from a table to a model that loads, with flags or a TOML file, and clear errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.training.commands import main
from crossdna_interpret.training.evaluation import evaluate
from crossdna_interpret.training.finetuning import Finetuning
from crossdna_interpret.training.module import UndefinedMeasureWarning
from crossdna_interpret.training.supervised import by_length
from crossdna_interpret.training.tables import read_table

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data


def write(folder: Path, rows: int = 60, seed: int = 0) -> Path:
    """A table whose activity is the GC content."""
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 40, p=p)) for p in random.dirichlet([3] * 4, rows)]
    frame = pd.DataFrame(
        {
            "dna": sequences, "gc": [sum(base in "GC" for base in seq) / 4 for seq in sequences],
            "batch": random.integers(1, 3, rows), "part": np.where(np.arange(rows) % 4, "train", "test"),
        }
    )  # fmt: skip
    frame["high"] = (frame["gc"] > frame["gc"].median()).astype(int)
    frame["share"] = frame["gc"] / 10
    path = folder / "table.tsv"
    frame.to_csv(path, sep="\t", index=False)
    return path


def words(folder: Path, *more: str) -> list[str]:
    return [
        "finetune", "--table", str(write(folder)), "--sequence", "dna", "--targets", "gc", "--split", "part",
        "--valid-split", "test", "--run-folder", str(folder / "run"), "--width", "16", "--depth", "1", "--batch", "8",
        *more,
    ]  # fmt: skip


def test_finetune_gives_a_model_that_loads_with_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, "--epochs", "2", "--covariate", "batch", "--name", "gc-content")) == 0
    folder = tmp_path / "run" / "model"
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    model = cdi.load_model(folder)
    assert (model.name, model.targets) == ("gc-content", ("gc",))
    facts = json.loads((folder / "config.json").read_text())["provenance"]
    assert facts["command"].startswith("crossdna-interpret train finetune --table")
    assert (facts["train"], facts["valid"], facts["steps"]) == (45, 15, 12)
    card = (folder / "README.md").read_text()
    assert card.startswith("# gc-content\n")
    assert "45 training rows of `table.tsv`, and 15 for validation." in card
    assert "12 steps of at most 8 rows," in card
    assert f"| r_both_strands | {facts['valid_r_both_strands']:.3f} |" in card
    seq = "ACGGT" * 8
    assert cdi.predict(seq, model) == pytest.approx(cdi.predict(strand.reverse_complement(seq), model), abs=1e-5)


@pytest.mark.slow
def test_the_model_is_evaluated_and_fine_tuned_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(tmp_path, "--epochs", "12", "--learning-rate", "0.01", "--average", "0.9"))
    model = str(tmp_path / "run" / "model")
    table = str(tmp_path / "table.tsv")
    out = tmp_path / "measures.tsv"
    ask = ["evaluate", "--table", table, "--sequence", "dna", "--targets", "gc", "--model", model, "--out", str(out)]
    assert main([*ask, "--split", "part", "--rows", "test"]) == 0
    assert "r_both_strands" in capsys.readouterr().out
    measured = pd.read_csv(out, sep="\t")
    assert measured["n"].tolist() == [15]
    assert measured["r_both_strands"][0] > 0.8  # GC content is easy
    report = json.loads((Path(model) / "config.json").read_text())["provenance"]["valid_r_both_strands"]
    assert measured["r_both_strands"][0] == pytest.approx(report, abs=1e-3)
    again = ["--model", model, "--run-folder", str(tmp_path / "again"), "--task", "classification", "--epochs", "1"]
    assert main([*words(tmp_path), *again, "--targets", "high", "share", "--learning-rate", "1e-9"]) == 0
    start, end = cdi.load_model(model), cdi.load_model(tmp_path / "again" / "model")
    assert end.targets == ("high", "share")
    for name, value in start.branch_a.state_dict().items():
        np.testing.assert_allclose(value, end.branch_a.state_dict()[name], atol=1e-6)


def run_apart(words: list[str]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which can start others."""
    return subprocess.run(
        [sys.executable, "-m", "crossdna_interpret.cli", "train", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_share_the_steps_and_leave_one_model(tmp_path: Path) -> None:
    two = ["--epochs", "3", "--accelerator", "cpu", "--devices", "2", "--average", "0.5", "--learning-rate", "0.01"]
    done = run_apart(words(tmp_path, *two))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "model"
    assert done.stdout.splitlines()[-1] == str(folder)
    assert done.stdout.count(str(folder)) == 1
    facts = json.loads((folder / "config.json").read_text())["provenance"]
    assert facts["steps"] == 3 * 3  # six batches in each pass, half of them for each process
    assert "9 steps of at most 8 rows on each of 2 devices" in (folder / "README.md").read_text()
    valid = read_table(tmp_path / "table.tsv", sequence="dna", targets=["gc"], split="part")["test"]
    r = evaluate(cdi.load_model(folder), valid)["r_both_strands"][0]
    assert facts["valid_r_both_strands"] == pytest.approx(r, abs=1e-3)  # of all rows, not of a process's share
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_in_one_process_stops_both(tmp_path: Path) -> None:
    table = pd.read_csv(write(tmp_path), sep="\t")
    path = tmp_path / "far.tsv"
    table.assign(gc=table["gc"].where(table.index != 1, 3e38)).to_csv(path, sep="\t", index=False)
    two = ["--table", str(path), "--epochs", "3", "--accelerator", "cpu", "--devices", "2", "--batch", "4"]
    done = run_apart([*words(tmp_path), *two])
    assert done.returncode != 0
    assert "The loss is" in done.stderr


@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_mixed_precision(tmp_path: Path, command: str) -> None:
    (tmp_path / "x.fa").write_text(">x\n" + "ACGGTCA" * 200 + "\n")
    mixed = ["--epochs", "2", "--precision", "bf16-mixed"]
    of_windows = [
        "pretrain", "--fasta", str(tmp_path / "x.fa"), "--length", "32", "--run-folder", str(tmp_path / "run"),
        "--width", "16", "--depth", "1", "--batch", "8", "--warm-up", "1",
    ]  # fmt: skip
    assert main([*(words(tmp_path) if command == "finetune" else of_windows), *mixed]) == 0
    model = cdi.load_model(tmp_path / "run" / "model")
    assert model.dtype == torch.float32
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_flags_may_stand_in_a_toml_file_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        f'table = "{write(tmp_path)}"\nsequence = "dna"\ntargets = ["gc", "high"]\nwidth = 16\ndepth = 1\nbatch = 8\n'
        f'epochs = 3\nsymmetric = false\nrun_folder = "{tmp_path / "run"}"\n'
    )
    assert main(["finetune", "--config", str(config), "--epochs", "1"]) == 0
    facts = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["provenance"]
    assert facts["targets"] == ["gc", "high"]
    assert facts["options"]["epochs"] == 1
    assert facts["settings"]["symmetric"] is False
    assert facts["valid"] == 0
    assert "Nothing was held out." in (tmp_path / "run" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [("epoch = 3", r"no flag for 'epoch'. Near matches: .*--epochs"), ("epochs = ", "is not TOML")],
)
def test_a_bad_toml_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        main(["finetune", "--config", str(tmp_path / "run.toml")])


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Needed, as a flag or in the TOML file: --table, --targets, --run-folder"):
        main(["finetune"])
    with pytest.raises(FileNotFoundError, match="`--config` must be a TOML file"):
        main(["finetune", "--config", str(tmp_path / "none.toml")])
    with pytest.raises(ValueError, match=r"`--train-split` 'first' is not in .*; it has test, train"):
        main(words(tmp_path, "--train-split", "first"))
    with pytest.raises(ValueError, match="`--width` must be a multiple of 16"):
        main(words(tmp_path, "--width", "20"))
    ask = [
        "evaluate",
        "--table",
        str(tmp_path / "table.tsv"),
        "--sequence",
        "dna",
        "--targets",
        "gc",
        "--split",
        "part",
    ]
    with pytest.raises(
        ValueError, match="`--rows` 'test' is a name in the split column: name that column with `--split`"
    ):
        main([*ask[:-2], "--model", "retina-enhancer", "--rows", "test"])
    with pytest.raises(ValueError, match="`--rows` must say which rows: test, train"):
        main([*ask, "--model", "retina-enhancer"])
    with pytest.raises(ValueError, match="`--rows` 'none' is not in"):
        main([*ask, "--model", "retina-enhancer", "--rows", "none"])


def ragged(folder: Path, lengths: list[int]) -> Path:
    """A table of the share of G, in which every fifth row is for validation."""
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGT"), length)) for length in lengths]
    frame = pd.DataFrame({"sequence": sequences, "y": [seq.count("G") / len(seq) for seq in sequences]})
    frame["split"] = np.where(np.arange(len(lengths)) % 5, "train", "valid")
    frame["high"] = (np.arange(len(lengths)) // 2 % 2).astype(int)
    frame["weight"] = 1
    frame.to_csv(folder / "table.tsv", sep="\t", index=False)
    return folder / "table.tsv"


def tune(folder: Path, *more: str) -> list[str]:
    return [
        "finetune", "--table", str(folder / "table.tsv"), "--targets", "y", "--split", "split", "--run-folder",
        str(folder / "run"), "--width", "16", "--depth", "1", "--epochs", "1", *more,
    ]  # fmt: skip


def facts_and_card(folder: Path) -> tuple[dict, str]:
    model = folder / "run" / "model"
    return json.loads((model / "config.json").read_text())["provenance"], (model / "README.md").read_text()


@pytest.mark.parametrize(
    ("lengths", "batch", "steps"),
    [
        ([20] * 10 + list(range(21, 51)), 8, 4),  # ten of one length, and thirty that are alone with theirs
        ([20] * 20 + [21, 22, 23, 24] * 5, 16, 2),
        ([20, 21] * 10, 1000, 1),  # a batch larger than the table
        ([20] * 22, 16, 2),  # 17 rows to train on: one more than a batch
    ],
)
def test_every_row_is_trained_on_and_the_card_says_how_many(
    tmp_path: Path, lengths: list[int], batch: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ragged(tmp_path, lengths)
    shown: list[str] = []
    step = Finetuning.training_step

    def recorded(self, of_step, index):  # type: ignore[no-untyped-def]
        shown.extend(alphabet.decode(ids) for part in by_length(of_step[0]) for ids in part.numpy())
        return step(self, of_step, index)

    monkeypatch.setattr(Finetuning, "training_step", recorded)
    assert main(tune(tmp_path, "--batch", str(batch))) == 0
    table = pd.read_csv(tmp_path / "table.tsv", sep="\t")
    expected = table.loc[table["split"] == "train", "sequence"]
    assert sorted(shown) == sorted(expected)
    facts, card = facts_and_card(tmp_path)
    assert facts["train"] == len(expected)
    assert facts["steps"] == steps
    assert f"{len(expected)} training rows of `table.tsv`, and" in card


def test_rows_without_weight_are_left_out_and_the_card_says_so(tmp_path: Path) -> None:
    frame = pd.read_csv(ragged(tmp_path, [20] * 20), sep="\t")
    train = frame.index[frame["split"] == "train"]
    frame.loc[train[:5], ["weight", "y"]] = 0, 1000  # which would shift everything that is a mean
    frame.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    assert main(tune(tmp_path, "--weight", "weight", "--learning-rate", "1e-9")) == 0
    facts, card = facts_and_card(tmp_path)
    assert (facts["train"], facts["left_out"]) == (11, 5)
    assert "11 training rows of `table.tsv` (5 more have the weight 0 and were left out), and 4 for" in card
    model = cdi.load_model(tmp_path / "run" / "model")
    assert abs(cdi.predict("ACGT" * 5, model)[0, 0]) < 10
    frame.assign(weight=0).to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match="`--weight` weight: all 16 rows to train on have the weight 0"):
        main(tune(tmp_path, "--weight", "weight"))


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2], [-1, 1], list(range(10))])
def test_labels_must_be_from_0_to_1(tmp_path: Path, labels: list[int]) -> None:
    frame = pd.read_csv(ragged(tmp_path, [20] * 20), sep="\t")
    frame["y"] = np.resize(labels, 20)
    frame.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    row = 1 + next(at for at, label in enumerate(np.resize(labels, 20)) if not 0 <= label <= 1)
    message = rf"table\.tsv, row {row}: y must be from 0 to 1, but is '{labels[(row - 1) % len(labels)]}'"
    with pytest.raises(ValueError, match=message):
        main(tune(tmp_path, "--task", "classification"))
    with pytest.raises(ValueError, match=message):
        main(tune(tmp_path, "--task", "classification", "--targets", "high", "y"))
    ask = ["evaluate", "--table", str(tmp_path / "table.tsv"), "--targets", "y", "--model", "retina-enhancer"]
    with pytest.raises(ValueError, match=message):
        main([*ask, "--task", "classification"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (("train", "val"), [], "`--valid-split` 'valid' is not in .*; it has val, train. To train without validation"),
        (("train", "val"), ["--patience", "1"], "`--valid-split` 'valid' is not in"),
        (("train", "valid"), ["--valid-split", "validation"], "`--valid-split` 'validation' is not in .*valid, train"),
        (("train", "train"), ["--valid-split", "valid"], "`--valid-split` 'valid' is not in"),
        (("train", "train"), ["--patience", "1"], "`--valid-split` 'valid' is not in"),
        (("training", "valid"), [], "`--train-split` 'train' is not in .*; it has valid, training"),
        (("train", "valid "), [], "`--valid-split` 'valid' is not in"),
        (("train", "valid"), ["--train-split", "valid"], "must be different, but both are 'valid'"),
        (("train", "valid"), ["--no-validation", "--patience", "3"], "`patience` needs rows for validation"),
    ],
)
def test_a_split_that_is_not_there_is_an_error(
    tmp_path: Path, names: tuple[str, str], more: list[str], message: str
) -> None:
    frame = pd.read_csv(ragged(tmp_path, [20] * 20), sep="\t")
    frame["split"] = frame["split"].map({"train": names[0], "valid": names[1]})
    frame.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match=message):
        main(tune(tmp_path, *more))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--train-split", "--valid-split"])
def test_the_name_of_a_split_needs_its_column(tmp_path: Path, flag: str) -> None:
    ragged(tmp_path, [20] * 20)
    words = [word for word in tune(tmp_path) if word not in ("--split", "split")]
    with pytest.raises(ValueError, match=f"`{flag}` 'train' is a name in the split column: name that column"):
        main([*words, flag, "train"])
    with pytest.raises(ValueError, match="`patience` needs rows for validation"):
        main([*words, "--patience", "2"])


@pytest.mark.parametrize(("names", "more"), [(("train", "train"), []), (("train", "test"), ["--no-validation"])])
def test_a_run_may_do_without_validation(tmp_path: Path, names: tuple[str, str], more: list[str]) -> None:
    frame = pd.read_csv(ragged(tmp_path, [20] * 20), sep="\t")
    frame["split"] = frame["split"].map({"train": names[0], "valid": names[1]})
    frame.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    assert main(tune(tmp_path, *more)) == 0
    facts, card = facts_and_card(tmp_path)
    assert (facts["train"], facts["valid"]) == ((frame["split"] == "train").sum(), 0)
    assert "none for validation" in card


def test_patience_without_a_positive_in_validation_is_an_error_before_training(tmp_path: Path) -> None:
    frame = pd.read_csv(ragged(tmp_path, [20] * 20), sep="\t")
    frame["y"] = 0
    frame.loc[frame.index[frame["split"] == "train"][0], "y"] = 1
    frame.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    words = tune(tmp_path, "--task", "classification")
    with pytest.raises(ValueError, match="The 4 rows for validation do not have labels on both sides of"):
        main([*words, "--patience", "5"])
    assert not (tmp_path / "run").exists()
    with pytest.warns(UndefinedMeasureWarning, match="so valid_auroc cannot be measured"):
        assert main(words) == 0
    assert "| auroc | cannot be measured |" in facts_and_card(tmp_path)[1]


def test_a_run_does_not_continue_with_a_table_that_has_changed(tmp_path: Path) -> None:
    path = ragged(tmp_path, [20] * 20)
    before = path.read_text()
    words = tune(tmp_path, "--checkpoint-every", "1")
    assert main(words) == 0
    model = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    frame = pd.read_csv(path, sep="\t")
    for changed, content in (("train", "content_train"), ("valid", "content_valid")):
        frame.assign(y=frame["y"].where(frame["split"] != changed, -frame["y"])).to_csv(path, sep="\t", index=False)
        with pytest.raises(
            ValueError, match=rf"other settings: {content}\. {content}: what was read is not what the run"
        ):
            main(words)
    frame.assign(note="x", split=frame["split"].iloc[::-1].to_numpy()[::-1]).to_csv(path, sep="\t", index=False)
    assert main(words) == 0  # of a column that nothing is read from
    path.write_text(before)
    assert main(words) == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == model


def test_a_run_does_not_continue_from_another_model(tmp_path: Path) -> None:
    ragged(tmp_path, [20] * 20)
    assert main(tune(tmp_path)) == 0
    (tmp_path / "run").rename(tmp_path / "first")
    words = tune(tmp_path, "--model", str(tmp_path / "first" / "model"), "--checkpoint-every", "1")
    assert main(words) == 0
    model = cdi.load_model(tmp_path / "first" / "model")
    model.stem.conv_forward.bias.data += 0.1
    save_crossdna(model, tmp_path / "first" / "model", card="changed")
    with pytest.raises(ValueError, match="other settings: content_started_from"):
        main(words)


def test_a_model_knows_what_it_was_trained_on(tmp_path: Path) -> None:
    table = pd.read_csv(ragged(tmp_path, list(range(20, 40))), sep="\t")
    assert main(tune(tmp_path)) == 0
    known = cdi.load_model(tmp_path / "run" / "model").training_range
    assert known == cdi.TrainingRange.of(table.loc[table["split"] == "train", "sequence"])
    assert (known.shortest, known.longest, known.alphabet) == (21, 39, "ACGT")
    low, high = (100 * share for share in known.gc)
    assert f"21 to 39 bases, {low:.0f} to {high:.0f} % G and C, no N" in facts_and_card(tmp_path)[1]
    with pytest.warns(cdi.OutsideTrainingWarning, match="trained on sequences of 21 to 39 bases; this one has 3"):
        cdi.predict("ACG", cdi.load_model(tmp_path / "run" / "model"))

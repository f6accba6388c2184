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
from crossdna_interpret import strand
from crossdna_interpret.training.commands import main
from crossdna_interpret.training.evaluation import evaluate
from crossdna_interpret.training.tables import read_table

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data


def write(folder: Path, rows: int = 60, seed: int = 0) -> Path:
    """A table whose activity is the share of G and C."""
    random = np.random.default_rng(seed)
    sequences = ["".join(random.choice(list("ACGT"), 40, p=p)) for p in random.dirichlet([3] * 4, rows)]
    frame = pd.DataFrame(
        {
            "dna": sequences, "gc": [sum(base in "GC" for base in seq) / 4 for seq in sequences],
            "batch": random.integers(1, 3, rows), "part": np.where(np.arange(rows) % 4, "train", "test"),
        }
    )  # fmt: skip
    frame["high"] = (frame["gc"] > frame["gc"].median()).astype(int)
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
    assert (facts["train"], facts["valid"], facts["steps"]) == (45, 15, 10)
    card = (folder / "README.md").read_text()
    assert card.startswith("# gc-content\n")
    assert f"| r_both_strands | {facts['valid_r_both_strands']:.3f} |" in card
    seq = "ACGGT" * 8
    assert cdi.predict(seq, model) == pytest.approx(cdi.predict(strand.reverse_complement(seq), model), abs=1e-5)


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
    told = json.loads((Path(model) / "config.json").read_text())["provenance"]["valid_r_both_strands"]
    assert measured["r_both_strands"][0] == pytest.approx(told, abs=1e-3)
    again = ["--model", model, "--run-folder", str(tmp_path / "again"), "--task", "classification", "--epochs", "1"]
    assert main([*words(tmp_path), *again, "--targets", "high", "gc", "--learning-rate", "1e-9"]) == 0
    start, end = cdi.load_model(model), cdi.load_model(tmp_path / "again" / "model")
    assert end.targets == ("high", "gc")
    for name, value in start.branch_a.state_dict().items():
        np.testing.assert_allclose(value, end.branch_a.state_dict()[name], atol=1e-6)


def run_apart(words: list[str]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which can start others."""
    return subprocess.run(
        [sys.executable, "-m", "crossdna_interpret.cli", "train", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_processes_share_the_steps_and_leave_one_model(tmp_path: Path) -> None:
    two = ["--epochs", "3", "--accelerator", "cpu", "--devices", "2", "--average", "0.5", "--learning-rate", "0.01"]
    done = run_apart(words(tmp_path, *two))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "model"
    assert done.stdout.splitlines()[-1] == str(folder)
    assert done.stdout.count(str(folder)) == 1
    facts = json.loads((folder / "config.json").read_text())["provenance"]
    assert facts["steps"] == 3 * (45 // 8 // 2)
    valid = read_table(tmp_path / "table.tsv", sequence="dna", targets=["gc"], split="part")["test"]
    r = evaluate(cdi.load_model(folder), valid)["r_both_strands"][0]
    assert facts["valid_r_both_strands"] == pytest.approx(r, abs=1e-3)  # of all rows, not of a process's share
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 3


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
    with pytest.raises(ValueError, match="`--rows` must say which rows: test, train"):
        main([*ask, "--model", "retina-enhancer"])
    with pytest.raises(ValueError, match="`--rows` 'none' is not in"):
        main([*ask, "--model", "retina-enhancer", "--rows", "none"])

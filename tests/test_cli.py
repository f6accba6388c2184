"""The command, as a user types it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret import cli

SEQUENCE = "TAATCCGATTACAGGTTAATCCCACGTGACTTAAGC"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_report_of_the_example_needs_no_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 0
    assert capsys.readouterr().out.split() == ["crossdna_report.html", "crossdna_report.tsv"]
    assert "strong-enhancer" in (tmp_path / "crossdna_report.html").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_report_of_bases_and_of_a_gzipped_fasta(tmp_path: Path) -> None:
    assert cli.main(["report", SEQUENCE.lower(), "-o", "bases.html"]) == 0
    fasta = tmp_path / "two.fa.gz"
    fasta.write_bytes(gzip.compress(f">first\r\n{SEQUENCE[:20]}\r\n>second\r\n{SEQUENCE[20:]}\r\n".encode()))
    assert cli.main(["report", str(fasta), "-o", "file.html"]) == 0
    assert list(pd.read_csv("file.tsv", sep="\t")["name"].unique()) == ["first", "second"]
    assert set(pd.read_csv("bases.tsv", sep="\t")["name"]) == {"sequence"}


def test_ism_writes_one_table_for_each_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = tmp_path / "x.fa"
    fasta.write_text(f">a/b\n{SEQUENCE}\n>a_b\n{SEQUENCE[:10]}\n>../up\nACGT\n")
    assert cli.main(["ism", str(fasta), "-o", "out"]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.split()]
    assert printed == [Path("out/a_b.tsv"), Path("out/a_b_2.tsv"), Path("out/_up.tsv")]
    table = pd.read_csv(printed[0], sep="\t")
    assert set(table["name"]) == {"a/b"}
    expected = cdi.ism(SEQUENCE).to_dataframe()
    np.testing.assert_allclose(table["delta"], expected["delta"], rtol=1e-5, atol=1e-6)
    assert json.loads(Path("out/a_b.json").read_text())["model"] == "retina-enhancer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.fa"]


def test_models_lists_and_shows_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.startswith("retina-enhancer\t")
    assert cli.main(["models", "retina-enhancer"]) == 0
    assert "# retina-enhancer" in capsys.readouterr().out


def test_lab_copies_the_tutorials_and_never_overwrites(tmp_path: Path) -> None:
    assert cli.main(["lab", "mine", "--copy-only"]) == 0
    first = tmp_path / "mine" / "01_explain_an_enhancer.ipynb"
    assert json.loads(first.read_text(encoding="utf-8"))["nbformat"] == 4
    first.write_text("my notes")
    assert cli.main(["lab", "mine", "--copy-only"]) == 0
    assert first.read_text() == "my notes"
    assert (tmp_path / "mine" / "enhancer_explorer.ipynb").is_file()


def test_lab_starts_jupyterlab_in_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def run(command: list[str], *, cwd: Path, check: bool) -> subprocess.CompletedProcess[str]:
        started.append((command[1:], cwd))
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(cli.subprocess, "run", run)
    assert cli.main(["lab", "mine", "--no-browser", "--", "--allow-root", "--port=8123"]) == 7
    assert started == [(["-m", "jupyterlab", "--no-browser", "--allow-root", "--port=8123"], Path("mine"))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "ACGX"], "`seq` has 'X' at position 3"),
        (["report", ""], "`seq` must hold at least one base"),
        (["report", "nowhere.fa"], "nowhere.fa is not a file"),
        (["report", "ACGT", "--model", "retina-enhance"], "Near matches among the bundled models: retina-enhancer"),
        (["report", "ACGT", "--target", "log2_activty"], "Near matches: log2_activity"),
        (["report", "ACGT", "-o", "none/r.html"], "in a folder that does not exist"),
        (["ism", "nowhere.fa", "-o", "out"], "nowhere.fa is not a file"),
        (["models", "retina"], "Near matches among the bundled models: retina-enhancer"),
    ],
)
def test_mistakes_are_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("crossdna-interpret")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"crossdna-interpret {cdi.__version__}"


def test_train_has_commands_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "finetune"]) == 2
    assert "--table, --targets, --run-folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    assert "finetune" in capsys.readouterr().out


def test_train_without_lightning_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightning" else find(name))
    assert cli.main(["train", "finetune"]) == 2
    assert "pip install 'crossdna_interpret[train]'" in capsys.readouterr().err


def test_scanning_prints_each_enhancer_and_their_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for parent in ("one", "two"):
        base = "".join(rng.choice(list("ACGT"), 40))
        for at in range(12):
            mutant = base[: 3 * at] + "".join(rng.choice(list("ACGT"), 3)) + base[3 * at + 3 :]
            rows.append((parent, base, mutant, rng.normal(), 0.3))
    columns = ["parent", "base_sequence", "sequence", "log2_activity", "group_median_log2"]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv("scanning.tsv", sep="\t", index=False)
    assert cli.main(["scanning", "scanning.tsv", "-o", "out.tsv"]) == 0
    printed = capsys.readouterr().out
    found = pd.read_csv("out.tsv", sep="\t").set_index("parent")["r"]
    assert f"mean r {found.mean():.3f}, median r {found.median():.3f}, 2 enhancers" in printed
    for parent, group in table.groupby("parent"):
        base = group["base_sequence"].iloc[0]
        measured = pd.DataFrame({"sequence": group["sequence"], "effect": group["log2_activity"]})
        scored = cdi.score_edits(base, [cdi.edit_to(base, each) for each in group["sequence"]])
        assert cdi.compare_with_measured(scored, measured).r == pytest.approx(found[parent], abs=1e-4)


def test_scanning_of_another_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    assert cli.main(["scanning", "x.tsv"]) == 2
    assert "lacks the columns ['parent'" in capsys.readouterr().err


def test_docs_explain_every_public_name(tmp_path: Path) -> None:
    assert cli.main(["docs", "-o", "pages"]) == 0
    page = (tmp_path / "pages" / "crossdna_interpret.html").read_text(encoding="utf-8")
    for name in cdi.__all__:
        assert f'<section id="{name}">' in page
    assert "annotated_logo" in (tmp_path / "pages" / "crossdna_interpret" / "plot.html").read_text(encoding="utf-8")
    assert "explore" not in vars(cdi)

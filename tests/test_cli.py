"""The command, as a user types it."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna

SEQUENCE = "TAATCCGATTACAGGTTAATCCCACGTGACTTAAGC"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_report_of_the_example_needs_no_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 0
    assert capsys.readouterr().out.split() == ["crossdna_report.html", "crossdna_report.tsv"]
    assert "strong-enhancer" in (tmp_path / "crossdna_report.html").read_text(encoding="utf-8")


@pytest.mark.slow
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
    assert cli.main(["ism", SEQUENCE[:10], "-o", "bases"]) == 0
    assert cli.main(["ism", SEQUENCE[:10].lower().replace("t", "u"), "-o", "bases"]) == 0
    assert pd.read_csv("bases/sequence.tsv", sep="\t")["ref"].drop_duplicates().tolist() == list("TACG")


@pytest.mark.parametrize("length", [255, 256, 1000, 4095, 4096, 100_000])
def test_a_sequence_of_any_length_is_no_file_name(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    sequence = ("ACGTTGCA" * length)[:length]
    value = []

    def write(sequences: dict[str, str], *_: object, **__: object) -> tuple[str, str]:
        value.append(sequences)
        return "page", "table"

    monkeypatch.setattr("crossdna_interpret.report.write_report", write)
    assert cli.main(["report", sequence]) == 0
    assert value == [{"sequence": sequence}]


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_a_file_named_like_bases_is_read(tmp_path: Path) -> None:
    (tmp_path / "ACGT").write_text(f">inside\n{SEQUENCE}\n")
    assert cli.main(["report", "ACGT", "-o", "r.html"]) == 0
    assert set(pd.read_csv("r.tsv", sep="\t")["name"]) == {"inside"}


FASTA = f">one first of two\n{SEQUENCE[:12]}\n\n>two\n{SEQUENCE[12:20]}\n".encode()


def on_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.slow
@pytest.mark.parametrize("data", [FASTA, gzip.compress(FASTA), b"\xef\xbb\xbf" + FASTA], ids=["plain", "gzip", "BOM"])
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_sequences_come_from_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes) -> None:
    on_stdin(monkeypatch, data)
    assert cli.main(["report", "-", "-o", "r.html"]) == 0
    assert list(pd.read_csv("r.tsv", sep="\t")["name"].unique()) == ["one", "two"]
    assert "<p>first of two</p>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    on_stdin(monkeypatch, data)
    assert cli.main(["ism", "-", "-o", "out"]) == 0
    assert sorted(path.name for path in Path("out").glob("*.tsv")) == ["one.tsv", "two.tsv"]


@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_bare_bases_come_from_standard_input_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_stdin(monkeypatch, b"acgttgca\nacgt\n")
    assert cli.main(["report", "-", "-o", "r.html"]) == 0
    assert "".join(pd.read_csv("r.tsv", sep="\t").drop_duplicates("position")["ref"]) == "ACGTTGCAACGT"
    for command in (["report", "-", "-o", "r.html"], ["ism", "-", "-o", "out"]):
        on_stdin(monkeypatch, b"")
        assert cli.main(command) == 2
        assert "standard input holds no FASTA record" in capsys.readouterr().err


def test_tables_keep_the_letters_of_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["RHO_Enh", "rho_enh", "gène/ü", "ü", "ö", ".hidden", "n" * 4000, "中" * 300, "///"]
    records = "".join(f">{name}\nACGT\n" for name in names)
    (tmp_path / "x.fa").write_text(records, encoding="utf-8")
    assert cli.main(["ism", "x.fa", "-o", "out"]) == 0
    files = [Path(line).stem for line in capsys.readouterr().out.splitlines()]
    assert files == ["RHO_Enh", "rho_enh_2", "gène_ü", "ü", "ö", "hidden", "n" * 200, "中" * 66, "_"]
    assert [set(pd.read_csv(f"out/{file}.tsv", sep="\t")["name"]) for file in files] == [{name} for name in names]
    assert {path.stem for path in Path("out").glob("*.json")} == set(files)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one.tsv", "two.json"])
def test_ism_leaves_other_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "x.fa").write_bytes(FASTA)
    (tmp_path / name).write_text("mine")
    assert cli.main(["ism", "x.fa", "-o", "."]) == 2
    assert f"{name} exists and is not an earlier" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "x.fa"])
    (tmp_path / name).unlink()
    assert cli.main(["ism", "x.fa", "-o", "."]) == 0
    assert cli.main(["ism", "x.fa", "-o", "."]) == 0  # its own are replaced
    (tmp_path / "report.fa").write_bytes(b">one\nACGTTGCAACGT\n")
    assert cli.main(["report", "report.fa", "-o", "one.html"]) == 2  # and those of one command are none of the other's
    (tmp_path / "one.tsv").unlink()
    assert cli.main(["report", "report.fa", "-o", "one.html"]) == 0
    assert cli.main(["ism", "x.fa", "-o", "."]) == 2


def test_ism_does_not_replace_tables_of_other_sequences_or_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.fa").write_bytes(b">first\nACGT\n>one\nACGTNCAAC\n")
    (tmp_path / "b.fa").write_bytes(b">one\nACGTNCAAG\n")
    assert cli.main(["ism", "a.fa", "-o", "out"]) == 0
    before = Path("out/one.tsv").read_bytes()
    assert cli.main(["ism", "b.fa", "-o", "out"]) == 2
    assert "one.tsv holds the table of another sequence. Choose another `out`" in capsys.readouterr().err
    monkeypatch.setattr("crossdna_interpret.cli.sequences.model_hash", lambda model: "0")
    assert cli.main(["ism", "a.fa", "-o", "out"]) == 2
    assert "first.tsv holds the table of another model. Choose another `out`" in capsys.readouterr().err
    assert Path("out/one.tsv").read_bytes() == before
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ism", "a.fa", "-o", "out"]) == 0


def test_an_error_late_in_a_file_keeps_what_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.fa").write_bytes(FASTA + b">three\nACGT\n")

    def failing(sequence: str, *args: object, **options: object) -> cdi.Mutagenesis:
        if sequence == "ACGT":
            raise MemoryError("A sequence of 4 bases needs\nabout 9.9 GB")
        return cdi.ism(sequence, *args, **options)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr("crossdna_interpret.attribution.mutagenesis.ism", failing)
    assert cli.main(["ism", "x.fa", "-o", "out"]) == 2
    captured = capsys.readouterr()
    assert captured.out.split() == ["out/one.tsv", "out/two.tsv"]
    (line,) = [line for line in captured.err.splitlines() if "needs" in line]
    assert "three: A sequence of 4 bases needs about 9.9 GB" in line
    assert line.endswith("(2 of 3 sequences are finished: their tables are in out)")
    assert sorted(path.name for path in Path("out").iterdir()) == ["one.json", "one.tsv", "two.json", "two.tsv"]


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell has set
import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.attribution import mutagenesis

original = mutagenesis.ism

def ism(sequence, *args, **options):
    if len(sequence) == 8:
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    return original(sequence, *args, **options)

mutagenesis.ism = ism
from crossdna_interpret.report import sequences
sequences.ism = ism
sys.exit(cli.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", [["ism", "x.fa", "-o", "out"], ["report", "x.fa", "-o", "r.html"]])
def test_ctrl_c_ends_in_one_line_and_keeps_what_is_finished(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x.fa").write_bytes(FASTA)
    words = [sys.executable, "-c", INTERRUPTED, *command]
    lines = []
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        for line in started.stderr:
            lines.append(line)
            if line == "waiting\n":
                started.send_signal(signal.SIGINT)
    assert started.returncode == 130
    assert "Traceback" not in "".join(lines)
    assert lines[-1].startswith("crossdna-interpret: interrupted (1 of 2 sequences are finished: ")
    if command[0] == "ism":
        assert sorted(path.name for path in Path("out").iterdir()) == ["one.json", "one.tsv"]
        assert lines[-1].endswith("their tables are in out)\n")
    else:
        assert lines[-1].endswith("they are in r.html)\n")
        assert "crossdna-interpret: one is finished, 1 of 2\n" in lines
        assert set(pd.read_csv("r.tsv", sep="\t")["name"]) == {"one"}
        assert "This page has 1 of 2 sequences" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crossdna_interpret.CompletenessWarning")
def test_sequences_outside_of_the_training_range_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, problem = cdi.example().sequence, cdi.outside_training(cdi.load_model(), SEQUENCE)
    (tmp_path / "x.fa").write_text(f">in\n{inside}\n>out\n{SEQUENCE}\n")
    said = f"crossdna-interpret: out: {problem}. retina-enhancer extrapolates.\n"
    assert cli.main(["ism", "x.fa", "-o", "out"]) == 0
    assert capsys.readouterr().err == said
    assert set(pd.read_csv("out/out.tsv", sep="\t")["outside_training"]) == {problem}
    assert pd.read_csv("out/in.tsv", sep="\t")["outside_training"].isna().all()
    assert cli.main(["report", SEQUENCE, "-o", "r.html"]) == 0
    assert capsys.readouterr().err == said.replace(" out: ", " sequence: ")
    assert f"{problem}." in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_models_lists_and_shows_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("retina-enhancer\t")
    assert "mouse retina" in out
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

    monkeypatch.setattr(subprocess, "run", run)
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
        (["report", "ACGT", "-o", "x.tsv"], "must not end in .tsv"),
        (["report", "ACGT", "-o", "x.pdf"], "must end in .html"),
        (["report", "enhancers"], "There is no file 'enhancers' either"),
        (["report", "ACGT", "--device", "gpu"], "`device` must be such as 'cpu'"),
        (["report", "ACGT", "-o", "n" * 300], "File name too long"),
        (["ism", "nowhere.fa", "-o", "out", "--target", "x"], "nowhere.fa is not a file"),
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


@pytest.mark.slow
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
    with pytest.raises(SystemExit) as stop:  # the help needs no Lightning
        cli.main(["train", "finetune", "--help"])
    assert stop.value.code == 0
    assert "--table" in capsys.readouterr().out


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
    result = pd.read_csv("out.tsv", sep="\t").set_index("parent")["r"]
    assert f"mean r {result.mean():.3f}, median r {result.median():.3f}, 2 enhancers" in printed
    for parent, group in table.groupby("parent"):
        base = group["base_sequence"].iloc[0]
        measured = pd.DataFrame({"sequence": group["sequence"], "effect": group["log2_activity"]})
        scored = cdi.score_edits(base, [cdi.edit_to(base, each) for each in group["sequence"]])
        assert cdi.compare_with_measured(scored, measured).r == pytest.approx(result[parent], abs=1e-4)


def test_scanning_does_not_overwrite_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    assert cli.main(["scanning", "x.tsv", "-o", "./x.tsv"]) == 2
    assert "`out` x.tsv is a table that is read" in capsys.readouterr().err
    assert (tmp_path / "x.tsv").read_text() == "a\tb\n1\t2\n"


def test_scanning_of_another_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    assert cli.main(["scanning", "x.tsv"]) == 2
    assert "lacks the columns ['parent'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # of a random model
def test_the_first_of_several_targets_is_taken_with_a_note(
    tmp_path: Path, make_model: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_crossdna(make_model(targets=("one", "two")), tmp_path / "model", card="# Toy\n")
    assert cli.main(["ism", SEQUENCE, "-o", "out", "--model", str(folder)]) == 0
    assert set(pd.read_csv("out/sequence.tsv", sep="\t")["target"]) == {"one", "two"}
    capsys.readouterr()
    assert cli.main(["report", SEQUENCE, "-o", "r.html", "--model", str(folder)]) == 0
    assert "target one; there are one, two, chosen by --target" in capsys.readouterr().err
    assert "target one" in Path("r.html").read_text(encoding="utf-8")

"""Truth reports on the command line and as a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret import cli
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from crossdna_interpret.report import write_truth_page


@pytest.mark.parametrize("where", ["activity + 1", "keep", "activity"])
def test_a_condition_that_is_not_true_or_false_is_refused(
    where: str, table: pd.DataFrame, tmp_path: Path, make_model: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_crossdna(make_model(targets=("activity",)), tmp_path / "model", card="# Toy\n")
    table.assign(keep=[row % 2 for row in range(len(table))]).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    words = ["truth", str(folder), str(tmp_path / "t.tsv"), "--measured", "activity", "--where", where]
    assert cli.main(words) == 2
    assert f"`where` {where!r} must be true or false for each row" in capsys.readouterr().err


def test_a_family_may_be_named_null(
    table: pd.DataFrame, tmp_path: Path, make_model: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_crossdna(make_model(targets=("activity",)), tmp_path / "model", card="# Toy\n")
    table.replace({"family": {"f0": "NA", "f1": "null"}}).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    assert cli.main(["truth", str(folder), str(tmp_path / "t.tsv"), "--measured", "activity"]) == 0


def test_the_page_shows_all_of_it(report: cdi.TruthReport, model: cdi.SequenceModel, tmp_path: Path) -> None:
    page, table = write_truth_page(report, tmp_path / "truth.html", model, worst=2)
    text = page.read_text(encoding="utf-8")
    assert text.count("<img ") == 1 + 2
    assert f"{100 * report.coverage:.1f} %" in text
    assert "motif at the changed base" in text
    assert len(pd.read_csv(table, sep="\t")) == len(report)
    write_truth_page(report, page, model, worst=1)  # an earlier one is replaced
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine.html exists and is not an earlier truth report"):
        write_truth_page(report, tmp_path / "mine.html", model)


def test_the_command_prints_and_writes(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_model: Callable
) -> None:
    trained = make_model(targets=("activity",))
    folder = save_crossdna(trained, tmp_path / "model", card="# Toy\n")
    path = tmp_path / "table.tsv"
    table.to_csv(path, sep="\t", index=False)
    words = ["truth", str(folder), str(path), "--measured", "activity", "--where", "activity < 100"]
    assert cli.main([*words, "-o", str(tmp_path / "t.html")]) == 0
    out = capsys.readouterr().out
    assert "r_changes" in out
    assert "transversion" in out
    assert (tmp_path / "t.html").is_file()
    assert cli.main([*words[:-1], "nothing > 1"]) == 2
    assert "`where` 'nothing > 1' is not a condition on" in capsys.readouterr().err
    assert cli.main([*words[:-1], "activity = 1"]) == 2
    assert "equality is ==" in capsys.readouterr().err
    numbered = table.assign(family=pd.factorize(table["family"])[0])
    numbered.to_csv(path, sep="\t", index=False)
    assert cli.main([*words[:-1], "family != 0"]) == 0
    own = cdi.truth_report(numbered[numbered["family"] != 0], trained, measured="activity")
    assert f"{len(own):,}  changes" in capsys.readouterr().out
    assert cli.main([*words[:-1], "family == 99999"]) == 2
    assert f"is true for none of {len(table):,} rows" in capsys.readouterr().err
    numbered.assign(activity=[*numbered["activity"][:-1], "abc"]).to_csv(path, sep="\t", index=False)
    assert cli.main([*words[:-1], "family > 1"]) == 2
    assert f"`table` row {len(table) - 1}: activity must be a finite number" in capsys.readouterr().err
    table.to_csv(path, index=False)
    assert cli.main(words) == 2
    assert "must be separated by tabs" in capsys.readouterr().err


def test_a_page_of_another_model_is_refused(report: cdi.TruthReport, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`model` retina-enhancer is not the model of the report, Weighted"):
        write_truth_page(report, tmp_path / "t.html")
    assert not list(tmp_path.iterdir())

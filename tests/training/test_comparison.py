"""The comparison: each model trains in the same script, finished runs are not repeated, and the table is complete."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from crossdna_interpret.dna import strand
from crossdna_interpret.training.recipes.retina import comparison
from crossdna_interpret.training.recipes.retina.comparison import MODELS, OneStrand, main, table
from crossdna_interpret.training.recipes.retina.enhancer import CONFIG
from tests.training.mpra_tables import mpra_table, write_split

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning has much to say about small data


@pytest.mark.slow
def test_every_model_is_trained_once_for_each_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path, "train", mpra_table(16).assign(n_barcodes=3))
    write_split(tmp_path, "valid", mpra_table(12, seed=1).assign(n_barcodes=3))
    words = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--epochs", "1", "--batch", "8", "--seeds", "2"]
    assert main([*words, "--only", "5-mer ridge", "CrossDNA, one strand"]) == 0
    assert "| CrossDNA, one strand |" in capsys.readouterr().out
    assert main(words) == 0
    out = capsys.readouterr().out
    result = pd.read_csv(tmp_path / "run" / "results.tsv", sep="\t")
    assert result.groupby("model", sort=False).size().to_dict() == {"5-mer ridge": 1, **dict.fromkeys(MODELS, 2)}
    assert result["r"].between(-1, 1).all()
    assert out.count("\n") == 2 + 1 + len(MODELS)
    one = result[result["model"] == "CrossDNA, one strand"]["parameters"].iloc[0]
    assert one < 0.6 * result[result["model"] == "CrossDNA"]["parameters"].iloc[0]
    monkeypatch.setattr(comparison, "fit", lambda *_: pytest.fail("was done already"))
    assert main(words) == 0
    assert capsys.readouterr().out == out
    (tmp_path / "run" / "residual-CNN-1" / "result.json").write_text(
        json.dumps({"r": 0.5, "r_with_library": 0.6, "parameters": 7, "minutes": 1})
    )
    main(words)
    assert pd.read_csv(tmp_path / "run" / "results.tsv", sep="\t")["r"].eq(0.5).sum() == 1


@pytest.mark.parametrize("name", ["5-mer ridge", "residual CNN"])
def test_what_was_reached_with_other_rows_is_not_shown_for_these(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    first = mpra_table(16).assign(n_barcodes=3)
    write_split(tmp_path, "train", first)
    write_split(tmp_path, "valid", mpra_table(12, seed=1).assign(n_barcodes=3))
    words = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--epochs", "1", "--batch", "8", "--seeds", "1"]
    words += ["--only", name]
    assert main(words) == 0
    shown = capsys.readouterr().out
    write_split(tmp_path, "train", first.assign(log2_activity=-first["log2_activity"]))
    with pytest.raises(ValueError, match=r"holds a run with other settings: content_train\."):
        main(words)
    write_split(tmp_path, "train", first)
    with pytest.raises(ValueError, match=r"other settings: epochs\. epochs: was 1 and is 2\."):
        main([*words, "--epochs", "2"])
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_one_strand_reads_the_forward_strand_alone(make_sequence) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = OneStrand(CONFIG, targets=["y"]).eval()
    x = model.one_hot([make_sequence(300, seed) for seed in range(2)])
    with torch.no_grad():
        as_it_is = model.represent(x, strand.reverse_complement(x))
        assert torch.equal(as_it_is, model.represent(x, torch.zeros_like(x)))
        assert as_it_is.shape == (2, 300, CONFIG.d_model)
        assert not torch.allclose(model(x), model(strand.reverse_complement(x)), atol=1e-4)
        # A branch reads in one direction: what comes later does not reach back.
        later = x.clone()
        later[:, :, 60] = x[:, :, 60].roll(1, dims=1)
        changed = (model.represent(later, x) - as_it_is).abs().amax((0, 2)) > 1e-6
    assert not changed[:56].any()  # the stem sees four positions ahead
    assert changed[60:100].any()


def test_the_table_has_mean_and_spread() -> None:
    rows = pd.DataFrame(
        {
            "model": ["a", "b", "b"], "seed": [0, 0, 1], "r": [0.3, 0.5, 0.6], "r_with_library": [0.4, 0.6, 0.8],
            "parameters": [10, 2000, 2000], "minutes": [1, 1, 1],
        }
    )  # fmt: skip
    lines = table(rows).splitlines()
    assert lines[2] == "| a | 10 | 0.300 | 0.400 | 1 |"
    assert lines[3] == "| b | 2,000 | 0.550 ± 0.071 | 0.700 ± 0.141 | 2 |"

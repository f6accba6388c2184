"""Agreement of the mutagenesis maps of two models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.models.crossdna.config import CrossDNAConfig
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.training.recipes.stability import agreement_of_maps, main

CONFIG = CrossDNAConfig(d_model=8, depth=1, comba_heads=2, comba_head_dim=4, attention_heads=2)


def small(seed: int, *targets: str) -> CrossDNA:
    torch.manual_seed(seed)
    model = CrossDNA(CONFIG, targets=targets or ["a", "b"]).eval()
    model.name = f"small {seed}"
    return model


def test_agreement_is_the_correlation_of_all_substitutions() -> None:
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGT"), 20)) for _ in range(2)]
    models = small(1), small(2)
    expected = []
    for sequence in sequences:
        mutants = [sequence[:at] + b + sequence[at + 1 :] for at in range(20) for b in "ACGT" if b != sequence[at]]
        with torch.no_grad():
            effects = [model(model.one_hot(mutants)) - model(model.one_hot(sequence)) for model in models]
        expected.append([np.corrcoef(effects[0][:, t], effects[1][:, t])[0, 1] for t in range(2)])
    np.testing.assert_allclose(agreement_of_maps(*models, sequences), expected, atol=1e-4)


def test_a_model_agrees_with_itself() -> None:
    np.testing.assert_allclose(agreement_of_maps(small(1), small(1), ["ACGTACGATCGTA"]), 1.0)


def test_letters_may_be_small_and_unknown() -> None:
    large, small_letters = "ACGTNACGATCGTA", "acgtnacgatcgta"
    models = small(1), small(2)
    np.testing.assert_array_equal(agreement_of_maps(*models, [large]), agreement_of_maps(*models, [small_letters]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "seq"], "--column must be one of sequence, but is seq"),
        (["--rows", "0"], "--rows must be at least 1, but is 0"),
    ],
)
def test_bad_options(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "few.tsv").write_text("sequence\nACGT\n")
    with pytest.raises(SystemExit):
        main(["yeast-promoter", "yeast-promoter", "--table", str(tmp_path / "few.tsv"), *words])
    assert message in capsys.readouterr().err


def test_other_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="must have the targets"):
        agreement_of_maps(small(1), small(2, "c", "d"), ["ACGTACGATCGTA"])


def test_the_script_prints_each_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = cdi.example_families().head(3)
    pd.DataFrame({"sequence": table["sequence"]}).to_csv(tmp_path / "few.tsv", sep="\t", index=False)
    main(["yeast-promoter", "yeast-promoter", "--table", str(tmp_path / "few.tsv"), "--rows", "2"])
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"complex", "defined"}
    assert printed["complex"]["sequences"] == 2
    assert printed["complex"]["mean"] == pytest.approx(1.0)

"""What the README says is true: its code runs, its numbers are the model's, and its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ONE_LINE = " ".join(README.split())


@pytest.mark.slow
def test_its_code_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "path/to/checkpoint" in code
    try:
        exec(compile(code.replace("path/to/checkpoint", "retina-enhancer"), "README.md", "exec"), {})
    finally:
        plt.close("all")


def test_its_numbers_are_those_of_the_bundled_model() -> None:
    model = cdi.load_model()
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in README
    config = Path(cdi.__file__).parent / "assets" / "models" / "retina-enhancer" / "config.json"
    facts = json.loads(config.read_text(encoding="utf-8"))["provenance"]
    with_library = facts["valid_r_both_strands_with_library"]
    assert f"r = {facts['valid_r']:.2f}, the same in either orientation ({with_library:.2f} with the offset" in ONE_LINE
    assert facts["valid_r_between_strands"] == 1
    assert f"the mean r is {facts['scanning_valid_r']:.2f}" in README
    assert f"{facts['crx_r']:.2f} over {facts['crx_pairs']} held-out pairs" in README
    keys = (f"crx_{pairs}_{what}" for pairs in ("large", "active") for what in ("same_sign", "fall"))
    signs = [f"{100 * facts[key]:.1f} %" for key in keys]
    assert "in {} of the pairs ({} fall); if the enhancer was active, in {} ({} fall)".format(*signs) in ONE_LINE
    assert f"{facts['valid_r_both_strands']:.2f}" == f"{facts['valid_r']:.2f}"


def test_its_comparison_is_what_the_script_wrote() -> None:
    comparison = pytest.importorskip("crossdna_interpret.training.recipes.retina.comparison", reason="not in the wheel")
    results = pd.read_csv(ROOT / "tests" / "measured" / "comparison.tsv", sep="\t")
    assert comparison.table(results) in README
    # What it concludes: three are within each other's spread, and the single strand is behind them.
    of = results.groupby("model")["r"].agg(["mean", "std"])
    close = of.loc[["residual CNN", "CrossDNA, no bridge", "CrossDNA"]]
    assert np.ptp(close["mean"]) < close["std"].max()
    assert of.loc["CrossDNA, one strand"].sum() < close["mean"].min()
    assert of.loc["5-mer ridge", "mean"] < close["mean"].min()


def test_its_links_lead_somewhere() -> None:
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(targets) >= 3
    assert all((ROOT / target).exists() for target in targets)

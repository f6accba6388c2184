"""The README and the documentation pages: code runs, numbers agree with the model, links work."""

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
PAGES = ROOT / "tutorials" / "docs" / "pages"
MODEL = (PAGES / "bundled_models.md").read_text(encoding="utf-8")
ONE_LINE = " ".join(MODEL.split())
TEXTS = [ROOT / "README.md", *sorted(PAGES.glob("*.md"))]


def measured() -> pd.DataFrame:
    """A table such as the tour reads: mutants of ten sequences. The measurements are made up."""
    random = np.random.default_rng(0)
    rows = []
    for family in range(10):
        start = "".join(random.choice(list("ACGT"), 164))
        rows += [(start[:at] + "A" + start[at + 1 :], family, random.normal()) for at in range(70, 78)]
    return pd.DataFrame(rows, columns=["sequence", "family", "activity"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "tour.md", "add_a_family.md"])
def test_its_code_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measured().to_csv("measured.tsv", sep="\t", index=False)
    (path,) = [each for each in TEXTS if each.name == name]
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    code = "\n".join(blocks)
    try:
        exec(compile(code.replace("path/to/checkpoint", "retina-enhancer"), name, "exec"), {})
    finally:
        plt.close("all")


def test_its_numbers_are_those_of_the_bundled_model() -> None:
    model = cdi.load_model()
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in MODEL
    config = Path(cdi.__file__).parent / "assets" / "models" / "retina-enhancer" / "config.json"
    facts = json.loads(config.read_text(encoding="utf-8"))["provenance"]
    with_library = facts["valid_r_both_strands_with_library"]
    assert f"at Pearson r = {facts['valid_r']:.2f}, in either orientation." in ONE_LINE
    assert f"If the offset of the library is added to the prediction, r is {with_library:.2f}." in ONE_LINE
    assert facts["valid_r_between_strands"] == 1
    assert f"the mean r is {facts['scanning_valid_r']:.2f}" in MODEL
    assert f"{facts['crx_r']:.2f} over {facts['crx_pairs']} held-out pairs" in MODEL
    keys = (f"crx_{pairs}_{what}" for pairs in ("large", "active") for what in ("same_sign", "fall"))
    signs = [f"{100 * facts[key]:.1f} %" for key in keys]
    assert f"In {facts['crx_large']} of them the measured activity changes more than twofold." in ONE_LINE
    assert (
        "has the measured sign in {} of these pairs; always predicting a decrease would be right in {}.".format(
            *signs[:2]
        )
        in ONE_LINE
    )
    assert (
        "Among active enhancers it is right in {}, and always predicting a decrease in {}.".format(*signs[2:])
        in ONE_LINE
    )
    assert f"{facts['valid_r_both_strands']:.2f}" == f"{facts['valid_r']:.2f}"
    assert f"| {facts['valid_r']:.2f} | {facts['scanning_valid_r']:.2f} (scanning mutagenesis of three" in README


def test_its_numbers_are_those_of_the_model_of_yeast_promoters() -> None:
    config = Path(cdi.__file__).parent / "assets" / "models" / "yeast-promoter" / "config.json"
    facts = json.loads(config.read_text(encoding="utf-8"))["provenance"]
    assert f"r = {facts['valid_r']:.3f} in complex medium and {facts['valid_r_1']:.3f} in defined medium." in MODEL
    changes, large = f"{facts['valid_changes']:,.0f}", f"{facts['valid_large']:,.0f}"
    assert f"{changes} pairs of one family: r = {facts['valid_r_changes']:.3f}." in MODEL
    assert f"Of the {large} changes above 1, {100 * facts['valid_signs']:.1f} % have the predicted sign." in MODEL
    assert f"a measured change of {facts['slope']:.2f}. {100 * facts['coverage']:.1f} % of the measured" in MODEL
    assert f"correlate at r = {facts['r_of_strands']:.2f}." in MODEL
    assert f"trained on {facts['train']:,} sequences" in MODEL
    last = [facts[key].split(", ")[-1] for key in ("teacher_r", "teacher_r_changes")]
    assert "reach r = {} together, and {} for the changes".format(*last) in MODEL
    count = f"{facts['parameters']:,}"
    reached = f"| {facts['valid_r']:.2f} | {facts['valid_r_changes']:.2f} ({changes} changes of one to four bases)"
    for text in (README, MODEL):
        assert f"{count}, 3.9 MB" in text
    assert reached in README


def test_its_comparison_is_what_the_script_wrote() -> None:
    comparison = pytest.importorskip("crossdna_interpret.training.recipes.retina.comparison", reason="not in the wheel")
    results = pd.read_csv(ROOT / "tests" / "measured" / "comparison.tsv", sep="\t")
    assert comparison.table(results) in MODEL
    # What it concludes: three are within each other's spread, and the single strand is behind them.
    of = results.groupby("model")["r"].agg(["mean", "std"])
    close = of.loc[["residual CNN", "CrossDNA, no bridge", "CrossDNA"]]
    assert np.ptp(close["mean"]) < close["std"].max()
    assert of.loc["CrossDNA, one strand"].sum() < close["mean"].min()
    assert of.loc["5-mer ridge", "mean"] < close["mean"].min()


def test_numbers_of_the_readme_are_those_of_the_benchmarks() -> None:
    table = (PAGES / "benchmarks.md").read_text(encoding="utf-8")
    (small,) = re.findall(r"a 164 bp enhancer, bundled model \| ([\d.]+ s) .*\| ([\d.]+) times as long", table)
    (long,) = re.findall(r"128 of 4,096 bp, 16 blocks.*\| (\d+) times", table)
    assert f"takes {small[0]} on two cores" in README
    assert f"takes {small[1]} times as long on the same model, and {long} times as long for" in README


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_its_links_lead_somewhere(path: Path) -> None:
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")) if "://" not in link]
    assert len(targets) >= 3 or path.name != "README.md"
    # The tutorials become pages when the documentation is built.
    names = [re.sub(r"^tutorials/(\d.*)\.md$", r"../../\1.ipynb", target) for target in targets]
    assert [name for name in names if not (path.parent / name).exists()] == []


def test_every_public_name_is_in_the_reference() -> None:
    text = (PAGES / "reference.md").read_text(encoding="utf-8")
    described = [line.split(".")[-1] for line in text.splitlines() if line.startswith("::: ")]
    assert sorted(described) == cdi.__all__

"""The bundled model against measurements on held-out chromosomes: the numbers of the card and the README."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crossdna_interpret as cdi
from crossdna_interpret.measured.laboratory import crx_pairs, paired_with_mutant, scanning
from crossdna_interpret.motifs.collection import from_database
from tests.conftest import SHARED

pytestmark = pytest.mark.slow

# Homeodomains with lysine at position 50 and their like, which bind what CRX binds.
K50 = {"CRX", "DMBX1", "GSC", "GSC2", "OTX1", "OTX2", "PITX1", "PITX2", "PITX3"}


@pytest.fixture(scope="module")
def facts() -> dict[str, float]:
    folder = Path(cdi.__file__).parent / "assets" / "models" / "retina-enhancer"
    result: dict[str, float] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["provenance"]
    return result


def predict(seqs: list[str]) -> np.ndarray:
    return cdi.predict(seqs)[:, 0]


def test_scanning_mutagenesis(shared: Path, facts: dict[str, float]) -> None:
    for split, count in (("valid", 3), ("train", 19)):
        table = scanning(shared / "data" / "retina_mpra" / f"scanning_{split}.tsv.gz", predict)
        assert len(table) == count
        assert table["r"].mean() == pytest.approx(facts[f"scanning_{split}_r"], abs=0.005)
        assert table["r"].mean() >= 0.25


def test_enhancers_without_their_crx_sites(shared: Path, facts: dict[str, float]) -> None:
    pairs = crx_pairs(shared / "data" / "retina_mpra" / "valid.tsv.gz", predict)
    assert len(pairs) == facts["crx_pairs"]
    assert np.corrcoef(pairs["measured"], pairs["predicted"])[0, 1] == pytest.approx(facts["crx_r"], abs=0.005)


def large_changes(shared: Path) -> pd.DataFrame:
    pairs = crx_pairs(shared / "data" / "retina_mpra" / "valid.tsv.gz", predict)
    large = pairs[pairs["measured"].abs() > 1]
    return large.assign(same=np.sign(large["measured"]) == np.sign(large["predicted"]))


def test_in_active_enhancers_large_effects_of_crx_sites_have_the_measured_sign(
    shared: Path, facts: dict[str, float]
) -> None:
    large = large_changes(shared)
    # Above the promoter alone. Nine of ten of these fall, so that the sign says little; of all pairs it says more.
    active = large[large["activity"] > 0]
    assert len(large) == facts["crx_large"]
    assert len(active) == facts["crx_active"]
    assert large["same"].mean() == pytest.approx(facts["crx_large_same_sign"], abs=0.01)
    assert active["same"].mean() == pytest.approx(facts["crx_active_same_sign"], abs=0.01)
    assert active["same"].mean() >= 0.75


def test_deleting_annotated_crx_sites_of_active_enhancers_acts_as_measured(shared: Path) -> None:
    pairs = paired_with_mutant(shared / "data" / "retina_mpra" / "valid.tsv.gz")
    measured = (pairs["log2_activity_mutant"] - pairs["log2_activity_wild"]).to_numpy()
    chosen = (np.abs(measured) > 1) & (pairs["log2_activity_wild"].to_numpy() > 0)
    seqs, measured = pairs["sequence_wild"][chosen].tolist(), measured[chosen]
    # With any p from 1e-4 to 5e-3 it is 80 % to 90 %; of all enhancers, silencers included, 67 % to 75 %.
    crx = {motif.name: motif.probabilities for motif in from_database("vertebrates") if motif.name.upper() in K50}
    rng, mutants, having = np.random.default_rng(0), [], []
    for index, sites in cdi.scan(seqs, crx, p=5e-4).table.groupby("example"):
        inside = np.zeros(len(seqs[index]), dtype=bool)
        for start, end in zip(sites["start"], sites["end"], strict=True):
            inside[start:end] = True
        for _ in range(8):
            bases = np.array(list(seqs[index]))
            bases[inside] = rng.choice(list("ACGT"), inside.sum())
            mutants.append("".join(bases))
        having.append(index)
    assert len(having) >= 100
    change = predict(mutants).reshape(-1, 8).mean(1) - predict([seqs[index] for index in having])
    assert (np.sign(change) == np.sign(measured[having])).mean() >= 0.75


@pytest.mark.xfail(strict=True, reason="71.5 % of 214 pairs; 75 % are wanted")
def test_large_effects_of_crx_sites_have_the_measured_sign(shared: Path) -> None:
    assert large_changes(shared)["same"].mean() >= 0.75


# Factors that photoreceptors and other cells of the retina express.
OF_THE_RETINA = (
    "ASCL1", "ATOH7", "CRX", "ESRRB", "ISL1", "KLF9", "LHX2", "MAF", "MEF2D", "NEUROD1", "NR2E1", "NR2E3", "NRL",
    "ONECUT1", "OTX2", "PAX6", "POU4F2", "PTF1A", "RAX", "RORB", "SOX9", "SP4", "TBX2", "THRB", "VSX2",
)  # fmt: skip


@pytest.fixture(scope="module")
def seqlets_of_the_strongest() -> cdi.Seqlets:
    """Of genomic sequences, by mutagenesis: chosen after the strongest rows of all, designs included, and gradients had
    given other names."""
    shared = SHARED
    if not shared.is_dir():
        pytest.skip("the measured data in ../shared are not part of the repository and are not here")
    table = pd.read_csv(shared / "data" / "retina_mpra" / "valid.tsv.gz", sep="\t")
    enhancers = table[table["id"].str.endswith("_WT")].sort_values("log2_activity", ascending=False)
    strongest = enhancers["sequence"].drop_duplicates().head(100).tolist()  # half a second each
    return cdi.find_seqlets([cdi.ism(sequence) for sequence in strongest])


@pytest.mark.xfail(reason="a site of six bases is too little to be named among a thousand motifs", strict=True)
def test_crx_is_among_the_motifs_that_matter_most(seqlets_of_the_strongest: cdi.Seqlets) -> None:
    sites = cdi.annotate(seqlets_of_the_strongest)
    order = sites.table.groupby("name")["attribution"].sum().sort_values(ascending=False)
    assert K50 & {name.upper() for name in order.index[:3]}


def test_among_factors_of_the_retina_crx_is_one_that_matters_most(seqlets_of_the_strongest: cdi.Seqlets) -> None:
    motifs = [motif for motif in cdi.read_motifs("jaspar-vertebrates") if motif.label.upper() in OF_THE_RETINA]
    assert {motif.label.upper() for motif in motifs} == set(OF_THE_RETINA)
    sites = cdi.annotate(seqlets_of_the_strongest, motifs)
    family = ["K50" if name.upper() in K50 else name for name in sites.table["name"]]  # which no sequence tells apart
    order = sites.table.groupby(family)["attribution"].sum().sort_values(ascending=False)
    assert "K50" in order.index[:3]

"""Inserted motifs are found and named, from the attributions of models of known logic."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import crossdna_interpret as cdi
from crossdna_interpret import Motif
from crossdna_interpret.motifs.collection import RELEASE, find_motif
from tests.motifs.logic import Affinity, Logic, oriented, planted

CASES = 100
# Of many families, short and long.
PLANTED = (
    "CTCF", "REST", "TP53", "Crx", "NRL", "GATA1", "Spi1", "NFYA", "MEF2C", "HNF4A", "SOX2", "RORB", "FOXA1", "ESRRB",
    "CEBPA", "Jun", "TEAD1", "Runx1", "Yy1", "Irf1",
)  # fmt: skip


@pytest.fixture(scope="module", params=[Affinity, Logic])
def cases(request: pytest.FixtureRequest, vertebrates: list[Motif]) -> list[tuple[Motif, int, str, cdi.Mutagenesis]]:
    """A motif in a random sequence, where it is, on which strand, and the mutagenesis of a model that looks for it."""
    result = []
    rng = np.random.default_rng(1)
    for case in range(CASES):
        motif = find_motif(PLANTED[case % len(PLANTED)], vertebrates)
        start, strand = int(rng.integers(10, 140 - motif.width)), "+-"[rng.integers(2)]
        sequence = planted("".join(rng.choice(list("ACGT"), 150)), (start, oriented(motif, strand)))
        result.append(
            (motif, start, strand, cdi.ism(sequence, request.param([motif], lambda occupied: occupied[:, 0])))
        )
    return result


@pytest.fixture(scope="module")
def families() -> dict[str, list[str]]:
    """Class of the factor of each motif, as JASPAR has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyjaspar import jaspardb

        result = jaspardb(release=RELEASE).fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    return {motif.matrix_id: motif.tf_class for motif in result}


@pytest.mark.slow
def test_planted_motifs_are_found_and_named_on_the_right_strand(cases: list, families: dict[str, list[str]]) -> None:
    computed = named = of_family = exactly = on_strand = 0
    for motif, start, strand, result in cases:
        seqlets = cdi.find_seqlets(result, sign=1)
        here = seqlets.table[(seqlets.table["start"] < start + motif.width) & (seqlets.table["end"] > start)]
        computed += len(here) > 0
        sites = cdi.annotate(seqlets).table
        over = sites[(sites["start"] < start + motif.width) & (sites["end"] > start)]
        if over.empty:
            continue
        best = over.loc[over["p_value"].idxmin()]
        assert best["q_value"] <= 0.05
        named += motif.label in [best["name"], *best["also"].split(", ")]
        of_family += families[best["motif"]] == families[motif.id]
        if best["motif"] == motif.id:
            exactly += 1
            palindrome = oriented(motif, "+") == oriented(motif, "-")
            on_strand += palindrome or (best["strand"], best["start"]) == (strand, start)
    assert computed >= 95
    assert named >= 95
    assert of_family >= 95
    assert on_strand >= 0.95 * exactly

"""Effects of single motifs, of distances and of pairs: against models of known logic, and against tangermeme."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tangermeme.marginalize import marginalize as tangermeme_marginalize
from tangermeme.space import space as tangermeme_space
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret import Motif
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.models.crossdna.exchange import without_messages
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.collection import find_motif
from tests.motifs.logic import Logic, oriented, planted


class FourChannels(nn.Module):
    """A model as tangermeme calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.model.dtype)
        return self.model(torch.cat([x, 1 - x.sum(1, keepdim=True)], dim=1))


def channels(seqs: list[str]) -> Tensor:
    return torch.from_numpy(np.stack([alphabet.one_hot(alphabet.encode(seq), np.float32)[:4] for seq in seqs]))


@pytest.fixture
def two(vertebrates: list[Motif]) -> tuple[Motif, Motif]:
    return find_motif("CTCF", vertebrates), find_motif("Irf1", vertebrates)


# Marginalization


@pytest.mark.parametrize("start", [None, 3])
def test_marginalization_is_tangermemes(start: int | None, model: CrossDNA, make_sequence: Callable) -> None:
    backgrounds = [make_sequence(61, seed=seed) for seed in range(5)]
    result = cdi.marginalize("TAATNCC", model, backgrounds=backgrounds, start=start)
    for row, motif in enumerate(("TAATNCC", "GGNATTA")):
        expected = tangermeme_marginalize(FourChannels(model), channels(backgrounds), motif, start=start, device="cpu")
        np.testing.assert_allclose(result.before, expected.y_before, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.after[row], expected.y_after, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.effect, (result.after - result.before).mean(axis=(1, 2)), rtol=0, atol=1e-7)


def test_marginalization_by_name(two: tuple[Motif, Motif]) -> None:
    ctcf, _ = two
    model = Logic([ctcf], lambda occupied: occupied[:, 0])
    result = cdi.marginalize("ctcf", model)
    assert (result.motif, result.string) == ("CTCF", ctcf.consensus)
    assert result.effect.min() > 0.9
    np.testing.assert_array_equal(cdi.marginalize(ctcf, model).after, result.after)
    assert cdi.marginalize(ctcf.id, model).string == ctcf.consensus


def test_backgrounds_are_the_same_every_time_and_of_no_seed_but_their_own(model: CrossDNA) -> None:
    one, again, other = (cdi.marginalize("TAATCC", model, seed=seed).backgrounds for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 48


# Spacing


def test_spacing_is_tangermemes(model: CrossDNA, make_sequence: Callable) -> None:
    backgrounds = [make_sequence(70, seed=seed) for seed in range(3)]
    distances = [0, 5, 11]
    result = cdi.spacing("TAATCC", "CAGCTGT", model, distances=distances, backgrounds=backgrounds)
    for order in (0, 1):
        for strand, other in enumerate(("CAGCTGT", "ACAGCTG")):
            motifs = ["TAATCC", other] if order == 0 else [other, "TAATCC"]
            models = channels(backgrounds)
            expected = tangermeme_space(FourChannels(model), models, motifs, [[d] for d in distances], device="cpu")
            np.testing.assert_allclose(result.both[order, strand], expected.y_afters[..., 0].T, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.background, expected.y_before[:, 0], rtol=0, atol=1e-6)


class Spaced(Logic):
    """Two motifs that count together at one distance, order and relative orientation, and otherwise by themselves."""

    def __init__(self, motifs: tuple[Motif, Motif], distance: int, order: str, strand: str) -> None:
        super().__init__(motifs, lambda occupied: occupied[:, 0])
        self.distance, self.order, self.strand = distance, order, strand

    def forward(self, x: Tensor) -> Tensor:
        a, b = (self.sites(x, motif) for motif in self.motifs)
        alone = sum(0.5 * (1 - (1 - each).prod(2).prod(1)) for each in (a, b))
        return (alone + self._paired(a, b)).unsqueeze(1)

    def _paired(self, a: Tensor, b: Tensor) -> Tensor:
        """Of either orientation of the pair, by how near the distance is to the best."""
        total = torch.zeros(len(a), dtype=a.dtype)
        width_a, width_b = (motif.width for motif in self.motifs)
        for reverse in (0, 1):
            with_b = reverse if self.strand == "+" else 1 - reverse
            a_first = (self.order == "a-b") != bool(reverse)
            first, second = (a[:, reverse], b[:, with_b]) if a_first else (b[:, with_b], a[:, reverse])
            step = width_a if a_first else width_b
            for distance in range(self.distance - 6, self.distance + 7):
                if distance < 0:
                    continue
                weight = float(np.exp(-((distance - self.distance) ** 2) / 8))
                shift = step + distance
                count = min(first.shape[1], second.shape[1] - shift)
                total = total + weight * (first[:, :count] * second[:, shift : shift + count]).sum(1)
        return total


@pytest.mark.parametrize(("distance", "order", "strand"), [(7, "a-b", "+"), (12, "b-a", "-"), (4, "a-b", "-")])
def test_the_optimal_spacing_is_recovered(distance: int, order: str, strand: str, two: tuple[Motif, Motif]) -> None:
    result = cdi.spacing(*two, Spaced(two, distance, order, strand), distances=range(0, 21))
    best = result.best
    assert (best["distance"], best["order"], best["strand"]) == (distance, order, strand)
    assert {type(value) for value in best.values()} == {str, int, float}  # which print as numbers
    table = result.to_dataframe()
    strongest = table.loc[table["interaction"].idxmax()]
    assert (strongest["distance"], strongest["order"], strongest["strand"]) == (distance, order, strand)
    others = table[(table["order"] != order) | (table["strand"] != strand)]
    assert others["interaction"].abs().max() < 0.2 * strongest["interaction"]


# Interactions

RULES = {
    "synergistic": lambda occupied: occupied[:, 0] * occupied[:, 1],
    "redundant": lambda occupied: 1 - (1 - occupied[:, 0]) * (1 - occupied[:, 1]),
    "additive": lambda occupied: occupied[:, 0] + occupied[:, 1],
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", RULES)
def test_and_or_and_sums_are_told_apart(
    kind: str, sign: int, two: tuple[Motif, Motif], make_sequence: Callable
) -> None:
    model = Logic(two, lambda occupied: sign * RULES[kind](occupied))
    right = 0
    for seed in range(10):
        strands = "+-"[seed % 2], "+-"[seed // 2 % 2]
        places = [(20, oriented(two[0], strands[0])), (70 + seed, oriented(two[1], strands[1]))]
        sequence = planted(make_sequence(120, seed=seed), *places)
        sites = cdi.scan(sequence, list(two), p=1e-6)
        assert list(sites.table["start"]) == [20, 70 + seed]
        result = cdi.motif_interactions(sites, model, seed=seed)
        assert result.through_exchange is None
        right += result.kinds == [kind]
    assert right == 10


def test_interactions_are_what_predictions_say(model: CrossDNA, make_sequence: Callable) -> None:
    """By hand: each site, and both, replaced by the same span of shuffles, with and without messages."""
    sequence = make_sequence(60, seed=3)
    sites = cdi.scan(sequence, {"one": np.eye(4)[alphabet.encode(sequence[10:20])].T,
                                "two": np.eye(4)[alphabet.encode(sequence[30:40])].T}, p=1e-5)  # fmt: skip
    assert sites.table[["start", "end"]].values.tolist() == [[10, 20], [30, 40]]
    result = cdi.motif_interactions(sites, model, shuffles=5, seed=2)
    drawn = [alphabet.decode(ids) for ids in dinucleotide_shuffles(sequence, 5, 2)]

    def cut(*spans: tuple[int, int]) -> list[str]:
        return [planted(sequence, *((start, each[start:end]) for start, end in spans)) for each in drawn]

    def by_hand(models: nn.Module) -> float:
        own, a, b, both = (
            cdi.predict(seqs, models)[:, 0].mean()
            for seqs in ([sequence], cut((10, 20)), cut((30, 40)), cut((10, 20), (30, 40)))
        )
        return own - a - b + both

    assert result.interaction == pytest.approx([by_hand(model)], abs=1e-5)
    assert result.through_exchange == pytest.approx([by_hand(model) - by_hand(without_messages(model))], abs=1e-5)
    assert result.matrix[0, 1] == result.matrix[1, 0] == result.interaction[0]
    assert result.to_dataframe()["distance"].tolist() == [10]


def test_sites_that_overlap_make_no_pair(model: CrossDNA) -> None:
    sites = cdi.scan("ACGTTGACCTTGACCTGTAA", {"T": np.eye(4)[[3, 2, 0, 1, 1]].T}, p=0.01)
    spans = list(zip(sites.table["start"], sites.table["end"], strict=True))
    result = cdi.motif_interactions(sites, model, shuffles=3)
    for one, other in result.pairs:
        assert spans[one][1] <= spans[other][0]


def test_from_mutagenesis_at_once(two: tuple[Motif, Motif], make_sequence: Callable) -> None:
    model = Logic(two, RULES["additive"], sharpness=0.3)
    sequence = planted(make_sequence(120, seed=1), (20, two[0].consensus), (70, two[1].consensus))
    result = cdi.ism(sequence, model)
    computed = cdi.motif_interactions(result, model, shuffles=4)
    expected = cdi.motif_interactions(cdi.annotate(cdi.find_seqlets(result)), model, shuffles=4)
    assert computed.to_dataframe().equals(expected.to_dataframe())


# Necessity and sufficiency


def test_necessity_and_sufficiency_of_known_logic(two: tuple[Motif, Motif], make_sequence: Callable) -> None:
    sequence = planted(make_sequence(120, seed=1), (20, two[0].consensus), (70, oriented(two[1], "-")))
    sites = cdi.scan(sequence, list(two), p=1e-6)
    of_and, of_or = (cdi.site_effects(sites, Logic(two, RULES[kind])).table for kind in ("synergistic", "redundant"))
    assert of_and["necessity"].min() > 0.9
    assert of_and["sufficiency"].max() < 0.2
    assert of_or["necessity"].max() < 0.1
    assert of_or["sufficiency"].min() > 0.8
    assert np.isnan(sites.table["necessity"]).all()


# Bad input


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: cdi.marginalize("CRXX", m), ValueError, "`motif`: No motif is called 'CRXX'. Near matches: Crx"),
        (lambda m: cdi.marginalize("", m), ValueError, "`motif` must be DNA, a name or a Motif, but got ''"),
        (lambda m: cdi.marginalize(3, m), TypeError, "`motif` must be DNA, a name or a Motif, but got int"),
        (lambda m: cdi.marginalize("ACGTA", m, backgrounds=["ACG"]), ValueError, "5 bases, more than the 3 of the"),
        (lambda m: cdi.marginalize("ACG", m, start=162), ValueError, "`start` must be from 0 to 161 for 3 bases in"),
        (lambda m: cdi.marginalize("ACG", m, backgrounds=["ACGT", "ACG"]), ValueError, "but are of 3 to 4"),
        (lambda m: cdi.marginalize("ACG", m, backgrounds=[]), ValueError, "`backgrounds` must hold at least one"),
        (lambda m: cdi.marginalize("ACG", m, backgrounds=["ACXT"]), ValueError, "backgrounds"),
        (lambda m: cdi.marginalize("ACG", m, seed=-1), ValueError, "`seed` must be an integer of at least 0"),
        (lambda m: cdi.spacing("ACG", "CC", m, distances=[170]), ValueError, "at 170 need 175 bases"),
        (lambda m: cdi.spacing("ACG", "CC", m, distances=[-1]), ValueError, "`distances` must be an integer"),
        (lambda m: cdi.spacing("ACG", "CC", m, distances=[]), ValueError, "`distances` is empty"),
        (lambda m: cdi.spacing("ACG", "nope!", m), ValueError, "`motif_b`: No motif is called 'nope!'"),
        (lambda m: cdi.site_effects("ACG", m), TypeError, "`sites` must be MotifSites"),
        (lambda m: cdi.motif_interactions(cdi.scan("ACGT"), m, example=1), ValueError, "`example` must be from 0 to 0"),
        (lambda m: cdi.motif_interactions(cdi.scan("ACGT"), m, shuffles=1), ValueError, "`shuffles` must be"),
        (lambda m: cdi.motif_interactions(cdi.scan("ACGT"), m, tolerance=1), ValueError, "`tolerance` must be"),
    ],
)  # fmt: skip
def test_bad_input(ask: Callable, error: type[Exception], message: str, model: CrossDNA) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        ask(model)

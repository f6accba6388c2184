"""A design reaches its goal by the best edits, and respects its constraints."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret import Edit, Motif, reverse_complement
from crossdna_interpret.dna.edits import Editor, substitutions
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.motifs.collection import find_motif
from tests.motifs.logic import Logic, oriented


class Weights(nn.Module):
    """Each base has its worth at each position."""

    targets, name, device, dtype = ("worth",), "weights", torch.device("cpu"), torch.float64

    def __init__(self, length: int) -> None:
        super().__init__()
        self.worth = torch.from_numpy(np.random.default_rng(0).normal(size=(4, length)))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :4] * self.worth).sum((1, 2)).unsqueeze(1)


def test_the_best_edit_is_taken_each_time(model: CrossDNA, make_sequence: Callable) -> None:
    sequence = make_sequence(30, seed=4)
    result = cdi.design(sequence, model, max_edits=3)
    present = sequence
    for edit, made, prediction in zip(result.edits, result.sequences[1:], result.predictions[1:], strict=True):
        options = [Editor(present)(each) for each in substitutions(present, 0, len(present))[2]]
        scores = cdi.predict(options, model)[:, 0]
        assert made == options[int(scores.argmax())] == Editor(present)(edit)
        assert prediction == pytest.approx(scores.max(), abs=1e-5)
        present = made
    assert result.sequence == present
    assert result.change == pytest.approx(result.predictions[-1] - cdi.predict(sequence, model)[0, 0], abs=1e-5)


@pytest.mark.parametrize(("goal", "best"), [("increase", "max"), ("decrease", "min")])
def test_a_sum_of_worths_ends_at_its_best(goal: str, best: str, make_sequence: Callable) -> None:
    model, sequence = Weights(12), make_sequence(12)
    result = cdi.design(sequence, model, goal=goal, max_edits=20)
    assert result.predictions[-1] == pytest.approx(float(getattr(model.worth, best)(dim=0).values.sum()), abs=1e-9)
    assert result.reason == "no allowed edit gets nearer to the goal"
    assert len(result.edits) <= 12


def test_a_value_is_come_near_to(make_sequence: Callable) -> None:
    model, sequence = Weights(30), make_sequence(30)
    result = cdi.design(sequence, model, goal=1.5, max_edits=8)
    distances = np.abs(result.predictions - 1.5)
    assert (np.diff(distances) < 0).all()
    assert distances[-1] < 0.05


def test_a_beam_finds_what_greed_does_not(make_sequence: Callable) -> None:
    """Two edits that are worth nothing or little alone, and much together."""

    class Trap(Weights):
        def forward(self, x: Tensor) -> Tensor:
            pair = 5 * x[:, 0, 2] * x[:, 1, 7] + 0.1 * x[:, 0, 2]
            return (pair + 0.5 * x[:, 3, 4] + 0.4 * x[:, 3, 5]).unsqueeze(1)

    sequence = "G" * 10
    greedy, beamed = (cdi.design(sequence, Trap(10), max_edits=2, beam=beam) for beam in (1, 6))
    assert greedy.predictions[-1] == pytest.approx(0.9)
    assert beamed.predictions[-1] == pytest.approx(5.1)


@pytest.mark.parametrize("strand", "+-")
def test_a_motif_is_put_where_it_helps(strand: str, vertebrates: list[Motif], make_sequence: Callable) -> None:
    motif = find_motif("CTCF", vertebrates)

    class Directed(Logic):
        def forward(self, x: Tensor) -> Tensor:
            return self.sites(x, self.motifs[0])[:, "+-".index(strand), 30:31]

    result = cdi.design(
        make_sequence(80, seed=1),
        Directed([motif], lambda occupied: occupied),
        insert=["CTCF"],
        substitute=False,
        max_edits=1,
    )
    assert result.labels == (f"CTCF at 30, {strand} strand",)
    assert result.sequence[30:45] == oriented(motif, strand)
    assert result.predictions[-1] > 0.99


def test_what_is_kept_stays(model: CrossDNA, make_sequence: Callable) -> None:
    sequence = make_sequence(40, seed=2)
    keep = [(0, 15), (20, 38)]
    result = cdi.design(sequence, model, max_edits=6, protect=keep, insert=["TAATCC"])
    for start, end in keep:
        assert result.sequence[start:end] == sequence[start:end]
    assert result.change > 0


def test_what_is_forbidden_does_not_come_up(make_sequence: Callable) -> None:
    """The best sequence is a restriction site all over; on the other strand it may not be either."""
    model = Weights(24)
    model.worth[:] = 0
    for at, base in enumerate("GAGACC" * 4):  # the reverse complement of GGTCTC
        model.worth["ACGT".index(base), at] = 1 + 0.01 * at
    free = cdi.design("T" * 24, model, max_edits=30)
    assert "GAGACC" in free.sequence
    result = cdi.design("T" * 24, model, max_edits=30, forbid=["GGTCTC"])
    assert not any(site in result.sequence for site in ("GAGACC", "GGTCTC"))
    assert result.predictions[-1] > 0.7 * free.predictions[-1]


@pytest.mark.parametrize("site", ["GGTNACC", "ggtnacc", "GGNTC", "GANTC", "CCTNNNNNAGG"])
def test_an_n_of_a_forbidden_site_is_any_base(site: str) -> None:
    """The best sequence has the site at every place that is a multiple of its length."""
    length = 3 * len(site)
    model = Weights(length)
    model.worth[:] = 0
    for at, base in enumerate(site.upper() * 3):
        model.worth["ACGT".index("ACGT"[at % 4] if base == "N" else base), at] = 1 + 0.01 * at
    pattern = re.compile(
        "|".join(each.replace("N", "[ACGT]") for each in (site.upper(), reverse_complement(site.upper())))
    )
    assert pattern.search(cdi.design("T" * length, model, max_edits=2 * length).sequence)
    result = cdi.design("T" * length, model, max_edits=2 * length, forbid=[site])
    assert not pattern.search(result.sequence)
    assert result.change > 0


def test_forbidden_motifs_do_not_come_up(vertebrates: list[Motif], make_sequence: Callable) -> None:
    motif = find_motif("Spi1", vertebrates)
    model, sequence = Logic([motif], lambda occupied: occupied[:, 0], sharpness=0.3), make_sequence(50, seed=3)
    before = len(cdi.scan(sequence, [motif]))
    free, bound = (cdi.design(sequence, model, max_edits=6, forbid=forbid) for forbid in ([], ["SPI1"]))
    assert len(cdi.scan(free.sequence, [motif])) > before
    assert len(cdi.scan(bound.sequence, [motif])) <= before


def test_the_table_tells_the_path(model: CrossDNA, make_sequence: Callable) -> None:
    result = cdi.design(make_sequence(20), model, max_edits=2)
    table = result.to_dataframe()
    assert table["step"].tolist() == [0, 1, 2]
    assert table["edit"].tolist() == ["", *result.labels]
    for (before, after), row in zip(itertools.pairwise(result.sequences), table.iloc[1:].itertuples(), strict=True):
        assert Editor(before)(Edit(row.start, row.end, row.alt)) == after == row.sequence
        assert row.edit == f"{row.ref}{row.start}{row.alt}"
    assert table["change"].sum() == pytest.approx(result.change, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"goal": "up"}, ValueError, "`goal` must be 'increase', 'decrease' or a number, but got 'up'"),
        ({"goal": float("nan")}, ValueError, "`goal` must be"),
        ({"max_edits": 0}, ValueError, "`max_edits` must be an integer of at least 1, but got 0"),
        ({"beam": 0}, ValueError, "`beam` must be an integer of at least 1"),
        ({"protect": [(5, 21)]}, ValueError, "0 <= start < end <= 20"),
        ({"protect": [5]}, ValueError, r"`protect\[0\]` must be a window"),
        ({"insert": ["ACGTACGTACGTACGTACGTA"]}, ValueError, "`insert`: ACGTACGTACGTACGTACGTA has 21 bases"),
        ({"insert": ["nosuch"]}, ValueError, r"`insert\[0\]`: No motif is called 'nosuch'"),
        ({"forbid": ["nosuch"]}, ValueError, r"`forbid\[0\]`: No motif is called 'nosuch'"),
        ({"forbid": [3]}, TypeError, r"`forbid\[0\]` must be DNA, a name or a Motif"),
        ({"substitute": False}, ValueError, "nothing to try"),
    ],
)
def test_bad_input(options: dict, error: type[Exception], message: str, model: CrossDNA) -> None:
    with pytest.raises(error, match=message):
        cdi.design("ACGTTGCAACGTTGCAACGT", model, **options)

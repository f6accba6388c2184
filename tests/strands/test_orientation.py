"""`orientation`: models with equal scores for both orientations, and models with a known difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.crossdna.strand_symmetry import symmetrized
from crossdna_interpret.strands.orientation import symmetric_targets

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]


def sequences(make_sequence: MakeSequence, length: int, count: int = 6) -> list[str]:
    return [make_sequence(length, seed=seed) for seed in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ism", "integrated_gradients"])
def test_a_symmetric_model_says_the_same(method: str, make_model: Make, make_sequence: MakeSequence) -> None:
    model = make_model(block_size=None)
    # Half of the random weights: a function smooth enough that the integral is complete after few steps.
    halved = {name: value / 2 for name, value in model.state_dict().items()}
    model.load_state_dict(symmetrized(halved, keep="branch_a"))
    r = cdi.orientation(sequences(make_sequence, 30, 4), model, method=method)
    np.testing.assert_allclose(r.forward, r.reverse, atol=1e-5)
    np.testing.assert_allclose(r.attribution_r, 1, atol=1e-4)
    assert r.attribution_worst.max() < 1e-4
    assert r.table["value"][0] == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_numbers_are_those_of_the_predictions(make_model: Make, make_sequence: MakeSequence) -> None:
    model, seqs = make_model(targets=("rods", "cones")), sequences(make_sequence, 40)
    r = cdi.orientation(seqs, model, target="cones")
    reverse = [strand.reverse_complement(seq) for seq in seqs]
    np.testing.assert_allclose(r.forward, cdi.predict(seqs, model)[:, 1], atol=1e-6)
    np.testing.assert_allclose(r.reverse, cdi.predict(reverse, model)[:, 1], atol=1e-6)
    result = pearsonr(r.forward, r.reverse)
    low, high = result.confidence_interval()
    assert r.table.loc[0, ["value", "low", "high"]].tolist() == pytest.approx([result.statistic, low, high], abs=1e-5)
    values = r.table.set_index("statistic")["value"]
    assert values["largest gap"] == pytest.approx(np.abs(r.reverse - r.forward).max())
    one, other = (cdi.ism(seq, model, target="cones").importance for seq in (seqs[2], reverse[2]))
    assert r.attribution_r[2] == pytest.approx(pearsonr(one, other[::-1]).statistic, abs=1e-4)
    assert r.attribution_worst[2] == pytest.approx(np.abs(one - other[::-1]).max(), abs=1e-5)
    interval = r.table[r.table["statistic"] == "mean r over a sequence"].iloc[0]
    assert interval["low"] < interval["value"] < interval["high"]


@pytest.mark.slow
def test_branches_exchanged_and_blocks_moved(make_model: Make, make_sequence: MakeSequence) -> None:
    model, seqs = make_model(), sequences(make_sequence, 60, 3)
    r = cdi.orientation(seqs, model)
    assert r.exchanged is not None
    assert r.shifts == (6, 12, 18)
    # With the weights of the branches exchanged and each reading the other's strand, all is as it was.
    state = model.state_dict()
    swapped = {name: state[_other_branch(name)] for name in state}
    for name in ("bridge.gate.weight", "bridge.gate.bias", "fusion.gate.weight", "fusion.gate.bias"):
        swapped[name] = _gate_exchanged(name, state[name])
    twin = make_model()
    twin.load_state_dict(swapped)
    np.testing.assert_allclose(cdi.orientation(seqs, twin).exchanged, r.forward, atol=1e-5)
    assert np.abs(r.exchanged - r.forward).max() > 1e-3
    assert np.abs(r.shifted - r.forward[:, None]).min() > 0
    table = r.table.set_index("compared")
    assert table.loc["block boundaries moved by 6", "value"] == pytest.approx(
        np.abs(r.shifted[:, 0] - r.forward).mean(), abs=1e-7
    )
    assert cdi.orientation(seqs[0][:20], model).shifts == ()
    assert {"branches_exchanged", "blocks_shifted_12", "gap"} <= set(r.to_dataframe().columns)


def _other_branch(name: str) -> str:
    for one, other in (("branch_a.", "branch_b."), ("context_of_a", "context_of_b"), ("b_to_a", "a_to_b"),
                       ("norm_a", "norm_b"), ("project_a.", "project_b.")):  # fmt: skip
        for first, second in ((one, other), (other, one)):
            if first in name:
                return name.replace(first, second)
    return name


def _gate_exchanged(name: str, value: Tensor) -> Tensor:
    if name == "fusion.gate.bias":
        return -value
    if name == "fusion.gate.weight":
        return -torch.cat(value.chunk(2, 1)[::-1], 1)
    if name == "bridge.gate.bias":
        return torch.cat(value.chunk(2)[::-1])
    a, b, difference, product = torch.cat(value.chunk(2)[::-1]).chunk(4, 1)
    return torch.cat([b, a, -difference, product], 1)


class Counting(nn.Module):
    """Counts A: 1 for each, and 3 for an A that is the first base. Knows neither branches nor blocks."""

    targets, name, device, dtype = ("count",), "counting", torch.device("cpu"), torch.float64

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0].sum(-1) + 2 * x[:, 0, 0])[:, None]


def test_any_model_can_be_asked() -> None:
    r = cdi.orientation(["AACGT", "TTTGA", "CCCCC"], Counting())
    assert r.forward.tolist() == [4, 1, 0]
    assert r.reverse.tolist() == [1 + 2, 3, 0]
    assert r.exchanged is None
    assert r.shifts == ()
    assert r.table["n"].tolist() == [3] * 6
    assert np.isnan(r.table.loc[0, "low"])  # three are too few for an interval


@pytest.mark.parametrize(("options", "message"), [({"method": "x"}, "`method` must be"), ({"seed": -1}, "`seed` must")])
def test_bad_options(options: dict, message: str, model: CrossDNA) -> None:
    with pytest.raises(ValueError, match=message):
        cdi.orientation(["ACGT"], model, **options)


class Content(nn.Module):
    """Two scores: how much G and C there is, which strands share, and where A is, which they do not."""

    targets, name, device, dtype = ("content", "place"), "content", torch.device("cpu"), torch.float32

    def __init__(self, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        places = torch.linspace(0, 1, x.shape[-1])
        scores = torch.stack([x[:, 1:3].mean((1, 2)), (x[:, 0] * places).mean(1)], 1)
        return self.scale * scores + self.offset


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-6, 0.0), (1e6, 0.0), (1.0, 1000.0)])
def test_symmetry_by_construction_is_seen_at_any_scale(scale: float, offset: float) -> None:
    assert symmetric_targets(Content(scale, offset), 50).tolist() == [True, False]


def test_symmetry_by_construction_depends_on_weights_and_length(make_model: Make) -> None:
    model = make_model()  # blocks of 24
    assert symmetric_targets(model, 20).tolist() == [False]
    model.load_state_dict(symmetrized(model.state_dict(), keep="branch_a"))
    assert symmetric_targets(model, 20).tolist() == [True]
    assert symmetric_targets(model, 24).tolist() == [True]
    assert symmetric_targets(model, 40).tolist() == [False]  # block boundaries lie elsewhere on the other strand


def test_symmetry_is_judged_without_a_trace() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    model = Content().train()
    symmetric_targets(model, 30)
    assert model.training
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    with pytest.raises(ValueError, match="`length` must be an integer of at least 1"):
        symmetric_targets(model, 0)

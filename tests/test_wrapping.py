"""Any module as a model: its channels in its own order, its outputs whatever they are, and a warning where it lies."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tangermeme.saturation_mutagenesis import saturation_mutagenesis
from torch import Tensor, nn

import crossdna_interpret as cdi


class Convolution(nn.Module):
    """Two outputs of a small network that takes four channels."""

    def __init__(self, seed: int = 0, width: int = 7, outputs: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Conv1d(4, 6, width), nn.GELU(), nn.Conv1d(6, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean(2)


class Symmetric(Convolution):
    """Scores both strands alike, in a given order of channels."""

    def __init__(self, order: str, **options: Any) -> None:
        super().__init__(outputs=1, **options)
        self.partner = [order.index("TGCA"["ACGT".index(base)]) for base in order]

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) + super().forward(x[:, self.partner].flip(2)))[:, 0]


def encoded(seqs: list[str], order: str) -> Tensor:
    found = torch.zeros(len(seqs), 4, len(seqs[0]))
    for row, seq in enumerate(seqs):
        for at, base in enumerate(seq):
            if base in order:
                found[row, order.index(base), at] = 1
    return found


@pytest.fixture
def seqs(make_sequence: Callable) -> list[str]:
    return [make_sequence(30, seed=seed, n_at=(4,)) for seed in range(5)]


@pytest.mark.parametrize("order", ["ACGT", "ACTG", "TGCA", "gtac"])
def test_channels_are_given_in_the_modules_order(order: str, seqs: list[str]) -> None:
    module = Convolution()
    with torch.no_grad():
        expected = module(encoded(seqs, order.upper()))
    model = cdi.wrap(module, order, ["one", "two"])
    np.testing.assert_allclose(cdi.predict(seqs, model), expected, rtol=0, atol=1e-6)


def test_layout_unknown_and_a_fifth_channel(seqs: list[str]) -> None:
    taken: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            taken.append(x)
            return x.sum((1, 2))

    cdi.predict(seqs, cdi.wrap(Spy(), layout="channels_last", unknown=0.25))
    assert taken[-1].shape == (5, 30, 4)
    assert (taken[-1][:, 4] == 0.25).all()
    assert (taken[-1].sum(2) == 1).all()
    cdi.predict(seqs, cdi.wrap(Spy(), "NTGCA"))
    assert taken[-1].shape == (5, 5, 30)
    assert (taken[-1][:, 0, 4] == 1).all()


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda y: (y, None), 0),
        (lambda y: {"counts": y, "profile": None}, "counts"),
        (lambda y: {"profile": y.unsqueeze(2).expand(-1, -1, 9)}, lambda found: found["profile"].mean(2)),
        (lambda y: y, None),
    ],
)
def test_outputs_of_every_kind(make: Callable, output: Any, seqs: list[str]) -> None:
    class Other(Convolution):
        def forward(self, x: Tensor) -> Any:
            return make(super().forward(x))

    expected = cdi.predict(seqs, cdi.wrap(Convolution(), targets=["a", "b"]))
    found = cdi.predict(seqs, cdi.wrap(Other(), targets=["a", "b"], output=output))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_mutagenesis_is_tangermemes_on_the_module_itself(make_sequence: Callable) -> None:
    module, sequence = Convolution(), make_sequence(30)
    found = cdi.ism(sequence, cdi.wrap(module, targets=["a", "b"]), target="b")
    expected = saturation_mutagenesis(module, encoded([sequence], "ACGT"), raw_outputs=True, device="cpu", fast=False)
    changed = np.array([base != own for own in sequence for base in "ACGT"]).reshape(30, 4)
    after = (
        expected.y_hat[0].permute(1, 0, 2).numpy()
        if hasattr(expected, "y_hat")
        else expected[1][0].permute(1, 0, 2).numpy()
    )
    np.testing.assert_allclose(found.predictions[changed], after[changed], rtol=0, atol=1e-5)


def test_gradients_and_motifs_take_it(make_sequence: Callable) -> None:
    model = cdi.wrap(Convolution(outputs=1))
    sequence = make_sequence(30)
    found = cdi.integrated_gradients(sequence, model, baseline="zeros")
    assert found.completeness_error < 1e-3
    assert cdi.marginalize("TAATCC", model, backgrounds=[sequence]).delta.shape == (2, 1)


def test_the_module_stays_as_it_is() -> None:
    module = Convolution().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    cdi.predict("ACGTACGTACGT", cdi.wrap(module, targets=["a", "b"], length=12))
    assert module.training
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


# The order of channels


@pytest.mark.parametrize("seed", range(6))
def test_the_wrong_order_is_noticed_by_the_strands(seed: int) -> None:
    module = Symmetric("ACTG", seed=seed)
    with pytest.warns(cdi.ChannelOrderWarning, match="takes A and G for complements.*order ACTG, not ACGT"):
        cdi.wrap(module, "ACGT", length=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cdi.wrap(module, "ACTG", length=200)
        cdi.wrap(Convolution(seed=seed, outputs=1), length=200)  # knows nothing of strands
        cdi.wrap(module, "ACGT")  # nothing to judge by


def test_the_wrong_order_is_noticed_by_measurements(make_sequence: Callable) -> None:
    seqs = [make_sequence(60, seed=seed) for seed in range(40)]
    module = Convolution(outputs=1)
    with torch.no_grad():
        measured = module(encoded(seqs, "GATC"))[:, 0].numpy()
    with pytest.warns(cdi.ChannelOrderWarning, match="r = 1.00 if they are GATC"):
        cdi.wrap(module, "ACGT", check=(seqs, measured))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cdi.wrap(module, "GATC", check=(seqs, measured))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"module": 3}, TypeError, "`module` must be a torch module, but got int"),
        ({"channels": "ACG"}, ValueError, "`channels` must hold A, C, G, T and perhaps N, each once, but got 'ACG'"),
        ({"channels": "ACGG"}, ValueError, "`channels` must hold"),
        ({"targets": []}, ValueError, r"`targets` must be a list of names, but got \[\]"),
        ({"targets": "ab"}, ValueError, "`targets` must be a list of names"),
        ({"targets": ["a", "a"]}, ValueError, "`targets` must be different names"),
        ({"layout": "NCL"}, ValueError, "`layout` must be"),
        ({"length": 0}, ValueError, "`length` must be an integer of at least 1"),
        ({"check": (["ACGT"], [1.0])}, ValueError, "`check` must be at least three sequences"),
    ],
)
def test_bad_input(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cdi.wrap(**{"module": Convolution(), "targets": ["a", "b"], **options})


def test_what_does_not_fit_is_said_when_it_is_asked() -> None:
    with pytest.raises(ValueError, match=r"`targets` names 1, .* must return \(1, 1\), but it returns \(1, 2\)"):
        cdi.predict("ACGTACGTACGT", cdi.wrap(Convolution()))
    with pytest.raises(ValueError, match="must have 20 bases, which Convolution takes, but has 12"):
        cdi.predict("ACGTACGTACGT", cdi.wrap(Convolution(), targets=["a", "b"], length=20))

    class Pair(Convolution):
        def forward(self, x: Tensor) -> Any:
            return {"a": super().forward(x)}

    with pytest.raises(TypeError, match=r"returns \['a'\], not a tensor. Say which part"):
        cdi.predict("ACGTACGTACGT", cdi.wrap(Pair(), targets=["a", "b"]))
    with pytest.raises(ValueError, match=r"`output` 'b' is not in what the module returns: \['a'\]"):
        cdi.predict("ACGTACGTACGT", cdi.wrap(Pair(), targets=["a", "b"], output="b"))

"""Any module as a model: any channel order, any outputs, and a warning if the declared order is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
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
    result = torch.zeros(len(seqs), 4, len(seqs[0]))
    for row, seq in enumerate(seqs):
        for at, base in enumerate(seq):
            if base in order:
                result[row, order.index(base), at] = 1
    return result


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
    result = cdi.predict(seqs, cdi.wrap(Other(), targets=["a", "b"], output=output))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_mutagenesis_is_tangermemes_on_the_module_itself(make_sequence: Callable) -> None:
    module, sequence = Convolution(), make_sequence(30)
    result = cdi.ism(sequence, cdi.wrap(module, targets=["a", "b"]), target="b")
    expected = saturation_mutagenesis(module, encoded([sequence], "ACGT"), raw_outputs=True, device="cpu", fast=False)
    changed = np.array([base != own for own in sequence for base in "ACGT"]).reshape(30, 4)
    after = (
        expected.y_hat[0].permute(1, 0, 2).numpy()
        if hasattr(expected, "y_hat")
        else expected[1][0].permute(1, 0, 2).numpy()
    )
    np.testing.assert_allclose(result.predictions[changed], after[changed], rtol=0, atol=1e-5)


def test_gradients_and_motifs_take_it(make_sequence: Callable) -> None:
    model = cdi.wrap(Convolution(outputs=1))
    sequence = make_sequence(30)
    result = cdi.integrated_gradients(sequence, model, baseline="zeros")
    assert result.completeness_error < 1e-3
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


class Noisy(nn.Module):
    """Dropout that evaluation mode does not switch off, as `F.dropout` without `training=`."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.3)[:, 0].sum(1)


class OfTheBatch(nn.Module):
    """Scores relative to the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        scores = x[:, 0].sum(1)
        return scores - scores.mean()


UNSTABLE: dict[str, Callable[[str, Any], Any]] = {
    "predict": lambda seq, model: cdi.predict([seq, seq[::-1]], model),
    "ism": lambda seq, model: cdi.ism(seq, model, end=3),
    "score_edits": lambda seq, model: cdi.score_edits(seq, [(0, 1, "T"), (1, 2, "A")], model),
    "integrated_gradients": lambda seq, model: cdi.integrated_gradients(
        seq, model, baseline="uniform", steps=2, max_steps=2, tolerance=1e9
    ),
}


@pytest.mark.parametrize("analysis", UNSTABLE)
def test_scores_that_differ_from_call_to_call_are_warned_of(analysis: str, make_sequence: Callable) -> None:
    with pytest.warns(cdi.UnstableModelWarning, match=r"Noisy .* from call to call; .* dropout") as caught:
        result = UNSTABLE[analysis](make_sequence(40), cdi.wrap(Noisy()))
    assert {each.filename for each in caught if each.category is cdi.UnstableModelWarning} == {__file__}
    if analysis != "predict":
        assert result.certificate.checks["difference_between_calls"] > 0.5


def test_chance_is_not_taken_for_the_batch(make_sequence: Callable) -> None:
    """Two of its scores often agree, since dropout leaves few values."""
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.warns(cdi.UnstableModelWarning, match=r"Noisy .* from call to call"):
            cdi.predict([make_sequence(40 + seed)] * 2, cdi.wrap(Noisy()))


@pytest.mark.parametrize("analysis", UNSTABLE)
def test_scores_that_depend_on_the_batch_are_warned_of(analysis: str, make_sequence: Callable) -> None:
    model = cdi.wrap(OfTheBatch())
    for _ in range(2):  # also where the answer is known already
        with pytest.warns(cdi.UnstableModelWarning, match=r"OfTheBatch .* between alone and in a batch of [24]"):
            UNSTABLE[analysis](make_sequence(40), model)


def test_one_at_a_time_such_scores_are_what_they_are(make_sequence: Callable) -> None:
    result = cdi.ism(make_sequence(40), cdi.wrap(OfTheBatch()), end=4, batch_size=1)
    assert not result.predictions.any()


def test_what_is_stable_is_certified(make_sequence: Callable) -> None:
    checks = cdi.ism(
        make_sequence(40), cdi.wrap(Convolution(), targets=["a", "b"]), target="a", end=4
    ).certificate.checks
    assert checks["difference_between_calls"] == 0
    assert checks["difference_in_a_batch"] < 1e-6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64, torch.bool, torch.float16, torch.bfloat16])
def test_scores_of_any_real_type_are_differences_of_numbers(dtype: torch.dtype) -> None:
    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x[:, 0].sum(1) > 2).to(dtype) if dtype == torch.bool else x[:, 0].sum(1).to(dtype)

    model = cdi.wrap(Counted())
    result = cdi.ism("AACCGG", model)
    scores = cdi.predict(["AACCGG", "CACCGG", "AAACGG"], model)[:, 0]
    assert scores.dtype in (np.float32, np.float64)
    assert result.delta[0, 1] == scores[1] - scores[0] == (0 if dtype == torch.bool else -1)
    assert result.delta[2, 0] == scores[2] - scores[0] == 1
    assert result.importance[0] == pytest.approx(0 if dtype == torch.bool else 1)


def test_large_whole_numbers_are_not_rounded() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0].sum(1).long() + 2**30

    assert cdi.ism("AACC", cdi.wrap(Large())).delta[0, 1] == -1


def test_complex_scores_are_refused() -> None:
    class Wave(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x[:, 0].sum(1), x[:, 1].sum(1))

    with pytest.raises(ValueError, match=r"`model` Wave must return real scores, but returned torch\.complex64"):
        cdi.predict("ACGT", cdi.wrap(Wave()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_of_half_precision(dtype: torch.dtype, make_sequence: Callable) -> None:
    sequence = make_sequence(30)
    exact, half = (cdi.wrap(Convolution().to(kind), targets=["a", "b"]) for kind in (torch.float32, dtype))
    result, right = (cdi.ism(sequence, model, target="a", end=4) for model in (half, exact))
    assert result.certificate.dtype == str(dtype).removeprefix("torch.")
    assert result.predictions.dtype == np.float32
    np.testing.assert_allclose(result.predictions, right.predictions, rtol=0, atol=0.02)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_frozen_and_scripted_modules(make_sequence: Callable) -> None:
    sequence = make_sequence(30)
    module = Convolution(outputs=1).eval()
    right = cdi.ism(sequence, cdi.wrap(module), end=3).predictions
    scripted = torch.jit.script(Convolution(outputs=1))  # in training mode
    for each in (torch.jit.freeze(torch.jit.script(module)), scripted):
        np.testing.assert_allclose(cdi.ism(sequence, cdi.wrap(each), end=3).predictions, right, rtol=0, atol=1e-6)
    assert scripted.training


def test_a_module_with_buffers_alone_computes_in_their_dtype() -> None:
    class Pwm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("pwm", torch.from_numpy(np.random.default_rng(1).normal(size=(1, 4, 7))))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv1d(x, self.pwm).amax(2)

    model = cdi.wrap(Pwm())
    assert model.dtype == torch.float64
    assert cdi.predict("ACGTTGCAAG", model).dtype == np.float64


def test_tables_of_many_targets_are_small_and_can_be_chosen_from(monkeypatch: pytest.MonkeyPatch) -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1)[:, :1] * torch.arange(300)

    targets = [f"t{index}" for index in range(300)]
    result = cdi.ism("ACGTACGTACGT", cdi.wrap(Many(), targets=targets), target="t7")
    table = result.to_dataframe()
    assert len(table) == 36 * 300
    assert table.memory_usage().sum() <= 48 * len(table)
    assert (table.ref + table.alt).str.len().eq(2).all()
    chosen = result.to_dataframe(["t9", "t3"])
    assert chosen["target"].unique().tolist() == ["t9", "t3"]
    np.testing.assert_array_equal(chosen[chosen.target == "t3"].prediction, table[table.target == "t3"].prediction)
    with pytest.raises(ValueError, match=r"`targets` must be among the 300 of the result, but \['t300'\]"):
        result.to_dataframe("t300")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=50_000))
    with pytest.raises(MemoryError, match=r"36 rows for each of 300 targets .* About 21 would fit"):
        result.to_dataframe()


def test_a_model_that_takes_one_sequence_at_a_time_can_be_scored() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert len(x) == 1, "one at a time"
            return x[:, 0].sum(1)

    model = cdi.wrap(One())
    assert cdi.predict(["AACC", "ACCC"], model, batch_size=1).ravel().tolist() == [2, 1]
    result = cdi.ism("AACC", model, batch_size=1)
    assert set(result.certificate.checks) == {"difference_between_calls"}


def test_scores_of_whole_numbers_from_whole_numbers() -> None:
    class Table(nn.Module):
        name, targets, device, dtype = "table", ("count",), torch.device("cpu"), torch.int64

        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0].sum(1, keepdim=True)

    assert cdi.predict("AACA", Table()).tolist() == [[3]]


def test_noise_of_one_target_does_not_hide_behind_the_scale_of_another(make_sequence: Callable) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            large = 1000 * x[:, 0].mean(1)
            return torch.stack([large, 0.1 * x[:, 1].mean(1) + 0.05 * torch.rand(len(x))], dim=1)

    with pytest.warns(cdi.UnstableModelWarning, match=r"differ by 0\.0\d+ from call to call"):
        cdi.predict([make_sequence(40)] * 2, cdi.wrap(Two(), targets=["large", "small"]))


@pytest.mark.parametrize("options", [{"layout": "channels_last"}, {"channels": "ACGTN"}])
def test_a_module_that_cannot_take_its_input_is_explained(options: dict) -> None:
    with pytest.raises(RuntimeError) as caught:
        cdi.predict("ACGTACGTACGT", cdi.wrap(Convolution(), targets=["a", "b"], **options))
    shape = "(1, 12, 4)" if "layout" in options else "(1, 5, 12)"
    assert f"Convolution failed on an input of float32 {shape}, from `inputs` OneHot(" in caught.value.__notes__[0]

"""`integrated_gradients` against captum, and against linear models for which the path integral is known exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crossdna_interpret import Attribution, CompletenessWarning, input_gradient, integrated_gradients, predict, wrap
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from crossdna_interpret.models.protocols import StrandPaths, declare
from tests.attribution.oracles import TARGETS, captum_by_strand, channels

# Fixed quadrature that accepts any error, for comparison with other quadratures of the same number of points.
FIXED = {"tolerance": 1e6}


# Fewer points than by default, and enough for the smooth models.
FEW = {"steps": 8}


class LinearModel(nn.Module):
    """score[t] = sum of w[t, channel, position]: one set of weights, and nothing known about strands."""

    name = "linear"
    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(self, length: int, targets: tuple[str, ...] = ("a", "b"), seed: int = 7) -> None:
        super().__init__()
        self.targets = targets
        weight = np.random.default_rng(seed).normal(size=(len(targets), 5, length))
        self.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ncl,tcl->nt", x, self.weight)


class LinearStrands(LinearModel):
    """The same with other weights for the reverse complement, read 5' to 3'."""

    def __init__(self, length: int, targets: tuple[str, ...] = ("a", "b")) -> None:
        super().__init__(length, targets)
        self.reverse = LinearModel(length, targets, seed=8)

    def forward_strands(self, x_forward: Tensor, x_reverse: Tensor) -> Tensor:
        return super().forward(x_forward) + self.reverse(x_reverse)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_strands(x, x[:, [3, 2, 1, 0, 4]].flip(-1))


class Paths:
    """What `LinearStrands` offers."""

    def __init__(self, model: LinearStrands) -> None:
        self.scores = model.forward_strands


declare(LinearStrands, {StrandPaths: Paths})


class Broken(LinearModel):
    """A model with a wrong answer, of which the gradients are as good as any."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__(8, ("a",))
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(super().forward(x))


def test_several_baselines_are_averaged(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(depth=1).double(), make_sequence(13, n_at=(2,))
    stack = np.random.default_rng(3).dirichlet(np.ones(4), (3, 13))
    fixed = {"steps": 8, "max_steps": 8, **FIXED}
    together = integrated_gradients(sequence, model, baseline=stack, **fixed)
    apart = [integrated_gradients(sequence, model, baseline=one, **fixed) for one in stack]
    for name in ("forward", "reverse", "baseline_prediction"):
        expected = np.mean([getattr(a, name) for a in apart], axis=0)
        np.testing.assert_allclose(getattr(together, name), expected, rtol=0, atol=1e-12)
    assert together.baseline == "array"


@pytest.mark.parametrize("baseline", ["zeros", "uniform", "array", "shuffle"])
def test_linear_model_without_strands_is_exact(baseline: str, make_sequence: Callable) -> None:
    model, sequence = LinearModel(34), make_sequence(34, n_at=(16,))
    array = np.random.default_rng(3).dirichlet(np.ones(4), 34)
    if baseline == "shuffle":
        shuffles = dinucleotide_shuffles(sequence, 4, 1)
        start = np.mean([channels(alphabet.decode(ids)) for ids in shuffles], axis=0)
    else:
        start = {"zeros": np.zeros((34, 4)), "uniform": np.full((34, 4), 0.25), "array": array}[baseline]
    value = array if baseline == "array" else baseline
    a = integrated_gradients(sequence, model, target="b", baseline=value, shuffles=4, seed=1, steps=1, max_steps=1)
    expected = model.weight[1, :4].numpy().T * (channels(sequence) - start)
    expected[16] = 0  # an N stays an N in every baseline
    np.testing.assert_allclose(a.forward, expected, rtol=0, atol=1e-12)
    assert not a.reverse.any()
    assert a.target == "b"
    assert a.completeness_error < 1e-12


def test_linear_model_of_two_strands_is_exact(make_sequence: Callable) -> None:
    model, sequence = LinearStrands(14), make_sequence(14, n_at=(4,))
    array = np.random.default_rng(3).dirichlet(np.ones(4), 14)
    a = integrated_gradients(sequence, model, target="b", baseline=array, steps=1, max_steps=1)
    change = channels(sequence) - array
    change[4] = 0
    np.testing.assert_allclose(a.forward, model.weight[1, :4].numpy().T * change, rtol=0, atol=1e-12)
    by_reverse = model.reverse.weight[1].numpy()
    for position in range(14):
        for base, complement in enumerate((3, 2, 1, 0)):
            # Base b at position i is its complement at L - 1 - i of the other strand.
            expected = by_reverse[complement, 13 - position] * change[position, base]
            assert a.reverse[position, base] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("targets", [TARGETS, ()], ids=["head", "log-likelihood"])
@pytest.mark.parametrize("baseline", ["zeros", "uniform", "shuffle"])
def test_complete_in_float64(
    baseline: str, targets: tuple[str, ...], smooth: Callable, make_sequence: Callable
) -> None:
    model = smooth(targets=targets, rc_blocks="mirrored")
    sequence = make_sequence(36, n_at=(17,))
    # Warnings are errors here, so the tolerance was met.
    a = integrated_gradients(sequence, model, target=0, baseline=baseline, shuffles=2, steps=32, tolerance=1e-7)
    change = a.prediction - a.baseline_prediction
    assert a.completeness_error < 1e-6 * abs(change)
    assert a.values.sum() == pytest.approx(change, rel=1e-6)
    assert a.certificate.checks["worst_relative_completeness_error"] <= 1e-7
    assert a.prediction == pytest.approx(predict(sequence, model)[0, 0], abs=1e-12)


def test_zeros_baseline_is_the_prediction_for_no_base(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence = smooth(), make_sequence(15)
    a = integrated_gradients(sequence, model, baseline="zeros", **FEW)
    assert a.baseline_prediction == pytest.approx(model(torch.zeros(1, 5, 15, dtype=torch.float64)).item(), abs=1e-12)


def test_dtype_is_the_models(smooth: Callable, make_sequence: Callable) -> None:
    sequence = make_sequence(20, n_at=(3,))
    fine = integrated_gradients(sequence, smooth(), baseline="uniform", **FEW)
    coarse = integrated_gradients(sequence, smooth().float(), baseline="uniform", **FEW)
    assert fine.forward.dtype == fine.reverse.dtype == fine.values.dtype == np.float64
    assert coarse.forward.dtype == coarse.reverse.dtype == coarse.values.dtype == np.float32
    assert (fine.certificate.dtype, coarse.certificate.dtype) == ("float64", "float32")
    assert type(fine.prediction) is type(coarse.prediction) is float
    np.testing.assert_allclose(coarse.values, fine.values, rtol=0, atol=1e-5)


def test_unknown_positions_get_nothing(smooth: Callable, make_sequence: Callable) -> None:
    sequence = make_sequence(22, n_at=(0, 9, 10))
    for baseline in ("zeros", "uniform", np.full((22, 4), 0.1)):
        a = integrated_gradients(sequence, smooth(), baseline=baseline, **FEW)
        assert not a.values[[0, 9, 10]].any()
        assert (a.importance[[1, 2, 8, 11]] != 0).all()


@pytest.mark.parametrize("sequence", ["N", "NNNNNN"])
@pytest.mark.parametrize("baseline", ["zeros", "uniform", "shuffle"])
def test_nothing_known_gives_nothing(sequence: str, baseline: str, model: nn.Module) -> None:
    a = integrated_gradients(sequence, model, baseline=baseline, steps=3)
    assert not a.forward.any()
    assert not a.reverse.any()
    assert a.values.shape == (len(sequence), 4)
    # Nothing to explain is no want of accuracy, and rounding is not a change: the first quadrature was enough.
    assert a.certificate.settings["steps"] == 3


@pytest.mark.parametrize("sequence", ["A", "AC", "A" * 12])
@pytest.mark.parametrize("baseline", ["zeros", "uniform"])
def test_short_and_monotonous_sequences(sequence: str, baseline: str, smooth: Callable) -> None:
    model = smooth()
    a = integrated_gradients(sequence, model, baseline=baseline, tolerance=1e-6)
    array = np.full((len(sequence), 4), 0.25 if baseline == "uniform" else 0.0)
    forward, reverse = captum_by_strand(model, sequence, array, 0)
    np.testing.assert_allclose(a.forward, forward, rtol=0, atol=1e-6)
    np.testing.assert_allclose(a.reverse, reverse, rtol=0, atol=1e-6)
    assert abs(a.values).max() > 1e-3


def test_works_where_gradients_are_off(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence = smooth(), make_sequence(16)
    expected = integrated_gradients(sequence, model, baseline="uniform", **FEW)
    with torch.no_grad():
        a = integrated_gradients(sequence, model, baseline="uniform", **FEW)
    np.testing.assert_array_equal(a.values, expected.values)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_batch_size_does_not_matter(batch_size: int, smooth: Callable, make_sequence: Callable) -> None:
    model, sequence, widest = smooth(), make_sequence(24, n_at=(2,)), []
    arguments = {"shuffles": 3, "steps": 8, "max_steps": 8, **FIXED}
    expected = integrated_gradients(sequence, model, **arguments)
    model.stem.register_forward_pre_hook(lambda module, args: widest.append(len(args[0])))
    a = integrated_gradients(sequence, model, batch_size=batch_size, **arguments)
    np.testing.assert_allclose(a.forward, expected.forward, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.reverse, expected.reverse, rtol=0, atol=1e-12)
    assert max(widest) <= batch_size
    assert sum(widest) == 3 + 1 + 3 + 3 * 8  # both ends and the middle of each path once, and every point once


def test_list_gives_list_in_order(smooth: Callable, make_sequence: Callable) -> None:
    model = smooth(targets=TARGETS)
    sequences = [make_sequence(length, seed=length) for length in (27, 20, 27)]
    results = integrated_gradients(sequences, model, target="cones", shuffles=2, **FEW)
    assert isinstance(results, list)
    assert [a.sequence for a in results] == sequences
    for sequence, a in zip(sequences, results, strict=True):
        single = integrated_gradients(sequence, model, target="cones", shuffles=2, **FEW)
        assert isinstance(single, Attribution)
        np.testing.assert_array_equal(a.values, single.values)
        assert a.target == "cones"
    assert isinstance(integrated_gradients(sequences[:1], model, target=0, baseline="zeros", **FEW), list)


def test_targets_are_explained_apart(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence = smooth(targets=TARGETS), make_sequence(16)
    results = [integrated_gradients(sequence, model, target=name, baseline="zeros", **FEW) for name in TARGETS]
    assert [a.prediction for a in results] == pytest.approx(predict(sequence, model)[0].tolist(), abs=1e-12)
    by_number = integrated_gradients(sequence, model, target=1, baseline="zeros", **FEW)
    np.testing.assert_array_equal(by_number.values, results[1].values)
    assert not np.allclose(results[0].values, results[1].values, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"`target` 'cone' is unknown .* Near matches: cones"):
        integrated_gradients(sequence, model, target="cone")
    with pytest.raises(ValueError, match="`target` must be given: crossdna has 3: rods, cones, amacrine"):
        integrated_gradients(sequence, model)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("shufle", "`baseline` must be 'shuffle', 'zeros', 'uniform' or an array, but got 'shufle'"),
        (None, "`baseline` must be .* got None"),
        (np.zeros((4, 8)), r"`baseline` must be of shape \(8, 4\) or \(K, 8, 4\), .* got \(4, 8\)"),
        (np.zeros((8, 5)), r"`baseline` must be of shape .* got \(8, 5\)"),
        (np.zeros((2, 7, 4)), r"`baseline` must be of shape .* got \(2, 7, 4\)"),
        (np.zeros((0, 8, 4)), r"`baseline` must be of shape .* got \(0, 8, 4\)"),
        (np.zeros(8), r"`baseline` must be of shape .* got \(8,\)"),
        (np.full((8, 4), np.nan), "`baseline` must be finite"),
        (np.full((2, 8, 4), np.inf), "`baseline` must be finite"),
    ],
    ids=["typo", "None", "transposed", "five channels", "length", "none of them", "one axis", "NaN", "infinite"],
)
def test_bad_baselines(baseline: object, message: str, model: nn.Module) -> None:
    with pytest.raises(ValueError, match=message):
        integrated_gradients("ACGTACGT", model, baseline=baseline)


@pytest.mark.parametrize("name", ["steps", "max_steps", "shuffles", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_bad_numbers(name: str, value: object, model: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1, but got {value!r}"):
        integrated_gradients("ACGTACGT", model, **{name: value})


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_bad_tolerance(value: float, model: nn.Module) -> None:
    with pytest.raises(ValueError, match="`tolerance` must be above 0"):
        integrated_gradients("ACGTACGT", model, tolerance=value)


def test_bad_sequence_in_a_list_is_named(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"`seq\[1\]` has 'X' at position 2"):
        integrated_gradients(["ACGT", "ACXT"], model)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda scores: scores + float("inf"), "`model` linear returned scores that are NaN or infinite"),
        (lambda scores: scores * float("nan"), "`model` linear returned scores that are NaN or infinite"),
        (lambda scores: scores[:, 0], r"`model` must return scores of shape \(\d+, 1\)"),
    ],
    ids=["infinite", "NaN", "shape"],
)
def test_bad_scores_name_the_model(answer: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integrated_gradients("ACGTACGT", Broken(answer), baseline="zeros")


def test_it_works_in_inference_mode_too(model: nn.Module, make_sequence: Callable) -> None:
    sequence = make_sequence(30)
    with pytest.warns(CompletenessWarning):
        expected = integrated_gradients(sequence, model, baseline="zeros", steps=2, max_steps=2)
    with torch.inference_mode(), pytest.warns(CompletenessWarning):
        inside = integrated_gradients(sequence, model, baseline="zeros", steps=2, max_steps=2)
    assert np.array_equal(inside.values, expected.values)


class Tokens(nn.Module):
    """Turns bases into numbers of a vocabulary, which stops gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x.argmax(1)).mean(1))


class WithoutGradients(nn.Module):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0].sum(1)


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()[:, 0].sum(1)


@pytest.mark.parametrize("module", [Tokens, WithoutGradients, Detached])
@pytest.mark.parametrize("analysis", [integrated_gradients, input_gradient])
@pytest.mark.parametrize("rc_average", [False, True])
def test_where_there_is_no_gradient_the_error_says_what_works(
    module: type[nn.Module], analysis: Callable, rc_average: bool
) -> None:
    model = wrap(module())
    with pytest.raises(ValueError, match=rf"`model` {module.__name__} gives no gradient .*`ism`.*`score_edits`"):
        analysis("ACGTTGCAAG", model, rc_average=rc_average)

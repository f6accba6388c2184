"""`integrated_gradients` against captum, and against linear models for which the path integral is known exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

from crossdna_interpret import (
    Attribution,
    CompletenessWarning,
    alphabet,
    input_gradient,
    integrated_gradients,
    predict,
    wrap,
)
from crossdna_interpret.shuffling import dinucleotide_shuffles

TARGETS = ("rods", "cones", "amacrine")
# Fixed quadrature that is content with any error, to compare with other quadratures of as many points.
FIXED = {"tolerance": 1e6}
# Fewer points than by default, and enough for the smooth models.
FEW = {"steps": 8}


def captum_by_strand(
    model: nn.Module, sequence: str, baseline: np.ndarray, target: int, *, sections: int = 1, points: int = 50
) -> tuple[np.ndarray, ...]:
    """Two (L, 4) arrays: what captum gives each stem convolution for its input, both in forward coordinates.

    `baseline` is (L, 4); as in the package, an N of the sequence is an N of the baseline too. The line is integrated in
    as many sections of equal length, with so many points each.
    """
    x = torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence), np.float64))[None]
    start = torch.zeros_like(x)
    start[0, :4] = torch.from_numpy(baseline).T
    unknown = torch.from_numpy(np.array(list(sequence)) == "N")
    start[:, :, unknown] = x[:, :, unknown]
    with warnings.catch_warnings():
        # The two convolutions stand side by side, which is what this warning asks to make sure of.
        warnings.filterwarnings("ignore", message="Multiple layers provided")
        method = LayerIntegratedGradients(model, [model.stem.conv_forward, model.stem.conv_reverse])
    options = {"n_steps": points, "method": "gausslegendre", "attribute_to_layer_input": True, "target": target}
    total = [torch.zeros_like(x), torch.zeros_like(x)]
    for number in range(sections):
        first, last = (torch.lerp(start, x, share / sections) for share in (number, number + 1))
        for strand, part in enumerate(method.attribute(last, baselines=first, **options)):
            total[strand] += part.detach()
    forward, reverse = (each[0, :4].numpy() for each in total)
    return forward.T, reverse[::-1, ::-1].T  # ACGT reversed is its complement


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


class Broken(LinearModel):
    """A model with a wrong answer, of which the gradients are as good as any."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__(8, ("a",))
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(super().forward(x))


def channels(sequence: str) -> np.ndarray:
    """(L, 4) one-hot channels ACGT; zeros at an N."""
    return alphabet.one_hot(alphabet.encode(sequence), np.float64)[:4].T


CAPTUM_CASES = {
    "one target": ({}, 17, ()),
    "N": ({"targets": TARGETS}, 19, (0, 7, 8, 18)),
    "several blocks": ({"targets": TARGETS}, 31, (24,)),
    "mirrored": ({"targets": TARGETS, "rc_blocks": "mirrored"}, 31, (24,)),
}


@pytest.mark.parametrize("baseline", ["zeros", "uniform", "array"])
@pytest.mark.parametrize("case", CAPTUM_CASES)
def test_equals_captum(case: str, baseline: str, make_model: Callable, make_sequence: Callable) -> None:
    options, length, n_at = CAPTUM_CASES[case]
    model = make_model(depth=1, **options).double()
    sequence = make_sequence(length, n_at=n_at)
    index = len(model.targets) - 1
    array = {
        "zeros": np.zeros((length, 4)),
        "uniform": np.full((length, 4), 0.25),
        "array": np.random.default_rng(3).dirichlet(np.ones(4), length),
    }[baseline]
    forward, reverse = captum_by_strand(model, sequence, array, index, sections=3, points=4)
    given = array if baseline == "array" else baseline
    a = integrated_gradients(sequence, model, target=index, baseline=given, steps=12, max_steps=12, **FIXED)
    np.testing.assert_allclose(a.forward, forward, rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.reverse, reverse, rtol=0, atol=1e-9)
    assert a.baseline == baseline
    assert a.certificate.settings["steps"] == 12
    # Both paths must matter, and differ, for the comparison to tell them apart.
    assert min(abs(forward).max(), abs(reverse).max(), abs(forward - reverse).max()) > 1e-3


@pytest.mark.parametrize("n_at", [(), (14,)])
def test_shuffle_is_the_mean_of_captum_over_the_shuffles(
    n_at: tuple[int, ...], make_model: Callable, make_sequence: Callable
) -> None:
    model = make_model(depth=1).double()
    sequence = make_sequence(30, n_at=n_at)
    shuffles = [channels(alphabet.decode(ids)) for ids in dinucleotide_shuffles(sequence, 3, 5)]
    parts = [captum_by_strand(model, sequence, shuffle, 0, sections=2, points=4) for shuffle in shuffles]
    forward, reverse = np.mean(parts, axis=0)
    a = integrated_gradients(sequence, model, shuffles=3, seed=5, steps=8, max_steps=8, **FIXED)
    np.testing.assert_allclose(a.forward, forward, rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.reverse, reverse, rtol=0, atol=1e-9)
    assert a.baseline == "shuffle"
    scores = predict([alphabet.decode(ids) for ids in dinucleotide_shuffles(sequence, 3, 5)], model)
    assert a.baseline_prediction == pytest.approx(scores.mean(), abs=1e-12)
    assert a.prediction == pytest.approx(predict(sequence, model).item(), abs=1e-12)


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
    given = array if baseline == "array" else baseline
    a = integrated_gradients(sequence, model, target="b", baseline=given, shuffles=4, seed=1, steps=1, max_steps=1)
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


@pytest.mark.parametrize("baseline", ["zeros", "uniform"])
def test_sections_that_are_halved_approach_one_fine_rule(
    baseline: str, smooth: Callable, make_sequence: Callable
) -> None:
    model, sequence = smooth(targets=TARGETS), make_sequence(40, n_at=(7,))
    array = np.full((40, 4), 0.25 if baseline == "uniform" else 0.0)
    forward, reverse = captum_by_strand(model, sequence, array, 1, points=200)
    a = integrated_gradients(sequence, model, target=1, baseline=baseline, steps=8, tolerance=1e-6)
    assert a.certificate.settings["steps"] > 8
    largest = np.abs(forward + reverse).max()
    np.testing.assert_allclose(a.forward, forward, rtol=0, atol=1e-5 * largest)
    np.testing.assert_allclose(a.reverse, reverse, rtol=0, atol=1e-5 * largest)


def test_models_with_kinks_on_the_way_are_complete_too(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model().double(), make_sequence(40)
    # One rule for the whole line is off by more than 1 % of the change, with as many as 1,024 points.
    a = integrated_gradients(sequence, model, shuffles=4, max_steps=1024)  # warnings are errors
    assert a.completeness_error < 0.01 * abs(a.prediction - a.baseline_prediction)


class Kink(nn.Module):
    """Its score rises from a share of the way on, and not before: the gradient jumps there."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x[:, :4].mean((1, 2)) * 4 - self.at)


def test_points_gather_where_the_gradient_jumps() -> None:
    points = []
    model = Kink(0.3)
    model.register_forward_pre_hook(lambda module, args: points.append(args[0].mean((1, 2)).double() * 4))
    a = integrated_gradients("ACGTTGCA", wrap(model), baseline="zeros", steps=16, tolerance=1e-3)
    assert a.completeness_error <= 1e-3 * abs(a.prediction - a.baseline_prediction)
    np.testing.assert_allclose(a.values.sum(1), 0.7 / 8, rtol=2e-3)  # every base has the same share
    at = torch.cat(points)
    assert a.certificate.settings["steps"] < 64
    assert ((at > 0.25) & (at < 0.35)).sum() > ((at > 0.5) & (at < 1)).sum()


def test_sections_may_not_be_wrong_by_turns() -> None:
    class Bumps(nn.Module):
        """Two bumps that four points see as too high and too low: the whole adds up by accident."""

        def forward(self, x: Tensor) -> Tensor:
            share = x[:, :4].mean((1, 2)) * 4
            return share + 0.2 * torch.sin(24 * torch.pi * share)

    a = integrated_gradients("ACGTTGCA", wrap(Bumps()), baseline="zeros", steps=8)
    np.testing.assert_allclose(a.values.sum(1), 1 / 8, rtol=0.01)
    assert a.certificate.checks["worst_relative_error_over_sections"] <= 0.01


def test_tolerance_is_the_relative_error(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence = smooth(), make_sequence(24)
    coarse = integrated_gradients(sequence, model, baseline="zeros", steps=4, max_steps=4, **FIXED)
    left = coarse.completeness_error / abs(coarse.prediction - coarse.baseline_prediction)
    enough = integrated_gradients(sequence, model, baseline="zeros", steps=4, tolerance=1.01 * left)
    np.testing.assert_array_equal(enough.values, coarse.values)
    assert enough.certificate.settings["steps"] == 4
    halved = integrated_gradients(sequence, model, baseline="zeros", steps=4, tolerance=0.99 * left)
    assert halved.certificate.settings["steps"] == 8
    with pytest.warns(CompletenessWarning):  # as many steps as it takes, and no fewer
        integrated_gradients(sequence, model, baseline="zeros", steps=4, max_steps=7, tolerance=0.99 * left)


def test_each_baseline_is_refined_by_itself(smooth: Callable, make_sequence: Callable) -> None:
    model, sequence, points = smooth(), make_sequence(24), []
    # From the sequence itself there is no way to go: any number of steps will do.
    stack = np.stack([channels(sequence), np.zeros((24, 4))])
    model.stem.register_forward_pre_hook(lambda module, args: points.append(len(args[0])))
    a = integrated_gradients(sequence, model, baseline=stack, steps=2, tolerance=1e-6)
    steps = a.certificate.settings["steps"]
    assert steps > 4
    # Three ends and two points for each baseline. Then each section that is halved takes one point in its middle, and
    # two in each half; the second baseline has `steps` / 2 sections in the end.
    assert sum(points) == 3 + 2 + 2 + 5 * (steps // 2 - 1)


def test_warning_tells_the_error_that_is_left(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model().double(), make_sequence(24)
    with pytest.warns(CompletenessWarning) as caught:
        a = integrated_gradients(sequence, model, baseline="zeros", steps=2, max_steps=3, tolerance=1e-3)
    assert len(caught) == 1
    left = a.completeness_error / abs(a.prediction - a.baseline_prediction)
    assert left > 1e-3
    assert a.certificate.checks["worst_relative_completeness_error"] == pytest.approx(left, rel=1e-6)
    message = str(caught[0].message)
    assert f"{left:.2%}" in message
    assert "0.10%" in message
    assert "2 steps" in message
    assert a.certificate.settings["steps"] == 2
    with pytest.warns(
        CompletenessWarning, match="with 6 steps"
    ):  # two, four, six in three sections, and then not eight
        b = integrated_gradients(sequence, model, baseline="zeros", steps=2, max_steps=7, tolerance=1e-9)
    assert b.certificate.settings["steps"] == 6


def test_warning_points_at_the_caller(make_model: Callable, make_sequence: Callable) -> None:
    with pytest.warns(CompletenessWarning) as caught:
        integrated_gradients(make_sequence(24), make_model(), baseline="zeros", steps=2, max_steps=2)
    assert caught[0].filename == __file__


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


class Detector(nn.Module):
    """Steep in its input; the scale and the offset of its score say nothing about the sequence."""

    def __init__(self, scale: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, 7, generator=torch.Generator().manual_seed(3)))
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        matches = nn.functional.conv1d(x, self.weight).amax(2)
        return torch.sigmoid(40 * (matches - 3)).mean(1) * self.scale + self.offset


def test_completeness_is_judged_alike_at_any_scale(make_sequence: Callable) -> None:
    sequence = make_sequence(60, seed=1)
    results = {}
    for scale in (1.0, 1e4, 1e-4, 1e-6, 1e-12):
        result = integrated_gradients(sequence, wrap(Detector(scale)), baseline="zeros")
        assert result.completeness_error <= 0.01 * abs(result.prediction - result.baseline_prediction)
        results[scale] = result
    steps = {result.certificate.settings["steps"] for result in results.values()}
    assert len(steps) == 1
    assert steps != {32}  # it was not enough at once
    for scale, result in results.items():
        np.testing.assert_allclose(result.values / scale, results[1.0].values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("offset", [1e5, -1e6])
def test_a_change_that_rounding_hides_cannot_be_judged_and_that_is_said(offset: float, make_sequence: Callable) -> None:
    sequence = make_sequence(60, seed=1)
    right = integrated_gradients(sequence, wrap(Detector(1.0)), baseline="zeros", tolerance=1e-4, max_steps=1024)
    with pytest.warns(CompletenessWarning, match=r"cannot be judged .* lost in the rounding of scores") as caught:
        result = integrated_gradients(sequence, wrap(Detector(1.0, offset)), baseline="zeros")
    assert caught[0].filename == __file__
    assert np.abs(result.values - right.values).max() < 0.03 * np.abs(right.values).max()
    exact = wrap(Detector(1.0, offset).double())
    assert integrated_gradients(sequence, exact, baseline="zeros").completeness_error < 0.01  # float64 does tell


def test_where_rounding_is_worst_it_is_said_too(make_sequence: Callable) -> None:
    with pytest.warns(CompletenessWarning, match="cannot be judged"):
        integrated_gradients(make_sequence(60, seed=1), wrap(Detector(1.0, 1e9)), baseline="zeros")


def test_scores_that_are_large_on_the_way_alone_are_no_error() -> None:
    class Between(nn.Module):
        """Near 0 at both ends, and 5 on the way."""

        def forward(self, x: Tensor) -> Tensor:
            first, second = x[:, 0, 0], x[:, 1, 1]
            return 10 * torch.sigmoid(300 * (first - 0.5)) * torch.sigmoid(-300 * (second - 0.52))

    a = integrated_gradients("ACGT", wrap(Between().double(), targets=["y"]), baseline="zeros")  # warnings are errors
    np.testing.assert_allclose(a.values[[0, 1], [0, 1]], [9.88, -9.88], atol=0.05)


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


def test_sums_do_not_depend_on_the_number_of_threads(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=["y"]), make_sequence(40)
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        results.append(
            integrated_gradients(sequence, model, shuffles=3, steps=8, max_steps=8, tolerance=9, batch_size=5)
        )
    torch.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result.values, results[0].values)


def test_equal_scores_at_both_ends_are_no_certificate() -> None:
    class Triangle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            share = x[:, :4].sum((1, 2)) / 8
            return torch.relu(1 - (3 * share - 1).abs())

    with pytest.warns(CompletenessWarning, match="of its attributions, more than"):
        result = integrated_gradients("ACGTACGT", wrap(Triangle()), baseline="zeros", steps=3, max_steps=3)
    assert result.prediction == result.baseline_prediction == 0
    assert result.certificate.checks["worst_relative_completeness_error"] > 0.01

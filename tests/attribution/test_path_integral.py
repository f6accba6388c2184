"""The path integral: sections equal captum's, inexact sections are halved, and rounding does not count as error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crossdna_interpret import CompletenessWarning, integrated_gradients, predict, wrap
from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.shuffling import dinucleotide_shuffles
from tests.attribution.oracles import TARGETS, captum_by_strand, channels

# Fixed quadrature that accepts any error, for comparison with other quadratures of the same number of points.
FIXED = {"tolerance": 1e6}


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
    value = array if baseline == "array" else baseline
    a = integrated_gradients(sequence, model, target=index, baseline=value, steps=12, max_steps=12, **FIXED)
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


@pytest.mark.slow
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

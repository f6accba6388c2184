"""`input_gradient` against captum, and for models with a known gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

from crossdna_interpret import input_gradient, predict
from crossdna_interpret.dna import strand


@pytest.mark.parametrize("targets", [("rods", "cones"), ()])
@pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
def test_equals_captums_gradient(
    rc_blocks: str, targets: tuple[str, ...], make_model: Callable, make_sequence: Callable
) -> None:
    model = make_model(targets=targets, rc_blocks=rc_blocks).double()
    sequence, target = make_sequence(53, n_at=(7,)), len(targets) - 1 if targets else 0
    x = model.one_hot(sequence)
    gradient = Saliency(model).attribute(x.clone().requires_grad_(), target=target, abs=False)[0, :4]
    expected = ((gradient - gradient.mean(0)) * x[0, :4]).T.numpy()
    result = input_gradient(sequence, model, target=target)
    np.testing.assert_allclose(result.values, expected, rtol=0, atol=1e-12)
    assert np.abs(result.forward).max() > 1e-3
    assert np.abs(result.reverse).max() > 1e-3
    assert not result.values[7].any()
    assert result.prediction == pytest.approx(predict(sequence, model)[0, target], abs=1e-12)
    assert result.baseline_prediction == pytest.approx(result.prediction - result.values.sum(), abs=1e-12)


class Linear(nn.Module):
    """2 for each A, -1 for each C at the first position; knows no strands."""

    targets, name, device, dtype = ("score",), "linear", torch.device("cpu"), torch.float64

    def forward(self, x: Tensor) -> Tensor:
        return (2 * x[:, 0].sum(-1) - x[:, 1, 0])[:, None]


def test_of_a_linear_model_by_hand() -> None:
    result = input_gradient("CA", Linear())
    np.testing.assert_allclose(result.forward, [[0, -1.25, 0, 0], [1.5, 0, 0, 0]])
    assert not result.reverse.any()


def test_averaged_it_is_mirrored(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(), make_sequence(40)
    one, other = (
        input_gradient(seq, model, rc_average=True) for seq in (sequence, strand.reverse_complement(sequence))
    )
    np.testing.assert_allclose(one.forward, strand.reverse_complement(other.reverse, channel_axis=-1), atol=1e-6)
    assert one.orientation_gap is not None


def test_lists_and_bad_input(model: nn.Module) -> None:
    first, second = input_gradient(["ACGT", "ACGTA"], model)
    assert (first.sequence, second.values.shape) == ("ACGT", (5, 4))
    with pytest.raises(ValueError, match="has 'X' at position 1"):
        input_gradient(["ACGT", "AX"], model)

"""`ism` against tangermeme's saturation mutagenesis, and against a linear model with a known answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tangermeme.saturation_mutagenesis import saturation_mutagenesis
from torch import Tensor, nn

from crossdna_interpret import Mutagenesis, ism, predict
from crossdna_interpret.dna import alphabet

TARGETS = ("rods", "cones", "amacrine")

# Lengths that are no multiple of the block size (24), and N at both ends, inside, and at a block boundary.
CASES = {
    "plain": ({}, 20, (), (0, None)),
    "N": ({}, 21, (0, 7, 8, 20), (0, None)),
    "window": ({}, 22, (10,), (5, 13)),
    "several targets": ({"targets": TARGETS}, 19, (4,), (0, None)),
    "several blocks": ({"targets": TARGETS}, 53, (23, 24), (19, 31)),
    "mirrored": ({"targets": TARGETS, "rc_blocks": "mirrored"}, 53, (23, 24), (19, 31)),
    "one block": ({"block_size": None}, 40, (3,), (25, 40)),
    "log-likelihood": ({"targets": ()}, 31, (2, 30), (0, None)),
    "log-likelihood, mirrored": ({"targets": (), "rc_blocks": "mirrored"}, 53, (30,), (40, 53)),
}


def tangermeme_ism(model: nn.Module, sequence: str, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Reference (T,) and predictions (L', 4, T); the fifth letter of its alphabet is N, which is no substitution."""
    x = torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence)))[None]
    raw = saturation_mutagenesis(model, x, start=start, end=end, raw_outputs=True, fast=False, device="cpu")
    return raw.y0[0].numpy(), raw.y_hat[0, :4].transpose(0, 1).numpy()


class Linear(nn.Module):
    """score[t] = sum of w[t, channel, position] over the sequence: the effect of every edit is known."""

    name = "linear"
    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(self, length: int, targets: tuple[str, ...]) -> None:
        super().__init__()
        self.targets = targets
        shape = (len(targets), 5, length)
        self.weight = nn.Parameter(torch.from_numpy(np.random.default_rng(7).normal(size=shape)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ncl,tcl->nt", x, self.weight)


@pytest.fixture
def seen(model: nn.Module) -> list[Tensor]:
    """The input of every forward pass of `model`."""
    inputs: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("case", CASES)
def test_equals_tangermeme(
    case: str, dtype: torch.dtype, tolerance: float, make_model: Callable, make_sequence: Callable
) -> None:
    options, length, n_at, (start, end) = CASES[case]
    model = make_model(**options).to(dtype)
    sequence = make_sequence(length, n_at=n_at)
    reference, predictions = tangermeme_ism(model, sequence, start, length if end is None else end)
    result = ism(sequence, model, target=0, start=start, end=end)
    assert result.predictions.dtype == predictions.dtype
    np.testing.assert_allclose(result.reference, reference, rtol=0, atol=tolerance)
    np.testing.assert_allclose(result.predictions, predictions, rtol=0, atol=tolerance)
    # Without effects of their own the comparison would say nothing.
    assert np.ptp(predictions[..., 0], axis=1).min() > 100 * tolerance


def test_linear_model_has_the_known_effects(make_sequence: Callable) -> None:
    model = Linear(11, ("a", "b"))
    sequence = make_sequence(11, n_at=(5,))
    weight, ids = model.weight.numpy(), alphabet.encode(sequence)
    result = ism(sequence, model, target="b", start=3, end=9)
    for i, position in enumerate(range(3, 9)):
        expected = weight[1, :4, position] - weight[1, ids[position], position]
        np.testing.assert_allclose(result.delta[i], expected, rtol=0, atol=1e-12)
        substitutions = np.delete(expected, ids[position]) if ids[position] < 4 else expected
        np.testing.assert_allclose(result.importance[i], -substitutions.mean(), rtol=0, atol=1e-12)


def test_fields_describe_the_question(make_model: Callable, make_sequence: Callable) -> None:
    model = make_model(targets=TARGETS)
    sequence = make_sequence(15)
    result = ism(sequence.lower().replace("t", "u"), model, target="cones", start=2, end=9)
    assert (result.sequence, result.start, result.end) == (sequence, 2, 9)
    assert (result.targets, result.target) == (TARGETS, "cones")
    assert result.predictions.shape == (7, 4, 3)
    assert result.predictions.dtype == result.reference.dtype == result.delta.dtype == np.float32
    assert result.certificate.method.startswith("ism")
    assert result.certificate.dtype == "float32"


def test_reference_is_the_prediction(make_model: Callable, make_sequence: Callable) -> None:
    model = make_model(targets=TARGETS)
    sequence = make_sequence(30, n_at=(4,))
    np.testing.assert_array_equal(ism(sequence, model, target=0, end=1).reference, predict(sequence, model)[0])


def test_own_base_repeats_the_reference_to_the_bit(make_model: Callable, make_sequence: Callable) -> None:
    sequence = make_sequence(26, n_at=(3, 25))
    result = ism(sequence, make_model(targets=TARGETS), target="cones")
    for position, base in enumerate(alphabet.encode(sequence)):
        if base < 4:
            np.testing.assert_array_equal(result.predictions[position, base], result.reference)
            assert result.delta[position, base] == 0
        else:
            assert (result.delta[position] != 0).all()  # at an N every base is a substitution


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_matter(batch_size: int, make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS, depth=1), make_sequence(19, n_at=(6,))
    expected = ism(sequence, model, target=0)
    result = ism(sequence, model, target=0, batch_size=batch_size)
    np.testing.assert_allclose(result.predictions, expected.predictions, rtol=0, atol=1e-6)
    assert result.certificate.settings["batch_size"] == batch_size


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_streams_each_edit_once(batch_size: int, model: nn.Module, seen: list, make_sequence: Callable) -> None:
    sequence = make_sequence(18, n_at=(3, 9))
    ism(sequence, model, start=2, end=12, batch_size=batch_size)
    assert max(len(x) for x in seen) <= batch_size
    own = torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence)))
    changed = (torch.cat(seen) != own).any(dim=1)  # (sequences, L)
    edits = 8 * 3 + 2 * 4
    # The sequence itself, and every edit once: no copy of the sequence is scored for the sake of a regular shape.
    assert sorted(changed.sum(dim=1).tolist()) == [0] + [1] * edits
    assert not changed[:, :2].any()
    assert not changed[:, 12:].any()
    # N stays where it is not under edit, and is never mutated to.
    assert torch.cat(seen)[:, 4].le(own[4]).all()
    assert len(torch.cat(seen).unique(dim=0)) == 1 + edits


def test_list_gives_list_in_order(make_model: Callable, make_sequence: Callable) -> None:
    model = make_model(targets=TARGETS)
    sequences = [make_sequence(length, seed=length) for length in (17, 9, 17)]
    results = ism(sequences, model, target="cones", start=1, end=8)
    assert isinstance(results, list)
    assert [result.sequence for result in results] == sequences
    for sequence, result in zip(sequences, results, strict=True):
        single = ism(sequence, model, target="cones", start=1, end=8)
        assert isinstance(single, Mutagenesis)
        np.testing.assert_array_equal(result.predictions, single.predictions)
    assert isinstance(ism(sequences[:1], model, target=0), list)


@pytest.mark.parametrize("sequence", ["A", "N", "NNNN", "C" * 26])
def test_degenerate_sequences(sequence: str, model: nn.Module) -> None:
    result = ism(sequence, model)
    _, predictions = tangermeme_ism(model, sequence, 0, len(sequence))
    np.testing.assert_allclose(result.predictions, predictions, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("start", "end", "values"),
    [(3, 3, ("start=3", "end=3")), (5, 2, ("start=5", "end=2")), (-1, 4, ("start=-1",)), (0, -1, ("end=-1",)),
     (0, 11, ("end=11", "10")), (10, None, ("start=10", "end=10"))],
)  # fmt: skip
def test_window_outside_the_sequence_names_the_values(
    start: int, end: int | None, values: tuple[str, ...], model: nn.Module, seen: list
) -> None:
    with pytest.raises(ValueError, match="`start` and `end`") as error:
        ism("ACGTACGTAC", model, start=start, end=end)
    for value in values:
        assert value in str(error.value)
    assert not seen  # refused before any work


@pytest.mark.parametrize(
    ("window", "message"),
    [({"start": 1.0}, r"`start` must be an integer, but got 1\.0"), ({"end": "4"}, r"`end` must be .* got '4'"),
     ({"start": True}, "`start` must be .* got True"), ({"end": 2.5}, r"`end` must be .* got 2\.5")],
)  # fmt: skip
def test_window_must_be_whole_numbers(window: dict, message: str, model: nn.Module) -> None:
    with pytest.raises(TypeError, match=message):
        ism("ACGTACGTAC", model, **window)


def test_window_takes_numpy_integers(model: nn.Module) -> None:
    result = ism("ACGTACGTAC", model, start=np.int64(2), end=np.int32(5))
    assert (result.start, result.end) == (2, 5)
    assert result.to_dataframe()["position"].unique().tolist() == [2, 3, 4]


def test_target_by_name_index_or_default(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS), make_sequence(12)
    for index, name in enumerate(TARGETS):
        result = ism(sequence, model, target=name, end=2)
        assert ism(sequence, model, target=index, end=2).target == result.target == name
        np.testing.assert_array_equal(result.delta, result.predictions[..., index] - result.reference[index])
    assert ism(sequence, make_model(targets=("only",)), end=2).target == "only"


def test_target_must_be_known(make_model: Callable) -> None:
    model = make_model(targets=TARGETS)
    with pytest.raises(ValueError, match=r"`target` 'cone' is unknown .* Near matches: cones"):
        ism("ACGT", model, target="cone")
    with pytest.raises(ValueError, match="`target` must be given: crossdna has 3: rods, cones, amacrine"):
        ism("ACGT", model)


def test_with_target_changes_the_view_only(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS), make_sequence(12)
    result = ism(sequence, model, target="rods", start=3)
    other = result.with_target("amacrine")
    assert (result.target, other.target) == ("rods", "amacrine")
    np.testing.assert_array_equal(other.predictions, result.predictions)
    np.testing.assert_array_equal(other.delta, ism(sequence, model, target="amacrine", start=3).delta)
    assert not np.allclose(other.delta, result.delta)


def test_bad_sequence_in_a_list_is_named(model: nn.Module, seen: list) -> None:
    with pytest.raises(ValueError, match=r"`seq\[1\]` has 'X' at position 2"):
        ism(["ACGT", "ACXT"], model)
    with pytest.raises(ValueError, match="`seq` must hold at least one base"):
        ism("", model)
    with pytest.raises(ValueError, match="`seq` must hold at least one sequence"):
        ism([], model)
    assert not seen


def test_batch_size_must_be_positive(model: nn.Module) -> None:
    for bad in (0, -3, 1.5, True):
        with pytest.raises(ValueError, match=f"`batch_size` must be .* got {bad}"):
            ism("ACGT", model, batch_size=bad)

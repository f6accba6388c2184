"""`rc_average`: the mean over both orientations is the same for a sequence and its reverse complement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.dna import strand
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.orientation import ReverseComplemented

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

CASES = {"one block": ({"block_size": None}, ("activity",)), "blocks": ({}, ("rods", "cones")), "mirrored": (
    {"rc_blocks": "mirrored"}, ("activity",)), "log-likelihood": ({}, ())}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def asked(case: str, make_model: Make, make_sequence: MakeSequence) -> tuple[CrossDNA, str, str]:
    config, targets = CASES[case]
    sequence = make_sequence(53, n_at=(9,))
    return make_model(targets=targets, **config), sequence, strand.reverse_complement(sequence)


@every_case
def test_predictions_do_not_depend_on_the_orientation(asked: tuple[CrossDNA, str, str]) -> None:
    model, sequence, reverse = asked
    one, other = (cdi.predict([seq], model, rc_average=True) for seq in (sequence, reverse))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    both = cdi.predict([sequence, reverse], model)
    np.testing.assert_allclose(one[0], both.mean(0), rtol=0, atol=1e-6)
    assert np.abs(both[0] - both[1]).min() > 1e-3


@pytest.mark.slow
@every_case
def test_mutagenesis_is_mirrored(asked: tuple[CrossDNA, str, str]) -> None:
    model, sequence, reverse = asked
    one, other = (cdi.ism(seq, model, target=0, rc_average=True) for seq in (sequence, reverse))
    np.testing.assert_allclose(one.delta, strand.reverse_complement(other.delta, channel_axis=-1), rtol=0, atol=1e-6)
    plain = [cdi.ism(seq, model, target=0) for seq in (sequence, reverse)]
    mean = (plain[0].delta + strand.reverse_complement(plain[1].delta, channel_axis=-1)) / 2
    np.testing.assert_allclose(one.delta, mean, rtol=0, atol=2e-6)
    gap = strand.reverse_complement(plain[1].delta, channel_axis=-1) - plain[0].delta
    np.testing.assert_allclose(one.orientation_gap, gap, rtol=0, atol=2e-6)
    assert plain[0].orientation_gap is None
    assert one.certificate.settings["rc_average"] is True
    assert one.certificate.model_hash == plain[0].certificate.model_hash


@pytest.mark.parametrize("baseline", ["shuffle", "zeros", "uniform"])
def test_attributions_are_mirrored(baseline: str, make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(block_size=None).double(), make_sequence(30, n_at=(4,))
    options = {"baseline": baseline, "shuffles": 2, "steps": 16, "max_steps": 16, "tolerance": 1e6}
    one, other = (
        cdi.integrated_gradients(seq, model, rc_average=True, **options)
        for seq in (sequence, strand.reverse_complement(sequence))
    )
    for first, second in ((one.forward, other.reverse), (one.reverse, other.forward)):
        np.testing.assert_allclose(first, strand.reverse_complement(second, channel_axis=-1), rtol=0, atol=1e-9)
    assert one.prediction == pytest.approx(float(cdi.predict(sequence, model, rc_average=True)[0, 0]))
    assert one.orientations is not None
    np.testing.assert_allclose((one.orientations[0].values + one.orientations[1].values) / 2, one.values)
    assert np.abs(one.orientation_gap).max() > 1e-3


@every_case
def test_exchange_is_mirrored(asked: tuple[CrossDNA, str, str]) -> None:
    model, sequence, reverse = asked
    one, other = (cdi.strand_exchange(seq, model, target=0, rc_average=True) for seq in (sequence, reverse))
    np.testing.assert_allclose(one.by_source, other.by_source[:, ::-1, ::-1, ::-1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(one.bias, other.bias[::-1, ::-1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(one.fusion_gate, 1 - other.fusion_gate[::-1], rtol=0, atol=1e-6)
    assert one.effects.reverse_to_forward == pytest.approx(other.effects.forward_to_reverse, abs=1e-6)
    assert one.effects.both == pytest.approx(cdi.predict(sequence, model, rc_average=True)[0, 0], abs=1e-5)
    assert one.completeness_error < 1e-5
    assert one.orientations is not None
    assert all(each.sequence == sequence for each in one.orientations)
    np.testing.assert_array_equal(one.orientations[1].partner, one.partner)
    assert np.abs(one.orientation_gap).max() > 1e-4


def test_edits_and_pairs_take_part(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(targets=("rods", "cones")), make_sequence(40)
    reverse = strand.reverse_complement(sequence)
    scan = cdi.deletion_scan(sequence, model, target="cones", width=3, rc_average=True)
    mirror = cdi.deletion_scan(reverse, model, target="cones", width=3, rc_average=True)
    np.testing.assert_allclose(scan.delta, mirror.delta[::-1], rtol=0, atol=1e-6)
    scores = scan.scores.with_target("rods")
    assert scores.orientations is not None
    assert [one.target for one in scores.orientations] == ["rods", "rods"]
    gap = scores.orientations[1].delta - scores.orientations[0].delta
    np.testing.assert_array_equal(scores.orientation_gap, gap)
    pairs = cdi.pairwise_ism(sequence, model, positions=[3, 9], target=0, rc_average=True)
    mirrored = cdi.pairwise_ism(reverse, model, positions=[30, 36], target=0, rc_average=True)
    expected = mirrored.interaction[0, ::-1, ::-1].T
    np.testing.assert_allclose(pairs.interaction[0], expected, rtol=0, atol=2e-6)


def test_a_turned_model_offers_what_the_model_does(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(60)
    result = cdi.ism(sequence, ReverseComplemented(model))
    assert "exact reuse" in result.certificate.method
    assert result.certificate.checks["reuse_worst_difference"] < 1e-5


class Firsts(nn.Module):
    """The first base: 1 for A. Offers nothing."""

    targets, name, device, dtype = ("first",), "firsts", torch.device("cpu"), torch.float64

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1, 0]


def test_any_model_can_be_averaged() -> None:
    r = cdi.ism("ACGT", Firsts(), rc_average=True)
    assert r.reference.tolist() == [1.0]
    assert r.delta.tolist() == [[0, -0.5, -0.5, -0.5], [0] * 4, [0] * 4, [-0.5, -0.5, -0.5, 0]]
    assert cdi.predict(["ACGC", "CCCT"], Firsts(), rc_average=True)[:, 0].tolist() == [0.5, 0.5]


def test_what_was_kept_of_one_orientation_is_not_taken_for_the_other(
    make_model: Make, make_sequence: MakeSequence, tmp_path: object
) -> None:
    model, sequence = make_model(), make_sequence(30)
    cdi.ism(sequence, model, cache=str(tmp_path))
    kept, fresh = (cdi.ism(sequence, model, rc_average=True, cache=folder) for folder in (str(tmp_path), None))
    np.testing.assert_allclose(kept.predictions, fresh.predictions, rtol=0, atol=1e-6)

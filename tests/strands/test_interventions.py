"""`ablate_exchange` and `patch_exchange`: bit-exact if nothing or everything changes, otherwise against hooks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import crossdna_interpret as cdi
from crossdna_interpret.models import spans
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.hooks import capture, hooked, intervene

Make = Callable[..., CrossDNA]
MakeSequence = Callable[..., str]

LENGTH = 60
every_pairing = pytest.mark.parametrize("rc_blocks", ["aligned", "mirrored"])
every_replacement = pytest.mark.parametrize("replacement", ["zero", "mean", "shuffled"])


@pytest.fixture
def exact(rc_blocks: str, make_model: Make) -> CrossDNA:
    return make_model(rc_blocks=rc_blocks).double()


@pytest.mark.slow
@every_pairing
@pytest.mark.parametrize("targets", [("rods", "cones"), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ablating_everything_is_none_to_the_bit(
    rc_blocks: str, targets: tuple[str, ...], dtype: torch.dtype, make_model: Make, make_sequence: MakeSequence
) -> None:
    model, sequence = make_model(targets=targets, rc_blocks=rc_blocks).to(dtype), make_sequence(LENGTH, n_at=(3,))
    x = cdi.strand_exchange(sequence, model, target=0)
    r = cdi.ablate_exchange(sequence, model, target=0)
    assert r.prediction == r.none == x.effects.none
    assert r.reference == r.only == x.effects.both
    assert r.necessity == r.sufficiency == -r.delta == x.effects.total != 0
    for way in ("reverse_to_forward", "forward_to_reverse"):
        kept = cdi.ablate_exchange(sequence, model, target=0, direction=way)
        other = "forward_to_reverse" if way == "reverse_to_forward" else "reverse_to_forward"
        assert kept.prediction == getattr(x.effects, other)
        assert kept.only == getattr(x.effects, way)


@every_pairing
@every_replacement
@pytest.mark.parametrize("side", ["receiver", "sender"])
def test_ablating_nothing_changes_nothing(
    exact: CrossDNA, replacement: str, side: str, make_sequence: MakeSequence
) -> None:
    r = cdi.ablate_exchange(make_sequence(LENGTH), exact, positions=[], replacement=replacement, side=side)
    assert r.delta == r.necessity == 0
    assert r.only == r.none


@every_pairing
def test_patching_a_sequence_into_itself_changes_nothing_to_the_bit(
    exact: CrossDNA, make_sequence: MakeSequence
) -> None:
    sequence = make_sequence(LENGTH)
    for model in (exact, exact.float()):
        for choice in ({}, {"side": "sender"}, {"positions": range(10, 30), "sources": "dilation 4"}):
            r = cdi.patch_exchange(sequence, sequence, model, **choice)
            assert r.delta == 0
            assert np.isnan(r.recovered)
        assert r.reference == cdi.strand_exchange(sequence, model).effects.both
        assert not hooked(model)


def replaced_by_hooks(
    model: CrossDNA, sequence: str, change: Callable[[torch.Tensor, spans.Locus], torch.Tensor]
) -> float:
    with intervene(model, {"bridge.message_*": change}):
        return float(cdi.predict(sequence, model)[0, 0])


@every_pairing
def test_receivers_lose_what_hooks_take_from_them(exact: CrossDNA, make_sequence: MakeSequence) -> None:
    sequence, places = make_sequence(LENGTH, n_at=(20,)), [0, 7, 23, 24, 25, 40]

    def without(value: torch.Tensor, where: spans.Locus) -> torch.Tensor:
        if where.strand == "reverse":
            return value
        return torch.where(torch.from_numpy(np.isin(where.positions, places))[:, None], 0.0, value)

    r = cdi.ablate_exchange(sequence, exact, positions=places, direction="reverse_to_forward")
    assert r.prediction == pytest.approx(replaced_by_hooks(exact, sequence, without), abs=1e-12)
    assert abs(r.necessity) > 1e-4


@every_pairing
def test_patched_receivers_get_what_hooks_give_them(exact: CrossDNA, make_sequence: MakeSequence) -> None:
    source, sequence, places = make_sequence(LENGTH, seed=1), make_sequence(LENGTH, seed=2), list(range(15, 45))
    with capture(exact, "bridge.message_*") as seen:
        cdi.predict(source, exact)
    inputs = {(a.where.strand, a.where.start): a.value for name in seen for a in seen[name]}

    def patched(value: torch.Tensor, where: spans.Locus) -> torch.Tensor:
        here = torch.from_numpy(np.isin(where.positions, places))[:, None]
        return torch.where(here, inputs[where.strand, where.start], value)

    r = cdi.patch_exchange(source, sequence, exact, positions=places)
    assert r.prediction == pytest.approx(replaced_by_hooks(exact, sequence, patched), abs=1e-12)
    assert r.source_prediction == pytest.approx(cdi.predict(source, exact)[0, 0], abs=1e-12)
    assert r.recovered == pytest.approx((r.prediction - r.reference) / (r.source_prediction - r.reference))
    assert abs(r.delta) > 1e-4


@every_pairing
@pytest.mark.parametrize("side", ["receiver", "sender"])
def test_sources_and_directions_add_up_in_the_message(exact: CrossDNA, side: str, make_sequence: MakeSequence) -> None:
    """Everything but one choice, and that choice, meet: what the one removes is what the other leaves."""
    sequence = make_sequence(LENGTH)
    sources = (*cdi.strand_exchange(sequence, exact).sources, "bias")
    one = ["dilation 2", "global mean"]
    rest = [name for name in sources if name not in one]
    for replacement in ("zero", "mean", "shuffled"):
        chosen = cdi.ablate_exchange(sequence, exact, sources=one, replacement=replacement, side=side)
        others = cdi.ablate_exchange(sequence, exact, sources=rest, replacement=replacement, side=side)
        assert chosen.prediction == pytest.approx(others.only, abs=1e-12)
        assert chosen.only == pytest.approx(others.prediction, abs=1e-12)
        assert chosen.none == others.none


def test_what_is_received_is_as_necessary_as_sufficient(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model().double(), make_sequence(LENGTH)
    x = cdi.strand_exchange(sequence, model)
    for places in (range(20, 40), [3], range(LENGTH)):
        r = cdi.ablate_exchange(sequence, model, positions=places)
        assert r.necessity == pytest.approx(r.sufficiency, abs=1e-12)
        assert r.necessity == pytest.approx(x.received[:, list(places)].sum(), abs=1e-9)
    sent = cdi.ablate_exchange(sequence, model, positions=range(20, 40), side="sender")
    assert abs(sent.necessity - sent.sufficiency) > 1e-5


def test_a_mean_is_what_it_says(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(block_size=None).double(), make_sequence(LENGTH)
    r = cdi.ablate_exchange(sequence, model, replacement="mean")
    expected = replaced_by_hooks(model, sequence, lambda value, where: value.mean(1, keepdim=True).expand_as(value))
    assert r.prediction == pytest.approx(expected, abs=1e-12)


def test_a_shuffle_comes_from_its_seed(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(LENGTH)
    first, again, other = (
        cdi.ablate_exchange(sequence, model, replacement="shuffled", seed=seed) for seed in (1, 1, 2)
    )
    assert first.prediction == again.prediction != other.prediction


def test_tables(make_model: Make, make_sequence: MakeSequence) -> None:
    model, sequence = make_model(), make_sequence(LENGTH)
    row = cdi.ablate_exchange(sequence, model, positions=range(5)).to_dataframe().iloc[0]
    assert row["necessity"] == -row["delta"]
    assert row["positions"] == 5
    row = cdi.patch_exchange(make_sequence(LENGTH, seed=9), sequence, model).to_dataframe().iloc[0]
    assert row["delta"] == row["prediction"] - row["reference"]


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"direction": "up"}, ValueError, "`direction` must be one of .* but got 'up'"),
        ({"side": "left"}, ValueError, "`side` must be one of"),
        ({"replacement": "noise"}, ValueError, "`replacement` must be one of"),
        ({"positions": [60]}, ValueError, "`positions` must be from 0 to 59, but got 60"),
        ({"positions": [-1]}, ValueError, "`positions` must be from 0 to 59, but got -1"),
        ({"positions": [1.5]}, TypeError, "`positions` must be integers, but got 1.5"),
        ({"positions": "abc"}, TypeError, "`positions` must be a list of integers"),
        ({"positions": 3}, TypeError, "`positions` must be a list of integers"),
        ({"sources": "dilation 3"}, ValueError, "`sources` has no 'dilation 3'. Near matches: dilation"),
        ({"seed": -1}, ValueError, "`seed` must be an integer of at least 0"),
        ({"target": "x"}, ValueError, "`target` 'x' is unknown"),
    ],
)
def test_bad_choices(
    choice: dict, error: type[Exception], message: str, model: CrossDNA, make_sequence: MakeSequence
) -> None:
    with pytest.raises(error, match=message):
        cdi.ablate_exchange(make_sequence(LENGTH), model, **choice)


def test_sequences_of_two_lengths_cannot_be_patched(model: CrossDNA) -> None:
    with pytest.raises(ValueError, match="must be of one length, but have 4 and 5 bases"):
        cdi.patch_exchange("ACGT", "ACGTA", model)

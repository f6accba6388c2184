"""Errors of predicted changes, and intervals from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import crossdna_interpret as cdi
from crossdna_interpret.attribution.uncertainty import variants_of
from crossdna_interpret.measured.errors import fit_errors, held_out_intervals
from crossdna_interpret.models.change_errors import ChangeErrors
from crossdna_interpret.models.crossdna.checkpoint import save_crossdna
from tests.measured.truth.conftest import LENGTH, Weighted


def test_intervals_hold_what_they_say(report: cdi.TruthReport) -> None:
    assert 0.85 <= report.coverage <= 0.95
    widths = (report.table["high"] - report.table["low"]) / 2
    # The noise of a difference of two measurements has a standard deviation of 0.5 * 2 ** 0.5.
    assert widths.mean() == pytest.approx(1.645 * 0.5 * 2**0.5, rel=0.15)


def test_intervals_follow_where_errors_are_large() -> None:
    random = np.random.default_rng(0)
    n = 4000
    spread, predicted = random.exponential(size=n), random.normal(size=n)
    measured = predicted + random.normal(size=n) * np.hypot(0.2, spread)
    family = np.arange(n) // 8
    low, high = held_out_intervals(predicted, measured, spread, family, 0.9)
    inside = (measured >= low) & (measured <= high)
    for part in (spread < 0.3, (spread >= 0.3) & (spread < 1), spread >= 1):
        assert 0.85 <= inside[part].mean() <= 0.95
    errors = fit_errors(predicted, measured, spread)
    assert errors.of_change < 0.1 < errors.of_spread
    widths = [errors.half_width(np.zeros(1), np.zeros(1), level)[0] for level in errors.levels]
    assert widths == sorted(widths)


def test_intervals_of_other_families_know_nothing_of_their_own() -> None:
    random = np.random.default_rng(0)
    predicted = np.zeros(400)
    measured = random.normal(size=400) * np.repeat([1.0, 100.0], 200)
    low, high = held_out_intervals(predicted, measured, np.zeros(400), np.repeat([0, 1], 200), 0.9)
    inside = (measured >= low) & (measured <= high)
    assert inside[:200].all()  # their intervals are from the noisy family
    assert inside[200:].mean() < 0.1


def test_mutagenesis_has_intervals_from_a_report(report: cdi.TruthReport, model: cdi.SequenceModel) -> None:
    sequence = report.sequences[0]
    result = cdi.mutation_intervals(sequence.lower(), model, errors=report.errors, level=0.5)
    errors = ChangeErrors.from_dict(json.loads(json.dumps(report.errors)))
    own = np.array(list(sequence))[:, None] == np.array(list("ACGT"))
    assert (result.low[own] == 0).all()
    assert (result.high[own] == 0).all()
    np.testing.assert_allclose(
        (result.high - result.low)[~own] / 2, errors.half_width(result.mutagenesis.delta, 0 * result.spread, 0.5)[~own]
    )
    frame = result.to_dataframe()
    assert len(frame) == 3 * LENGTH
    assert (frame["certain"] == ((frame["low"] > 0) | (frame["high"] < 0))).all()
    with pytest.raises(ValueError, match="`errors` must be given: Weighted has no errors of changes in activity"):
        cdi.mutation_intervals(sequence, model)
    with pytest.raises(ValueError, match=r"`level` must be one of \[0.5, 0.8, 0.9, 0.95\], but got 0.7"):
        cdi.mutation_intervals(sequence, model, errors=report.errors, level=0.7)


def test_sub_networks_and_members_give_the_spread(make_model: Callable, make_sequence: Callable) -> None:
    model, other = make_model(targets=("y",)), make_model(targets=("y",))
    errors = ChangeErrors(0.1, 1.0, 0.0, {0.9: 2.0}, pairs=100)
    sequence = make_sequence(30)
    drawn = cdi.mutation_intervals(sequence, model, draws=3, errors=errors, end=5)
    again = cdi.mutation_intervals(sequence, model, draws=3, errors=errors, end=5)
    assert drawn.spread.max() > 0
    np.testing.assert_array_equal(drawn.spread, again.spread)
    both = cdi.mutation_intervals(sequence, model, members=[model, other], errors=errors, end=5)
    deltas = [cdi.ism(sequence, each, end=5).delta for each in (model, other)]
    np.testing.assert_allclose(both.spread, np.std(deltas, axis=0), atol=1e-6)
    none = cdi.mutation_intervals(sequence, model, draws=0, errors=errors, end=5)
    assert not none.spread.any()


def test_errors_of_changes_travel_with_a_model(make_model: Callable, tmp_path: Path) -> None:
    model = make_model(targets=("y",))
    model.change_errors = {"y": ChangeErrors(0.1, 0.5, 0.2, {0.9: 2.0, 0.5: 0.7}, pairs=100)}
    loaded = cdi.load_model(save_crossdna(model, tmp_path / "model", card="# Toy\n"))
    assert loaded.change_errors == model.change_errors  # type: ignore[attr-defined]
    assert cdi.mutation_intervals("ACGTACGT", loaded, draws=1, end=2).level == 0.9


def test_errors_of_something_else_are_refused(report: cdi.TruthReport, make_model: Callable) -> None:
    sequence, other = report.sequences[0], cdi.wrap(Weighted(LENGTH, seed=1), targets=["activity"])
    with pytest.raises(ValueError, match="`errors` are of another model"):
        cdi.mutation_intervals(sequence, other, errors=report.errors)
    errors = ChangeErrors(0.1, 1.0, 0.0, {0.9: 2.0}, pairs=100, target="y", variants="8 sub-networks")
    trained = make_model(targets=("x", "y"))
    assert cdi.mutation_intervals(sequence, trained, target="y", errors=errors, end=2).level == 0.9
    with pytest.raises(ValueError, match="`errors` are of another target: target was 'y', and is 'x' here"):
        cdi.mutation_intervals(sequence, trained, target="x", errors=errors)
    with pytest.raises(ValueError, match="other variants: variants was '8 sub-networks', and is '0 sub-networks'"):
        cdi.mutation_intervals(sequence, trained, target="y", errors=errors, draws=0)
    with pytest.raises(ValueError, match="other variants: variants was '8 sub-networks', and is 'members "):
        cdi.mutation_intervals(sequence, trained, target="y", errors=errors, members=[trained])
    with pytest.raises(TypeError, match="`seq` must be a string of bases"):
        cdi.mutation_intervals([sequence], trained, target="y", errors=errors)  # type: ignore[arg-type]


def test_sub_networks_of_a_symmetric_model_are_symmetric() -> None:
    (network, *_), described = variants_of(cdi.load_model(), 1, ())
    assert described == "1 sub-networks"
    sequence = cdi.example().sequence
    one, other = cdi.predict([sequence, cdi.reverse_complement(sequence)], network).ravel().tolist()
    assert one == pytest.approx(other, abs=1e-4)
    assert abs(one - cdi.predict(sequence).item()) > 1e-3


def test_pale_effects_are_those_of_the_map_that_is_drawn(report: cdi.TruthReport, model: cdi.SequenceModel) -> None:
    intervals = cdi.mutation_intervals(report.sequences[0], model, errors=ChangeErrors.from_dict(report.errors))
    ax = Figure().subplots()
    earlier = ax.imshow(np.zeros((4, LENGTH)))
    intervals.plot(ax)
    assert earlier.get_alpha() is None
    assert np.asarray(ax.images[1].get_alpha()).shape == (4, LENGTH)

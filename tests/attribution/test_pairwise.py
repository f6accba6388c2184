"""`pairwise_ism` against predictions of doubly edited strings, tangermeme, and models whose interactions are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tangermeme.ersatz import substitute
from tangermeme.saturation_mutagenesis import saturation_mutagenesis
from torch import Tensor, nn

from crossdna_interpret import PairwiseMutagenesis, pairwise_ism, predict
from crossdna_interpret.dna import alphabet

TARGETS = ("rods", "cones", "amacrine")
MODELS: dict[str, dict[str, Any]] = {
    "several blocks": {"targets": TARGETS},
    "mirrored": {"targets": TARGETS, "rc_blocks": "mirrored"},
    "one block": {"targets": TARGETS, "block_size": None},
    "log-likelihood": {"targets": ()},
}


class Known(nn.Module):
    """Every base at every position adds a number of its own; the second target multiplies what two positions say."""

    name = "known"
    targets: tuple[str, ...] = ("additive", "product")
    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(self, length: int, pair: tuple[int, int]) -> None:
        super().__init__()
        self.pair = pair
        weight = torch.from_numpy(np.random.default_rng(5).normal(size=(5, length)))
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        said = (x * self.weight).sum(1)  # (n, L)
        additive = said.sum(-1)
        return torch.stack([additive, additive + said[:, self.pair[0]] * said[:, self.pair[1]]], dim=-1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sequences that `Known` is asked about."""
    texts: list[str] = []
    forward = Known.forward

    def watched(self: Known, x: Tensor) -> Tensor:
        texts.extend(alphabet.decode(row.argmax(0).numpy()) for row in x)
        return forward(self, x)

    monkeypatch.setattr(Known, "forward", watched)
    return texts


def with_bases(sequence: str, changes: dict[int, str]) -> str:
    return "".join(changes.get(place, base) for place, base in enumerate(sequence))


def channels(sequence: str) -> Tensor:
    return torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence), np.float64))[None]


# Against other computations


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_the_doubly_edited_strings(
    name: str, dtype: torch.dtype, tolerance: float, make_model: Callable, make_sequence: Callable
) -> None:
    model, sequence = make_model(**MODELS[name]).to(dtype), make_sequence(53, n_at=(30,))
    positions = [2, 22, 25, 30, 52]
    result = pairwise_ism(sequence, model, positions=positions, target=0)
    assert result.positions.tolist() == positions
    assert result.pairs.tolist() == [list(pair) for pair in itertools.combinations(range(5), 2)]
    texts = [
        with_bases(sequence, {one: a, other: b})
        for one, other in itertools.combinations(positions, 2)
        for a in "ACGT"
        for b in "ACGT"
    ]
    expected = predict(texts, model).reshape(10, 4, 4, -1)
    np.testing.assert_allclose(result.predictions, expected, rtol=0, atol=tolerance)
    texts = [with_bases(sequence, {place: base}) for place in positions for base in "ACGT"]
    np.testing.assert_allclose(result.singles, predict(texts, model).reshape(5, 4, -1), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(result.reference, predict(sequence, model)[0])
    assert result.predictions.dtype == result.singles.dtype == result.interaction.dtype == result.reference.dtype
    assert np.abs(result.strongest).max() > 1000 * tolerance  # pairs in one block interact


@pytest.mark.parametrize("name", ["several blocks", "mirrored"])
def test_interactions_are_those_of_tangermemes_mutagenesis(
    name: str, make_model: Callable, make_sequence: Callable
) -> None:
    # The interaction of a base with all others is what the base, once substituted, changes in the mutagenesis of them.
    model, sequence = make_model(**MODELS[name]).double(), make_sequence(40)
    x = channels(sequence)

    def deltas(x: Tensor) -> np.ndarray:
        raw = saturation_mutagenesis(model, x, start=9, end=19, raw_outputs=True, fast=False, device="cpu")
        return (raw.y_hat[0, :4, :, 1] - raw.y0[0, 1]).T.numpy()  # (10, 4)

    before = deltas(x)
    result = pairwise_ism(sequence, model, regions=((5, 6), (9, 19)), target="cones")
    for base, letter in enumerate("ACGT"):
        expected = np.zeros((10, 4)) if letter == sequence[5] else deltas(substitute(x, channels(letter), 5)) - before
        np.testing.assert_allclose(result.interaction[:, base], expected, rtol=0, atol=1e-5)
    assert np.abs(result.interaction).max() > 1e-2


# Known interactions


def test_an_additive_model_has_no_interactions(make_sequence: Callable) -> None:
    result = pairwise_ism(make_sequence(20, n_at=(9,)), Known(20, (3, 15)), positions=range(20), target="additive")
    assert np.abs(result.singles[..., 0] - result.reference[0]).max() > 1
    np.testing.assert_allclose(result.interaction, 0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.strongest, 0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_at", [(), (3,), (15,), (3, 15)])
def test_a_product_interacts_as_its_factors_change(n_at: tuple[int, ...], make_sequence: Callable) -> None:
    sequence, model = make_sequence(20, n_at=n_at), Known(20, (3, 15))
    ids, weight = alphabet.encode(sequence), model.weight.numpy()
    result = pairwise_ism(sequence, model, positions=[15, 3, 8], target="product")
    first, second = (weight[:4, place] - weight[ids[place], place] for place in (3, 15))  # 0 for the own base
    expected = {(3, 15): np.outer(first, second), (3, 8): np.zeros((4, 4)), (8, 15): np.zeros((4, 4))}
    for (one, other), interaction in zip(result.positions[result.pairs].tolist(), result.interaction, strict=True):
        np.testing.assert_allclose(interaction, expected[one, other], rtol=0, atol=1e-12)
    largest = expected[3, 15].flat[np.abs(expected[3, 15]).argmax()]
    assert result.strongest.tolist() == pytest.approx([0, largest, 0], abs=1e-12)
    assert result.with_target("additive").strongest.tolist() == pytest.approx([0, 0, 0], abs=1e-12)


# Symmetries and own bases


def test_the_order_of_positions_and_of_regions_does_not_matter(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model().double(), make_sequence(50)
    there = pairwise_ism(sequence, model, positions=[4, 30, 17, 4])
    back = pairwise_ism(sequence, model, positions=(17, np.int64(30), 4))
    ahead = pairwise_ism(sequence, model, regions=((3, 6), (28, 31)))
    behind = pairwise_ism(sequence, model, regions=[(28, 31), (3, 6)])
    for one, other in ((there, back), (ahead, behind)):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.pairs, other.pairs)
        np.testing.assert_array_equal(one.predictions, other.predictions)
    np.testing.assert_array_equal(there.matrix, there.matrix.T)
    np.testing.assert_array_equal(np.isnan(there.matrix), np.eye(3, dtype=bool))
    # Bases are those of the first position down, of the second across, whichever way they were asked for.
    np.testing.assert_allclose(
        ahead.interaction[ahead.pairs.tolist().index([1, 5])], there.interaction[1], rtol=0, atol=1e-12
    )


def test_own_bases_repeat_what_is_known_to_the_bit(make_model: Callable, make_sequence: Callable) -> None:
    sequence = make_sequence(50, n_at=(17,))
    result = pairwise_ism(sequence, make_model(targets=TARGETS), positions=[4, 17, 20], target="cones")
    ids = alphabet.encode(sequence)[result.positions]
    for row, base in enumerate(ids):
        if base < 4:
            np.testing.assert_array_equal(result.singles[row, base], result.reference)
        else:
            assert (result.singles[row] != result.reference).all()  # at an N every base is a substitution
    for (first, second), both, interaction in zip(result.pairs, result.predictions, result.interaction, strict=True):
        own = np.zeros((4, 4), dtype=bool)
        if ids[first] < 4:
            np.testing.assert_array_equal(both[ids[first]], result.singles[second])
            own[ids[first]] = True
        if ids[second] < 4:
            np.testing.assert_array_equal(both[:, ids[second]], result.singles[first])
            own[:, ids[second]] = True
        np.testing.assert_array_equal(interaction == 0, own)


# Which pairs are asked about


def test_every_edit_is_asked_once(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "crossdna_interpret.scoring.runner.stability", lambda *_: {}
    )  # which scores sequences of its own
    sequence = "ACGTNACGT"
    pairwise_ism(sequence, Known(9, (0, 1)), regions=((1, 4), (3, 6)), target=0, batch_size=4)
    assert len(asked) == len(set(asked))
    places = {place: [base for base in "ACGT" if base != sequence[place]] for place in range(1, 6)}
    expected = {sequence} | {with_bases(sequence, {place: base}) for place in places for base in places[place]}
    for one, other in {(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5), (3, 4), (3, 5)}:
        expected |= {with_bases(sequence, {one: a, other: b}) for a in places[one] for b in places[other]}
    assert set(asked) == expected


@pytest.mark.parametrize(
    ("regions", "pairs"),
    [
        (((1, 3), (6, 8)), [(1, 6), (1, 7), (2, 6), (2, 7)]),
        (((6, 8), (1, 2)), [(1, 6), (1, 7)]),
        (((2, 5), (2, 5)), [(2, 3), (2, 4), (3, 4)]),
        (((2, 4), (3, 5)), [(2, 3), (2, 4), (3, 4)]),
        (((0, 1), (9, 10)), [(0, 9)]),
    ],
)
def test_regions_pair_every_position_with_every_other(
    regions: Any, pairs: list[tuple[int, int]], make_sequence: Callable
) -> None:
    result = pairwise_ism(make_sequence(10), Known(10, (0, 1)), regions=regions, target=0)
    assert [tuple(pair) for pair in result.positions[result.pairs].tolist()] == pairs
    assert result.positions.tolist() == sorted(set(itertools.chain(*pairs)))
    asked_about = ~np.isnan(result.matrix)
    assert asked_about.sum() == 2 * len(pairs)
    for one, other in result.pairs:
        assert asked_about[one, other]
        assert result.matrix[one, other] == result.matrix[other, one]


def test_24_positions_against_a_region_of_24(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(depth=1, block_size=8), make_sequence(60)
    result = pairwise_ism(sequence, model, regions=((2, 26), (30, 54)))
    assert result.interaction.shape == (576, 4, 4)
    assert result.matrix.shape == (48, 48)
    assert result.certificate.method == "pairwise_ism, exact reuse of the reference"
    pick = np.random.default_rng(0).integers(0, 576, 30)
    texts = [
        with_bases(sequence, dict(zip(result.positions[result.pairs[pair]].tolist(), "GA", strict=True)))
        for pair in pick
    ]
    np.testing.assert_allclose(result.predictions[pick, 2, 0], predict(texts, model), rtol=0, atol=1e-5)


# What the result tells


def test_a_result_describes_the_question(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS), make_sequence(30)
    result = pairwise_ism(sequence.lower().replace("t", "u"), model, positions=[3, 9], target=1, batch_size=4)
    assert isinstance(result, PairwiseMutagenesis)
    assert (result.sequence, result.targets, result.target) == (sequence, TARGETS, "cones")
    assert result.certificate.settings["batch_size"] == 4
    by_name = pairwise_ism(sequence, model, positions=[3, 9], target="cones", batch_size=4)
    np.testing.assert_array_equal(by_name.predictions, result.predictions)


def test_tables_hold_what_the_arrays_do(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS).double(), make_sequence(30, n_at=(9,))
    result = pairwise_ism(sequence, model, positions=[3, 9, 20], target="cones")
    frame, dataset = result.to_dataframe(), result.to_xarray()
    assert len(frame) == 3 * 4 + 3 * 3 + 4 * 3
    for row in frame.sample(8, random_state=0).itertuples():
        assert (row.ref_1, row.ref_2) == (sequence[row.position_1], sequence[row.position_2])
        text = with_bases(sequence, {row.position_1: row.alt_1, row.position_2: row.alt_2})
        (both,), (one,), (other,), (none,) = (
            predict(seq, model)[:, 1]
            for seq in (
                text,
                with_bases(sequence, {row.position_1: row.alt_1}),
                with_bases(sequence, {row.position_2: row.alt_2}),
                sequence,
            )
        )
        assert row.prediction == pytest.approx(both, abs=1e-12)
        assert row.delta == pytest.approx(both - none, abs=1e-12)
        assert row.interaction == pytest.approx(both - one - other + none, abs=1e-12)
        (here,) = np.flatnonzero((dataset.position_1 == row.position_1) & (dataset.position_2 == row.position_2))
        stored = dataset.predictions.isel(pair=here).sel(base_1=row.alt_1, base_2=row.alt_2)
        assert stored.sel(target="cones").item() == row.prediction
        single = dataset.singles.sel(position=row.position_1, base=row.alt_1, target="cones").item()
        assert single == pytest.approx(one, abs=1e-12)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`positions` or `regions` must be given, .* Got neither"),
        ({"positions": [1, 2], "regions": ((1, 3), (4, 6))}, "`positions` or `regions` must be given, .* Got both"),
        ({"positions": []}, r"`positions` must hold at least two different positions, but got \[\]"),
        ({"positions": [3, 3]}, r"`positions` must hold at least two different positions, but got \[3, 3\]"),
        ({"positions": [3, 10]}, "`positions` must lie from 0 to 9, but got 10"),
        ({"positions": [-1, 3]}, "`positions` must lie from 0 to 9, but got -1"),
        ({"regions": ((1, 3),)}, r"`regions` must be two windows \(\(start, end\), \(start, end\)\)"),
        ({"regions": ((1, 3), (4, 6), (7, 8))}, "`regions` must be two windows"),
        ({"regions": ((1, 3, 4), (4, 6))}, "`regions` must be two windows"),
        ({"regions": ((1, 3), (6, 11))}, "`regions` must .* 10, but got .*11"),
        ({"regions": ((3, 3), (6, 7))}, r"`regions` must satisfy 0 <= start < end <= 10, but got \(3, 3\)"),
        ({"regions": ((-1, 3), (6, 7))}, "`regions` must lie from 0 to 9, but got -1"),
        ({"regions": ((2, 3), (2, 3))}, "`regions` hold no two different positions"),
        ({"positions": [1, 2], "target": "sum"}, "`target` 'sum' is unknown to known"),
        ({"positions": [1, 2], "batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"positions": [1, 2], "compile": "no"}, "`compile` must be 'auto', True or False, but got 'no'"),
    ],
)
def test_a_bad_question_is_refused_before_any_work(options: dict, message: str, asked: list[str]) -> None:
    with pytest.raises(ValueError, match=message):
        pairwise_ism("ACGTACGTAC", Known(10, (0, 1)), **{"target": 0, **options})
    assert not asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": [1.0, 2]}, r"`positions` must hold integers, but got 1\.0"),
        ({"positions": [1, True]}, "`positions` must hold integers, but got True"),
        ({"positions": "12"}, "`positions` must hold integers, but got '1'"),
        ({"positions": 3}, "`positions`"),
        ({"regions": ((1.0, 3), (4, 6))}, r"`regions` must hold integers, but got 1\.0"),
        ({"regions": ((1, 3), (4, 6.5))}, r"`regions` must hold integers, but got 6\.5"),
        ({"regions": (1, 3)}, "`regions`"),
    ],
)
def test_what_are_no_positions_is_refused(options: dict, message: str, asked: list[str]) -> None:
    with pytest.raises(TypeError, match=message):
        pairwise_ism("ACGTACGTAC", Known(10, (0, 1)), target=0, **options)
    assert not asked

"""Results of edits: all values are checked by hand from known inputs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crossdna_interpret import Certificate, Edit, EditScan, EditScores, PairwiseMutagenesis

CERTIFICATE = Certificate(
    "by hand", "none", "ab12", "cpu", "float32", {"numpy": "2"}, {"batch_size": 3}, {"error": 0.5}
)

SEQUENCE, TARGETS = "GTCANG", ("rods", "cones")
REFERENCE = [8.0, -1.0]

# A substitution, a deletion and an insertion of GTCANG.
EDITS = (Edit(2, 3, "T"), Edit(3, 5, ""), Edit(6, 6, "GG"))
EDITED = [[9.0, 0.0], [4.0, -1.0], [8.25, 3.0]]


def edit_scores(**changes: Any) -> EditScores:
    fields = {
        "sequence": SEQUENCE,
        "edits": EDITS,
        "targets": TARGETS,
        "target": "rods",
        "reference": np.array(REFERENCE, dtype=np.float32),
        "predictions": np.array(EDITED, dtype=np.float32),
        "lengths": np.array([6, 4, 8]),
        "flanks": None,
        "certificate": CERTIFICATE,
    }
    return EditScores(**{**fields, **changes})


def edit_scan() -> EditScan:
    edits = tuple(Edit(place, place + 2, "") for place in (1, 2, 3))
    return EditScan(edit_scores(edits=edits, lengths=np.array([4, 4, 4])), "deletion", 2)


# C at 2, N at 4 and G at 5 of GTCANG; the pairs (2, 4) and (2, 5). Predictions of the first target follow from these:
ALONE = [[1.0, 0.0, 2.0, 4.0], [0.5, 1.0, -1.0, 2.0], [8.0, -2.0, 0.0, 1.0]]  # what each base adds at each position
TOGETHER = {(0, 2, 0): 16.0, (0, 3, 3): -0.5, (1, 0, 1): 2.0, (1, 3, 3): -32.0}  # pair, bases: what they add together


def pairwise(**changes: Any) -> PairwiseMutagenesis:
    alone = np.array(ALONE)
    both = np.stack([alone[0][:, None] + alone[1], alone[0][:, None] + alone[2]])
    for place, extra in TOGETHER.items():
        both[place] += extra
    fields = {
        "sequence": SEQUENCE,
        "positions": np.array([2, 4, 5]),
        "pairs": np.array([[0, 1], [0, 2]]),
        "targets": TARGETS,
        "target": "rods",
        "reference": np.array(REFERENCE),
        "singles": np.stack([alone + 8, 2 * alone - 1], axis=-1),
        "predictions": np.stack([both + 8, 2 * both - 1], axis=-1),
        "certificate": CERTIFICATE,
    }
    return PairwiseMutagenesis(**{**fields, **changes})


@pytest.mark.parametrize("build", [edit_scores, edit_scan, pairwise])
def test_frozen(build: Callable) -> None:
    result = build()
    for field in dataclasses.fields(result):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, field.name, None)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (edit_scores, ["reference", "predictions", "lengths"]),
        (edit_scan, ["reference", "predictions"]),
        (pairwise, ["positions", "pairs", "reference", "singles", "predictions"]),
    ],
)
def test_arrays_are_read_only(build: Callable, names: list[str]) -> None:
    result = build()
    for name in names:
        with pytest.raises(ValueError, match="read-only"):
            getattr(result, name)[0] = 0


@pytest.mark.parametrize("build", [edit_scores, edit_scan, pairwise])
def test_equal_by_identity(build: Callable) -> None:
    result = build()
    assert result == result  # comparing arrays would raise here
    assert result != build()
    assert len({result, result}) == 1


def test_edit_scores_properties() -> None:
    result = edit_scores()
    assert result.delta.dtype == np.float32
    assert result.delta.tolist() == [1, -4, 0.25]
    other = result.with_target("cones")
    assert other.delta.tolist() == [1, 0, 4]
    assert (result.target, other.target) == ("rods", "cones")
    with pytest.raises(ValueError, match=r"`target` must be one of .*rods.*cones.*, but got 'amacrine'"):
        result.with_target("amacrine")


@pytest.mark.parametrize(
    ("lengths", "window"), [([6, 6, 6], "kept"), ([6, 4, 8], "changed"), ([6, 6, 7], "changed"), ([5, 5, 5], "changed")]
)
def test_the_window_is_kept_where_every_length_is_the_sequences(lengths: list[int], window: str) -> None:
    assert edit_scores(lengths=np.array(lengths)).window == window


def test_edit_scores_dataframe() -> None:
    frame = edit_scores().to_dataframe()
    assert list(frame.columns) == ["start", "end", "ref", "alt", "length", "target", "prediction", "delta"]
    assert frame.to_numpy().tolist() == [
        [2, 3, "C", "T", 6, "rods", 9, 1],
        [3, 5, "AN", "", 4, "rods", 4, -4],
        [6, 6, "", "GG", 8, "rods", 8.25, 0.25],
        [2, 3, "C", "T", 6, "cones", 0, 1],
        [3, 5, "AN", "", 4, "cones", -1, 0],
        [6, 6, "", "GG", 8, "cones", 3, 4],
    ]
    assert frame.index.tolist() == list(range(6))
    assert frame["prediction"].dtype == np.float32


def test_edit_scores_xarray() -> None:
    dataset = edit_scores().to_xarray()
    assert dataset["predictions"].dims == ("edit", "target")
    assert dataset["start"].values.tolist() == [2, 3, 6]
    assert dataset["end"].values.tolist() == [3, 5, 6]
    assert dataset["alt"].values.tolist() == ["T", "", "GG"]
    assert dataset["length"].values.tolist() == [6, 4, 8]
    assert dataset["predictions"].sel(target="cones").values.tolist() == [0, -1, 3]
    assert dataset["reference"].sel(target="cones").item() == -1
    assert dataset.attrs["sequence"] == SEQUENCE
    assert Certificate(**json.loads(dataset.attrs["certificate"])) == CERTIFICATE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "amacrine"}, r"`target` must be one of \('rods', 'cones'\), but got 'amacrine'"),
        ({"reference": np.zeros(3)}, r"`reference` must be an array of shape \(2,\), but got \(3,\)"),
        ({"predictions": np.zeros((2, 3))}, r"`predictions` must be an array of shape \(3, 2\), but got \(2, 3\)"),
        ({"predictions": EDITED}, r"`predictions` must be an array of shape \(3, 2\)"),
        ({"predictions": np.full((3, 2), np.nan)}, "`predictions` must be finite"),
        ({"lengths": np.array([6, 6])}, r"`lengths` must be an array of shape \(3,\), but got \(2,\)"),
        ({"edits": EDITS[:2]}, r"`predictions` must be an array of shape \(2, 2\), but got \(3, 2\)"),
    ],
)
def test_edit_scores_are_validated(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edit_scores(**changes)


def test_a_scan_shows_its_scores() -> None:
    result = edit_scan()
    assert result.positions.tolist() == [1, 2, 3]
    assert (result.sequence, result.target, result.targets, result.window) == (SEQUENCE, "rods", TARGETS, "changed")
    assert result.certificate == CERTIFICATE
    assert result.reference.tolist() == REFERENCE
    assert result.predictions.tolist() == EDITED
    assert result.delta.tolist() == [1, -4, 0.25]
    other = result.with_target("cones")
    assert (other.target, other.delta.tolist()) == ("cones", [1, 0, 4])
    assert (other.kind, other.width, other.insert) == ("deletion", 2, "")
    assert result.to_dataframe()["ref"].tolist() == ["TC", "CA", "AN"] * 2
    dataset = result.to_xarray()
    assert {name: dataset.attrs[name] for name in ("kind", "width", "insert")} == {
        "kind": "deletion", "width": 2, "insert": ""
    }  # fmt: skip
    assert dataset["start"].values.tolist() == [1, 2, 3]


def test_pairwise_properties() -> None:
    result = pairwise()
    expected = np.zeros((2, 4, 4))
    for place, extra in TOGETHER.items():
        expected[place] = extra
    assert result.interaction.tolist() == expected.tolist()
    assert result.strongest.tolist() == [16, -32]
    matrix = result.matrix
    np.testing.assert_array_equal(matrix, matrix.T)
    assert (matrix[0, 1], matrix[0, 2]) == (16, -32)
    assert np.isnan(matrix[[0, 1, 2, 1], [0, 1, 2, 2]]).all()  # not asked about
    other = result.with_target("cones")
    assert other.strongest.tolist() == [32, -64]
    with pytest.raises(ValueError, match=r"`target` must be one of .*rods.*cones.*, but got 'amacrine'"):
        result.with_target("amacrine")


def test_own_bases_do_not_interact_whatever_rounding_left() -> None:
    predictions = pairwise().predictions.copy()
    predictions[0, 1] += 1e-9  # C is the own base of the first position, N of the second: only a row is its own
    predictions[1, :, 2] += 1e-9  # and G of the third
    interaction = pairwise(predictions=predictions).interaction
    assert not interaction[0, 1].any()
    assert not interaction[1, 1].any()
    assert not interaction[1, :, 2].any()
    assert interaction[0, 2, 0] == 16


def test_pairwise_dataframe() -> None:
    frame = pairwise().with_target("cones").to_dataframe()
    assert list(frame.columns) == [
        "position_1", "ref_1", "alt_1", "position_2", "ref_2", "alt_2", "prediction", "delta", "interaction"
    ]  # fmt: skip
    expected = []
    for pair, (second, ref, row) in enumerate([(4, "N", 1), (5, "G", 2)]):
        for a, first in enumerate("ACGT"):
            for b, other in enumerate("ACGT"):
                if first != "C" and other != ref:
                    extra = 2 * TOGETHER.get((pair, a, b), 0)
                    delta = 2 * (ALONE[0][a] + ALONE[row][b]) + extra
                    expected.append([2, "C", first, second, ref, other, delta - 1, delta, extra])
    assert frame.to_numpy().tolist() == expected
    assert len(frame) == 3 * 4 + 3 * 3


def test_pairwise_xarray() -> None:
    dataset = pairwise().to_xarray()
    assert dataset["predictions"].dims == ("pair", "base_1", "base_2", "target")
    assert dataset["singles"].dims == ("position", "base", "target")
    assert dataset["position_1"].values.tolist() == [2, 2]
    assert dataset["position_2"].values.tolist() == [4, 5]
    assert dataset["singles"].sel(position=5, base="C", target="rods").item() == 6
    assert dataset["predictions"].isel(pair=1).sel(base_1="T", base_2="T", target="rods").item() == 8 + 4 + 1 - 32
    assert dataset["reference"].values.tolist() == REFERENCE
    assert dataset.attrs["sequence"] == SEQUENCE
    assert Certificate(**json.loads(dataset.attrs["certificate"])) == CERTIFICATE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "amacrine"}, r"`target` must be one of \('rods', 'cones'\), but got 'amacrine'"),
        ({"reference": np.zeros(1)}, r"`reference` must be an array of shape \(2,\), but got \(1,\)"),
        ({"pairs": np.zeros((2, 3), int)}, r"`pairs` must be an array of shape \(2, 2\), but got \(2, 3\)"),
        ({"singles": np.zeros((2, 4, 2))}, r"`singles` must be an array of shape \(3, 4, 2\), but got \(2, 4, 2\)"),
        ({"predictions": np.zeros((3, 4, 4, 2))}, r"`predictions` must be an array of shape \(2, 4, 4, 2\)"),
        ({"predictions": np.full((2, 4, 4, 2), np.inf)}, "`predictions` must be finite"),
    ],
)
def test_pairwise_is_validated(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairwise(**changes)

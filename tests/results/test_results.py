"""Results: all values are checked by hand from known inputs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crossdna_interpret import Attribution, Certificate, Mutagenesis
from crossdna_interpret.results.tables import target_table

CERTIFICATE = Certificate(
    method="by hand",
    model="none",
    model_hash="ab12",
    device="cpu",
    dtype="float32",
    versions={"numpy": "2"},
    settings={"seed": 3, "baseline": "zeros"},
    checks={"error": 0.5},
)

# Window 2 to 5 of GTCANG is C, A, N. Powers of two are exact in float32, so that sums can be compared exactly.
SEQUENCE, START, TARGETS = "GTCANG", 2, ("rods", "cones")
REFERENCE = [8.0, -1.0]
PREDICTIONS = [
    [[9.0, 0.0], [8.0, -1.0], [12.0, -2.0], [8.5, -5.0]],  # C
    [[8.0, -1.0], [0.0, -1.5], [4.0, 3.0], [6.0, -1.0]],  # A
    [[8.25, 1.0], [7.75, 2.0], [10.0, 3.0], [4.0, -4.0]],  # N
]


def mutagenesis(**changes: Any) -> Mutagenesis:
    fields = {
        "sequence": SEQUENCE,
        "start": START,
        "targets": TARGETS,
        "target": "rods",
        "reference": np.array(REFERENCE, dtype=np.float32),
        "predictions": np.array(PREDICTIONS, dtype=np.float32),
        "certificate": CERTIFICATE,
    }
    return Mutagenesis(**{**fields, **changes})


def attribution(**changes: Any) -> Attribution:
    fields = {
        "sequence": "CAN",
        "target": "rods",
        "forward": np.array([[0, 1, 0, 0], [2, 0, 0.5, 0], [0, 0, 0, 0]], dtype=np.float32),
        "reverse": np.array([[0, -4, 0, 0.25], [8, 0, 0, 0], [0, 0, 0, 0]], dtype=np.float32),
        "prediction": 11.0,
        "baseline_prediction": 3.0,
        "baseline": "zeros",
        "certificate": CERTIFICATE,
    }
    return Attribution(**{**fields, **changes})


@pytest.mark.parametrize("build", [mutagenesis, attribution, lambda: CERTIFICATE])
def test_frozen(build: Callable) -> None:
    result = build()
    for field in dataclasses.fields(result):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, field.name, None)


@pytest.mark.parametrize("build", [mutagenesis, attribution])
def test_arrays_are_read_only(build: Callable) -> None:
    result = build()
    arrays = [getattr(result, field.name) for field in dataclasses.fields(result)]
    arrays = [array for array in arrays if isinstance(array, np.ndarray)]
    assert len(arrays) == 2
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("build", [mutagenesis, attribution])
def test_equal_by_identity(build: Callable) -> None:
    result = build()
    assert result == result  # comparing arrays would raise here
    assert result != build()
    assert len({result, result}) == 1


def test_mutagenesis_properties() -> None:
    result = mutagenesis()
    assert result.end == 5
    assert result.delta.dtype == result.importance.dtype == np.float32
    assert result.delta.tolist() == [[1, 0, 4, 0.5], [0, -8, -4, -2], [0.25, -0.25, 2, -4]]
    # Three substitutions at C and A, four at N.
    expected = [-(1 + 4 + 0.5) / 3, (8 + 4 + 2) / 3, -(0.25 - 0.25 + 2 - 4) / 4]
    assert result.importance.tolist() == pytest.approx(expected, rel=1e-6)


def test_mutagenesis_with_target() -> None:
    result = mutagenesis()
    other = result.with_target("cones")
    assert other.delta.tolist() == [[1, 0, -1, -4], [0, -0.5, 4, 0], [2, 3, 4, -3]]
    assert (result.target, other.target) == ("rods", "cones")
    with pytest.raises(ValueError, match=r"`target` must be one of .*rods.*cones.*, but got 'amacrine'"):
        result.with_target("amacrine")


def test_mutagenesis_dataframe() -> None:
    frame = mutagenesis().to_dataframe()
    assert list(frame.columns) == ["position", "ref", "alt", "target", "prediction", "delta"]
    expected = []
    for index, target in enumerate(TARGETS):
        for i, ref in enumerate("CAN"):
            for b, alt in enumerate("ACGT"):
                if alt != ref:
                    value = PREDICTIONS[i][b][index]
                    expected.append([START + i, ref, alt, target, value, value - REFERENCE[index]])
    assert frame.to_numpy().tolist() == expected
    assert len(frame) == 2 * (3 + 3 + 4)
    assert frame.index.tolist() == list(range(20))
    assert frame["prediction"].dtype == np.float32
    assert frame["position"].dtype.kind == "i"


def test_mutagenesis_xarray() -> None:
    dataset = mutagenesis().to_xarray()
    assert dataset["predictions"].dims == ("position", "base", "target")
    assert dataset["reference"].dims == ("target",)
    assert dataset["position"].values.tolist() == [2, 3, 4]
    assert dataset["base"].values.tolist() == list("ACGT")
    assert dataset["target"].values.tolist() == list(TARGETS)
    assert dataset["ref"].values.tolist() == list("CAN")
    assert dataset["predictions"].sel(position=3, base="G", target="cones").item() == 3
    assert dataset["reference"].sel(target="cones").item() == -1
    assert dataset.attrs["sequence"] == SEQUENCE
    assert Certificate(**json.loads(dataset.attrs["certificate"])) == CERTIFICATE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "amacrine"}, r"`target` must be one of \('rods', 'cones'\), but got 'amacrine'"),
        ({"reference": np.zeros(3)}, r"`reference` must be an array of shape \(2,\), but got \(3,\)"),
        ({"reference": REFERENCE}, r"`reference` must be an array of shape \(2,\)"),
        ({"reference": np.array([0, np.nan])}, "`reference` must be finite"),
        ({"predictions": np.zeros((3, 5, 2))}, r"`predictions` must be .* \(3, 4, 2\), but got \(3, 5, 2\)"),
        ({"predictions": np.zeros((3, 2, 4))}, r"`predictions` must be .* \(3, 4, 2\), but got \(3, 2, 4\)"),
        ({"predictions": np.zeros((3, 4))}, r"`predictions` must be .* \(3, 4, 2\), but got \(3, 4\)"),
        ({"predictions": PREDICTIONS}, r"`predictions` must be an array of shape \(3, 4, 2\)"),
        ({"predictions": np.full((3, 4, 2), np.nan)}, "`predictions` must be finite"),
        ({"predictions": np.full((3, 4, 2), np.inf)}, "`predictions` must be finite"),
        ({"predictions": np.zeros((5, 4, 2))}, "`predictions` cover 2 to 7 of 6 bases"),
        ({"predictions": np.zeros((0, 4, 2))}, "`predictions` cover 2 to 2 of 6 bases"),
        ({"start": 4}, "`predictions` cover 4 to 7 of 6 bases"),
        ({"start": -1}, "`predictions` cover -1 to 2 of 6 bases"),
    ],
)
def test_mutagenesis_is_validated(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mutagenesis(**changes)


def test_attribution_properties() -> None:
    result = attribution()
    assert result.values.tolist() == [[0, -3, 0, 0.25], [10, 0, 0.5, 0], [0, 0, 0, 0]]
    assert result.values.dtype == result.importance.dtype == np.float32
    assert result.importance.tolist() == [-2.75, 10.5, 0]
    assert result.completeness_error == abs(7.75 - (11 - 3))
    assert attribution(prediction=10.75).completeness_error == 0
    assert attribution(prediction=9.75).completeness_error == 1  # in either direction


def test_an_attribution_without_strand_paths_says_so_in_its_tables() -> None:
    nothing = np.zeros((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="`reverse` must be all zeros where `by_strand` is False"):
        attribution(by_strand=False)
    result = attribution(reverse=nothing, by_strand=False)
    assert list(result.to_dataframe().columns) == ["position", "ref", "importance", "A", "C", "G", "T"]
    dataset = result.to_xarray()
    assert dataset["strand"].values.tolist() == ["both"]
    np.testing.assert_array_equal(dataset["values"].sel(strand="both"), result.values)
    split = attribution(reverse=nothing)  # a model that reads both strands, and finds nothing on the reverse one
    assert "reverse" in split.to_dataframe()
    assert split.to_xarray()["strand"].values.tolist() == ["forward", "reverse"]


def test_attribution_dataframe() -> None:
    frame = attribution().to_dataframe()
    assert list(frame.columns) == ["position", "ref", "importance", "forward", "reverse", "A", "C", "G", "T"]
    assert frame.to_numpy().tolist() == [
        [0, "C", -2.75, 1, -3.75, 0, -3, 0, 0.25],
        [1, "A", 10.5, 2.5, 8, 10, 0, 0.5, 0],
        [2, "N", 0, 0, 0, 0, 0, 0, 0],
    ]


def test_attribution_xarray() -> None:
    dataset = attribution().to_xarray()
    assert dataset["values"].dims == ("strand", "position", "base")
    assert dataset["strand"].values.tolist() == ["forward", "reverse"]
    assert dataset["position"].values.tolist() == [0, 1, 2]
    assert dataset["base"].values.tolist() == list("ACGT")
    assert dataset["ref"].values.tolist() == list("CAN")
    assert dataset["values"].sel(strand="forward", position=1, base="G").item() == 0.5
    assert dataset["values"].sel(strand="reverse", position=0, base="C").item() == -4
    attributes = dict(dataset.attrs)
    assert Certificate(**json.loads(attributes.pop("certificate"))) == CERTIFICATE
    assert attributes == {
        "sequence": "CAN",
        "target": "rods",
        "prediction": 11.0,
        "baseline_prediction": 3.0,
        "baseline": "zeros",
    }


@pytest.mark.parametrize("name", ["forward", "reverse"])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 3)), r"must be an array of shape \(3, 4\), but got \(4, 3\)"),
        (np.zeros((2, 4)), r"must be an array of shape \(3, 4\), but got \(2, 4\)"),
        (np.zeros((3, 5)), r"must be an array of shape \(3, 4\), but got \(3, 5\)"),
        ([[0.0] * 4] * 3, r"must be an array of shape \(3, 4\)"),
        (np.full((3, 4), np.nan), "must be finite"),
        (np.full((3, 4), -np.inf), "must be finite"),
    ],
    ids=["transposed", "short", "five bases", "list", "NaN", "infinite"],
)
def test_attribution_is_validated(name: str, array: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` {message}"):
        attribution(**{name: array})


@pytest.mark.parametrize("name", ["prediction", "baseline_prediction"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_attribution_predictions_are_validated(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be finite"):
        attribution(**{name: value})


def test_certificate_goes_through_json() -> None:
    text = json.dumps(CERTIFICATE.to_dict())
    assert Certificate(**json.loads(text)) == CERTIFICATE
    assert json.loads(text)["settings"] == {"seed": 3, "baseline": "zeros"}


def test_certificate_dict_is_a_copy() -> None:
    CERTIFICATE.to_dict()["settings"]["seed"] = 4
    assert CERTIFICATE.settings["seed"] == 3


def test_results_of_an_analysis_go_through_json(make_model: Callable, make_sequence: Callable) -> None:
    # The certificates of real analyses, whose settings and checks come out of numpy and torch.
    from crossdna_interpret import deletion_scan, integrated_gradients, ism, pairwise_ism

    model, sequence = make_model(), make_sequence(12)
    for result in (
        ism(sequence, model, start=np.int64(1), end=3),
        deletion_scan(sequence, model),
        pairwise_ism(sequence, model, positions=[np.int64(1), 3]),
        integrated_gradients(sequence, model, baseline="zeros", steps=2, max_steps=2, tolerance=1e6),
    ):
        assert Certificate(**json.loads(json.dumps(result.certificate.to_dict()))) == result.certificate


def test_the_caller_keeps_a_writable_array() -> None:
    forward = np.zeros((4, 4))
    result = Attribution("ACGT", "t", forward, np.zeros((4, 4)), 0.0, 0.0, "zeros", CERTIFICATE)
    forward[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        result.forward[0, 0] = 2.0


def test_targets_of_one_name_keep_their_own_numbers() -> None:
    predictions, reference = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2)
    table = target_table({"at": [0, 1]}, ("a", "a"), None, predictions, reference)
    assert table["prediction"].tolist() == [1, 3, 2, 4]
    with pytest.raises(ValueError, match="'a' is the name of several targets"):
        target_table({"at": [0, 1]}, ("a", "a"), "a", predictions, reference)

"""`deletion_scan` and `insertion_scan` against predictions of tangermeme's edited sequences, and of sliced strings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tangermeme import ersatz
from torch import Tensor, nn

from crossdna_interpret import EditScan, deletion_scan, insertion_scan, predict
from crossdna_interpret.dna import alphabet

TARGETS = ("rods", "cones", "amacrine")
FLANKS = ("GATTACAGATTACA", "CCTGAAACCTGA")
MODELS: dict[str, dict[str, Any]] = {
    "several blocks": {"targets": TARGETS},
    "mirrored": {"targets": TARGETS, "rc_blocks": "mirrored"},
    "one block": {"targets": TARGETS, "block_size": None},
    "log-likelihood": {"targets": ()},
}


def channels(sequence: str) -> Tensor:
    return torch.from_numpy(alphabet.one_hot(alphabet.encode(sequence), np.float64))[None]


@torch.no_grad()
def scores_of(model: nn.Module, edited: list[Tensor]) -> np.ndarray:
    """Scores (n, T) of channels."""
    return model(torch.cat(edited)).numpy()


class Counting(nn.Module):
    """Targets are counts of A and C, and how often GATA occurs: what an edit does can be told by hand."""

    name = "counting"
    targets: tuple[str, ...] = ("A", "C", "GATA")
    device = torch.device("cpu")
    dtype = torch.float64

    def forward(self, x: Tensor) -> Tensor:
        result = torch.ones(x[:, 0, 3:].shape, dtype=x.dtype)
        for place, base in enumerate("GATA"):
            result = result * x[:, alphabet.BASES.index(base), place : place + result.shape[1]]
        return torch.stack([x[:, 0].sum(-1), x[:, 1].sum(-1), result.sum(-1)], dim=-1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The input of every forward pass of `Counting`."""
    inputs: list[Tensor] = []
    forward = Counting.forward
    monkeypatch.setattr(Counting, "forward", lambda self, x: (inputs.append(x), forward(self, x))[1])
    return inputs


# Against tangermeme


@pytest.mark.parametrize("width", [1, 25])
@pytest.mark.parametrize("name", MODELS)
def test_deletions_equal_tangermemes(name: str, width: int, make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(**MODELS[name]).double(), make_sequence(53, n_at=(0, 23, 24))
    result = deletion_scan(sequence, model, width=width, target=0)
    places = list(range(53 - width + 1))
    expected = scores_of(model, [ersatz.delete(channels(sequence), place, place + width) for place in places])
    assert result.positions.tolist() == places
    np.testing.assert_allclose(result.predictions, expected, rtol=0, atol=1e-12)
    assert np.ptp(expected, axis=0).min() > 1e-4


@pytest.mark.parametrize("insert", ["A", "TGCACGTACGATTTACGGCAACTTG"])
@pytest.mark.parametrize("name", MODELS)
def test_insertions_equal_tangermemes(name: str, insert: str, make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(**MODELS[name]).double(), make_sequence(53, n_at=(0, 23, 24))
    result = insertion_scan(sequence, model, insert=insert, target=0)
    assert result.positions.tolist() == list(range(54))
    # tangermeme refuses to insert nearer to the end than the insertion is long; slices tell what is there.
    there = 53 - len(insert) + 1
    motif = torch.from_numpy(alphabet.one_hot(alphabet.encode(insert), np.float64))[None]
    expected = scores_of(model, [ersatz.insert(channels(sequence), motif, place) for place in range(there)])
    np.testing.assert_allclose(result.predictions[:there], expected, rtol=0, atol=1e-12)
    texts = [sequence[:place] + insert + sequence[place:] for place in range(there, 54)]
    np.testing.assert_allclose(result.predictions[there:], predict(texts, model), rtol=0, atol=1e-12)
    assert np.ptp(expected, axis=0).min() > 1e-4


# With flanks: the window moves over a longer sequence, from which the edit is made


@pytest.mark.parametrize("name", ["several blocks", "mirrored", "log-likelihood"])
def test_deletions_with_flanks_are_windows_of_the_shortened_locus(
    name: str, make_model: Callable, make_sequence: Callable
) -> None:
    model, sequence = make_model(**MODELS[name]).double(), make_sequence(50, n_at=(9,))
    left, right = FLANKS
    result = deletion_scan(sequence, model, width=5, target=0, flanks=FLANKS)
    texts = []
    for place in range(46):
        locus = left + sequence[:place] + sequence[place + 5 :] + right
        first = len(left) - 5 if place < 50 - (place + 5) else len(left)
        texts.append(locus[first : first + 50])
    np.testing.assert_allclose(result.predictions, predict(texts, model), rtol=0, atol=1e-12)
    assert (result.window, result.scores.flanks) == ("kept", FLANKS)


@pytest.mark.parametrize("name", ["several blocks", "mirrored", "log-likelihood"])
def test_insertions_with_flanks_are_windows_of_the_lengthened_locus(
    name: str, make_model: Callable, make_sequence: Callable
) -> None:
    model, sequence = make_model(**MODELS[name]).double(), make_sequence(50, n_at=(9,))
    result = insertion_scan(sequence, model, insert="GATA", target=0, flanks=FLANKS, start=5, end=46)
    texts = []
    for place in range(5, 47):
        locus = sequence[:place] + "GATA" + sequence[place:]
        texts.append(locus[4:] if place < 50 - place else locus[:-4])
    np.testing.assert_allclose(result.predictions, predict(texts, model), rtol=0, atol=1e-12)
    assert (result.window, result.scores.flanks) == ("kept", FLANKS)


# What is known by hand


def test_what_deletions_take_out() -> None:
    result = deletion_scan("CCGATACC", Counting(), width=2, target="GATA")
    assert result.predictions.tolist() == [
        [2, 2, 1], [2, 3, 0], [1, 4, 0], [1, 4, 0], [1, 4, 0], [1, 3, 0], [2, 2, 1]
    ]  # fmt: skip
    assert result.delta.tolist() == [0, -1, -1, -1, -1, -1, 0]
    assert result.reference.tolist() == [2, 4, 1]
    assert result.with_target("C").delta.tolist() == [-2, -1, 0, 0, 0, -1, -2]


def test_what_insertions_put_in() -> None:
    result = insertion_scan("CCTACC", Counting(), insert="ga", target="GATA")
    assert result.insert == "GA"
    assert result.delta.tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert result.with_target("A").delta.tolist() == [1] * 7
    assert result.scores.lengths.tolist() == [8] * 7


def test_every_place_is_asked_once(asked: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "crossdna_interpret.scoring.runner.stability", lambda *_: {}
    )  # which scores sequences of its own
    deletion_scan("ACGTTGCAAC", Counting(), width=3, target=0, start=1, end=9, step=2, batch_size=2)
    texts = [alphabet.decode(row.argmax(0).numpy()) for x in asked for row in x]
    assert texts == ["ACGTTGCAAC", "ATGCAAC", "ACGCAAC", "ACGTTAC"]


# The window, the step, and what the result tells


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, list(range(19))),
        ({"start": 4}, list(range(4, 19))),
        ({"end": 7}, [0, 1, 2, 3, 4, 5]),
        ({"start": 4, "end": 6}, [4]),
        ({"start": 3, "end": 12, "step": 4}, [3, 7]),
        ({"start": 3, "end": 13, "step": 4}, [3, 7, 11]),
        ({"step": 100}, [0]),
        ({"start": np.int64(17)}, [17, 18]),
    ],
)  # fmt: skip
def test_deletions_lie_within_the_window(options: dict, places: list[int], make_model: Callable) -> None:
    result = deletion_scan("ACGTT" * 4, make_model(depth=1), width=2, **options)
    assert result.positions.tolist() == places
    assert [(edit.start, edit.end, edit.string) for edit in result.scores.edits] == [(i, i + 2, "") for i in places]


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, list(range(21))),
        ({"start": 4}, list(range(4, 21))),
        ({"end": 2}, [0, 1, 2]),
        ({"start": 19}, [19, 20]),
        ({"start": 3, "end": 12, "step": 4}, [3, 7, 11]),
        ({"start": 3, "end": 11, "step": 4}, [3, 7, 11]),
        ({"start": 3, "end": 10, "step": 4}, [3, 7]),
    ],
)
def test_insertions_lie_within_the_window(options: dict, places: list[int], make_model: Callable) -> None:
    result = insertion_scan("ACGTT" * 4, make_model(depth=1), insert="NG", **options)
    assert result.positions.tolist() == places
    assert [(edit.start, edit.end, edit.string) for edit in result.scores.edits] == [(i, i, "NG") for i in places]


def test_a_part_of_a_scan_is_that_part_of_the_whole(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS).double(), make_sequence(53)
    for flanks in (None, FLANKS):
        whole = deletion_scan(sequence, model, width=3, target="cones", flanks=flanks)
        part = deletion_scan(sequence, model, width=3, target="cones", flanks=flanks, start=7, end=40, step=5)
        np.testing.assert_allclose(part.delta, whole.delta[7:38:5], rtol=0, atol=1e-13)


def test_a_scan_describes_the_question(make_model: Callable, make_sequence: Callable) -> None:
    model, sequence = make_model(targets=TARGETS), make_sequence(30)
    text = sequence.lower().replace("t", "u")
    deletions = deletion_scan(text, model, width=4, target="cones")
    insertions = insertion_scan(text, model, insert="gau", target=1)
    for result, kind, width, insert, change in (
        (deletions, "deletion", 4, "", -4), (insertions, "insertion", 3, "GAT", 3)
    ):  # fmt: skip
        assert isinstance(result, EditScan)
        assert (result.kind, result.width, result.insert) == (kind, width, insert)
        assert (result.sequence, result.target, result.targets) == (sequence, "cones", TARGETS)
        assert result.window == "changed"
        assert result.scores.lengths.tolist() == [30 + change] * len(result.positions)
        assert result.predictions.shape == (len(result.positions), 3)
        assert result.predictions.dtype == result.reference.dtype == np.float32
        np.testing.assert_array_equal(result.reference, predict(sequence, model)[0])
        np.testing.assert_array_equal(result.delta, result.predictions[:, 1] - result.reference[1])
        assert result.certificate.method == "score_edits, exact reuse of the reference"


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "`width` must be an integer of at least 1, but got 0"),
        ({"width": -2}, "`width` must be an integer of at least 1, but got -2"),
        ({"width": 1.5}, r"`width` must be an integer of at least 1, but got 1\.5"),
        ({"width": True}, "`width` must be an integer of at least 1, but got True"),
        ({"width": 5, "start": 2, "end": 6}, "`width` must be at most the 4 bases of the window, but got 5"),
        ({"width": 11}, "`width` must be at most the 10 bases of the window, but got 11"),
        ({"width": 10}, "`width` must leave a base of the 10, or `flanks` must be passed"),
        ({"step": 0}, "`step` must be an integer of at least 1, but got 0"),
        ({"step": "2"}, "`step` must be an integer of at least 1, but got '2'"),
        ({"start": 6, "end": 6}, "`start` and `end` must satisfy .* got start=6, end=6"),
        ({"end": 11}, "`start` and `end` must satisfy .* got start=0, end=11"),
        ({"width": 3, "flanks": ("", "GG")}, r"`edits\[0\]` deletes 3 bases, and `flanks` has 1 too few"),
        ({"flanks": "ACGT"}, "`flanks` must be two strings"),
        ({"target": "T"}, "`target` 'T' is unknown to counting"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, but got 0"),
        ({"compile": "no"}, "`compile` must be 'auto', True or False, but got 'no'"),
    ],
)
def test_a_bad_deletion_is_refused_before_any_work(options: dict, message: str, asked: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        deletion_scan("ACGTACGTAC", Counting(), **{"target": 0, **options})
    assert not asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"insert": ""}, "`insert` must hold at least one base, but it is empty"),
        ({"insert": "GAXA"}, "`insert` has 'X' at position 2"),
        ({"step": 0}, "`step` must be an integer of at least 1, but got 0"),
        ({"start": 6, "end": 6}, "`start` and `end` must satisfy .* got start=6, end=6"),
        ({"start": 10}, "`start` and `end` must satisfy .* got start=10, end=10"),
        ({"insert": "G" * 11, "flanks": ("A", "A")}, r"`edits\[0\]` adds 11 bases, 1 more than can leave"),
    ],
)
def test_a_bad_insertion_is_refused_before_any_work(options: dict, message: str, asked: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        insertion_scan("ACGTACGTAC", Counting(), **{"insert": "GATA", "target": 0, **options})
    assert not asked


def test_what_is_no_string_or_integer_is_refused(make_model: Callable) -> None:
    model = make_model(depth=1)
    with pytest.raises(TypeError, match=r"`insert` must be a string of bases .* got int"):
        insertion_scan("ACGT", model, insert=4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`start` must be an integer, but got 1\.0"):
        deletion_scan("ACGT", model, start=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=re.escape("`seq` must be a string of bases such as 'ACGT', but got list")):
        deletion_scan(["ACGT"], model)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["width", "step"])
def test_numbers_may_be_numpys(name: str, make_model: Callable) -> None:
    expected = deletion_scan("ACGTACGTAC", make_model(depth=1), **{name: 3})
    result = deletion_scan("ACGTACGTAC", make_model(depth=1), **{name: np.int64(3)})
    np.testing.assert_array_equal(result.predictions, expected.predictions)
    assert type(result.width) is int


def test_with_flanks_every_base_may_be_deleted(make_model: Callable) -> None:
    model = make_model(depth=1).double()
    result = deletion_scan("ACGT", model, width=4, flanks=("GG", "CCC"))
    assert result.positions.tolist() == [0]
    np.testing.assert_allclose(result.predictions, predict("GCCC", model), rtol=0, atol=1e-13)

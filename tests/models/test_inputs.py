"""Conversion of sequences to model inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet
from crossdna_interpret.models.crossdna.model import CrossDNA
from crossdna_interpret.models.inputs import Bpe, Inputs, OneHot, TokenIds, inputs_of
from crossdna_interpret.models.protocols import StrandPaths, capability

WHERE = {"device": torch.device("cpu"), "dtype": torch.float64}


class Weighted(nn.Module):
    """One score of five channels in an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 10.0, 100.0, 1000.0, 0.5]))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight[:, None]).sum((1, 2))


@pytest.mark.parametrize("order", ["ACGTN", "TGCAN", "ACTGN", "GTAC"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_channels_are_in_the_models_order(order: str, layout: str) -> None:
    unknown = 0.0 if "N" in order else 0.25
    inputs = OneHot(order, unknown=unknown, layout=layout)  # type: ignore[arg-type]
    (x,) = inputs.batch(alphabet.encode("ACGTN")[None], **WHERE)
    rows = x[0].T if layout == "channels_first" else x[0]
    for base, row in zip("ACGTN", rows, strict=True):
        if base in order:
            assert row.tolist() == [float(each == base) for each in order]
        else:
            assert row.tolist() == [0.25] * 4
    assert x.dtype == torch.float64


def test_bad_channels_and_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="`channels` must be A, C, G, T and perhaps N in some order, but got 'ACGU'"):
        OneHot("ACGU")
    with pytest.raises(ValueError, match=r"`vocabulary` must have an id for each .* but lacks \['N'\]"):
        TokenIds({"A": 0, "C": 1, "G": 2, "T": 3})


IDS = dict(zip("ACGTN", range(5), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneHot(layout="NCL"), "`layout` must be 'channels_first' or 'channels_last', but got 'NCL'"),
        (lambda: OneHot(length=-3), "`length` must be an integer of at least 1, but got -3"),
        (lambda: OneHot(length=2.5), "`length` must be an integer of at least 1, but got 2.5"),
        (lambda: OneHot("ACGTN", unknown=0.25), "`unknown` must be 0 if there is a channel for N, but got 0.25"),
        (lambda: OneHot("ACGT", unknown=float("nan")), "`unknown` must be a finite number, but got nan"),
        (lambda: cdi.wrap(Weighted(), "ACGTN", unknown=0.25), "`unknown` must be 0 if there is a channel for N"),
        (lambda: TokenIds({**IDS, "C": 0}), "`vocabulary` must have different ids for A, C, G and T"),
        (lambda: TokenIds({**IDS, "C": 1.5}), r"`vocabulary\['C'\]` must be an integer of at least 0, but got 1.5"),
        (lambda: TokenIds(IDS, before=1), "`before` must be a tuple of ids, but got 1"),
        (lambda: TokenIds(IDS, after=("2",)), "`after` must be an integer of at least 0, but got '2'"),
        (lambda: TokenIds(IDS, longest=0), "`longest` must be an integer of at least 1, but got 0"),
    ],
)
def test_what_would_give_other_inputs_than_meant_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_base_may_share_its_id_with_a_special_token() -> None:
    assert TokenIds({**IDS, "N": 7}, before=(7,)).base_ids == (0, 1, 2, 3, 7)


@pytest.mark.parametrize(
    ("inputs", "length", "expected"),
    [
        (OneHot(), 7, None), (OneHot(length=7), 7, None), (OneHot(length=7), 8, "7 bases"),
        (TokenIds(dict(zip("ACGTN", range(5), strict=True)), longest=1000), 1001, "at most 1,000 bases"),
    ],
)  # fmt: skip
def test_lengths_that_a_model_does_not_take(inputs: Inputs, length: int, expected: str | None) -> None:
    assert inputs.expected(length) == expected


@dataclass
class Tokens:
    ids: list[int]
    offsets: list[tuple[int, int]]


class Cut:
    """A tokenizer that cuts where it is said to."""

    def __init__(self, *offsets: tuple[int, int]) -> None:
        self.offsets = list(offsets)

    def encode(self, sequence: str) -> Tokens:
        return Tokens(list(range(10, 10 + len(self.offsets))), self.offsets)

    def to_str(self) -> str:
        return repr(self.offsets)


def test_tokens_follow_each_other() -> None:
    ids, spans = Bpe(Cut((0, 3), (3, 5)), before=(1,), after=(2,)).tokens("ACGTA")
    assert ids == [1, 10, 11, 2]
    assert spans == [(0, 0), (0, 3), (3, 5), (5, 5)]
    for offsets, match in (
        ([(0, 3), (4, 5)], "a token spans 4 to 5, but 3 comes next"),
        ([(0, 3), (3, 3), (3, 5)], "a token spans 3 to 3"),
        ([(0, 3)], "stops at base 3 of 5"),
    ):
        with pytest.raises(ValueError, match=match):
            Bpe(Cut(*offsets)).tokens("ACGTA")
    with pytest.raises(ValueError, match="`seq` of 5 bases makes 4 tokens; the model takes 3"):
        Bpe(Cut((0, 3), (3, 5)), before=(1,), after=(2,), longest=3).tokens("ACGTA")


def test_what_a_model_takes_is_known_of_its_compiled_form_too(model: CrossDNA) -> None:
    """`torch.compile` puts a module of another class around a model."""
    net = cdi.wrap(Weighted().eval(), "TGCAN")
    compiled = torch.compile(net, backend="eager")
    assert inputs_of(compiled) == net.inputs
    np.testing.assert_array_equal(cdi.predict(["AACGN"], compiled), cdi.predict(["AACGN"], net))
    assert cdi.predict(["AACGN"], net)[0, 0] == 2 * 1000 + 100 + 10 + 0.5
    assert capability(torch.compile(model, backend="eager"), StrandPaths) is not None
    chosen = torch.compile(cdi.select_targets(net, "*"), backend="eager")
    np.testing.assert_array_equal(cdi.predict(["AACGN"], chosen), cdi.predict(["AACGN"], net))


def test_without_a_declaration_channels_are_acgtn(make_model: Callable) -> None:
    assert inputs_of(make_model()) == OneHot("ACGTN")
    assert inputs_of(nn.Linear(2, 2)) == OneHot("ACGTN")

"""Sequence objects of other libraries are accepted in every function. Mappings and sets are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dnaio
import numpy as np
import pandas as pd
import pyfaidx
import pytest
from Bio.Seq import MutableSeq, Seq
from Bio.SeqRecord import SeqRecord

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet

TEXT = "ACGTTGCAAGGCTTAACCGGATAT"


@pytest.fixture
def fasta(tmp_path: Path) -> pyfaidx.Fasta:
    (tmp_path / "one.fa").write_text(f">one\n{TEXT}\n")
    return pyfaidx.Fasta(str(tmp_path / "one.fa"))


SINGLE: dict[str, Callable[[pyfaidx.Fasta], Any]] = {
    "Seq": lambda fasta: Seq(TEXT),
    "MutableSeq": lambda fasta: MutableSeq(TEXT),
    "SeqRecord": lambda fasta: SeqRecord(Seq(TEXT), id="x"),
    "pyfaidx record": lambda fasta: fasta["one"],
    "pyfaidx sequence": lambda fasta: fasta["one"][:],
    "dnaio record": lambda fasta: dnaio.SequenceRecord("x", TEXT),
    "numpy string": lambda fasta: np.str_(TEXT),
    "numpy array without axes": lambda fasta: np.array(TEXT),
    "element of an array": lambda fasta: np.array([TEXT])[0],
}
SEVERAL: dict[str, Callable[[pyfaidx.Fasta], Any]] = {
    "list": lambda fasta: [TEXT, TEXT],
    "tuple": lambda fasta: (TEXT, Seq(TEXT)),
    "Series": lambda fasta: pd.Series([TEXT, TEXT], index=[7, 3]),
    "Series of pandas' strings": lambda fasta: pd.Series([TEXT, TEXT], dtype="string"),
    "Index": lambda fasta: pd.Index([TEXT, TEXT]),
    "array of strings": lambda fasta: np.array([TEXT, TEXT]),
    "array of objects": lambda fasta: np.array([TEXT, TEXT], dtype=object),
    "generator": lambda fasta: (each for each in [TEXT, TEXT]),
    "values of a dict": lambda fasta: {"a": TEXT, "b": TEXT}.values(),
    "records": lambda fasta: [SeqRecord(Seq(TEXT)), fasta["one"]],
}
ANALYSES: dict[str, Callable[[Any, Any], Any]] = {
    "predict": lambda seq, model: cdi.predict(seq, model),
    "ism": lambda seq, model: cdi.ism(seq, model, end=3),
    "integrated_gradients": lambda seq, model: cdi.integrated_gradients(
        seq, model, baseline="uniform", steps=2, max_steps=2, tolerance=1e9
    ),
    "input_gradient": lambda seq, model: cdi.input_gradient(seq, model),
    "strand_exchange": lambda seq, model: cdi.strand_exchange(seq, model),
    "orientation": lambda seq, model: cdi.orientation(seq, model).forward,
    "scan": lambda seq, model: len(cdi.scan(seq, {"m": np.eye(4)[[0, 0, 2, 2, 1]].T}, p=1e-2).table),
}
OF_ONE: dict[str, Callable[[Any, Any], Any]] = {
    "score_edits": lambda seq, model: cdi.score_edits(seq, [(1, 2, Seq("T"))], model, flanks=(Seq("AC"), Seq("GT"))),
    "deletion_scan": lambda seq, model: cdi.deletion_scan(seq, model, end=3),
    "insertion_scan": lambda seq, model: cdi.insertion_scan(seq, model, insert=Seq("GA"), end=3),
    "pairwise_ism": lambda seq, model: cdi.pairwise_ism(seq, model, positions=[1, 4]),
    "exchange_ism": lambda seq, model: cdi.exchange_ism(seq, model, end=2),
    "ablate_exchange": lambda seq, model: cdi.ablate_exchange(seq, model),
    "patch_exchange": lambda seq, model: cdi.patch_exchange(seq, seq, model),
    "design": lambda seq, model: cdi.design(seq, model, max_edits=1),
    "reverse_complement": lambda seq, model: cdi.reverse_complement(seq),
    "edit_to": lambda seq, model: cdi.edit_to(seq, seq),
    "outside_training": lambda seq, model: cdi.outside_training(model, seq),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    for name in ("predictions", "values", "contributions", "delta", "reference"):
        if hasattr(one, name):
            return np.allclose(getattr(one, name), getattr(other, name), rtol=0, atol=1e-5)
    return bool(np.all(np.asarray(one == other)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SINGLE)
def test_one_sequence_in_every_function(kind: str, make_model: Callable, fasta: pyfaidx.Fasta) -> None:
    model = make_model(targets=["y"])
    for name, analysis in (ANALYSES | OF_ONE).items():
        result, right = analysis(SINGLE[kind](fasta), model), analysis(TEXT, model)
        assert type(result) is type(right), name
        assert same(result, right), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEVERAL)
def test_several_sequences_in_every_function(kind: str, make_model: Callable, fasta: pyfaidx.Fasta) -> None:
    model = make_model(targets=["y"])
    for name, analysis in ANALYSES.items():
        assert same(analysis(SEVERAL[kind](fasta), model), analysis([TEXT, TEXT], model)), name


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "dict with names that are DNA": (lambda: {"GATA": TEXT, "TAC": TEXT}, "dict, which has names too"),
    "table": (lambda: pd.DataFrame({"sequence": [TEXT]}), "DataFrame, which has names too"),
    "set": (lambda: {TEXT}, "set, which has none"),
    "bytes": (lambda: TEXT.encode(), "bytes"),
    "bytes in a list": (lambda: [TEXT.encode()], r"\[0\]` must be .*bytes. Decode it first"),
    "bytearray": (lambda: bytearray(TEXT.encode()), "bytearray"),
    "array of two axes": (lambda: np.array([[TEXT]]), r"array of shape \(1, 1\)"),
    "missing value": (lambda: pd.Series([TEXT, None]), r"\[1\]` must be a string of bases"),
    "NaN": (lambda: [float("nan")], r"\[0\]` must be .*float"),
    "number": (lambda: 3, "int"),
    "None": (lambda: None, "NoneType"),
    "path": (lambda: Path("x.fa"), "Path"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sequence_is_refused_by_name(kind: str, model: Any) -> None:
    make, message = REFUSED[kind]
    for name, analysis in ANALYSES.items():
        with pytest.raises(TypeError, match=message) as caught:
            analysis(make(), model)
        assert "`seq" in str(caught.value), name


def test_a_fasta_file_is_not_a_sequence(fasta: pyfaidx.Fasta, model: Any) -> None:
    with pytest.raises(TypeError, match="Fasta, which has names too"):
        cdi.predict(fasta, model)


def test_bases_that_are_not_there_are_an_error() -> None:
    with pytest.raises(ValueError, match="`seq` is a Seq whose bases cannot be read"):
        alphabet.normalize(Seq(None, length=9))


def test_what_only_looks_like_a_sequence_class_is_none() -> None:
    class Seq:  # of another library
        def __iter__(self) -> Any:
            return iter([TEXT])

    assert not alphabet.is_single(Seq())
    assert alphabet.normalize_many(Seq()) == [TEXT]


def test_errors_name_the_place_in_an_object_too() -> None:
    with pytest.raises(ValueError, match="'X' at position 2"):
        alphabet.normalize(SeqRecord(Seq("acX")))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, bool])
@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("batch", [False, True])
def test_reverse_complement_of_one_hot_of_any_dtype(dtype: type, channels: int, axis: int, batch: bool) -> None:
    import torch

    def encoded(text: str) -> np.ndarray:
        x = alphabet.one_hot(alphabet.encode(text))[:channels].astype(dtype)
        x = x if axis == -2 else x.T
        return np.stack([x, x]) if batch else x

    for text in (TEXT, "AACGN" * 3, "AAAA", "ACGT"):
        right = encoded(cdi.reverse_complement(text))
        result = cdi.reverse_complement(encoded(text), channel_axis=axis)
        assert result.dtype == right.dtype
        np.testing.assert_array_equal(result, right)
        tensor = cdi.reverse_complement(torch.from_numpy(encoded(text)), channel_axis=axis)
        np.testing.assert_array_equal(tensor.numpy(), right)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 7])
def test_reverse_complement_of_ids_in_any_number_of_rows(rows: int) -> None:
    texts = ["".join(np.random.default_rng(row).choice(list("ACGTN"), 40)) for row in range(rows)]
    ids = np.stack([alphabet.encode(text) for text in texts])
    right = np.stack([alphabet.encode(cdi.reverse_complement(text)) for text in texts])
    np.testing.assert_array_equal(cdi.reverse_complement(ids), right)


def test_edits_that_look_like_channels_are_scored_as_edits(make_model: Callable) -> None:
    """Four edited sequences of nothing but A and a single C each could be taken for one-hot channels."""
    model = make_model(targets=["y"], depth=1)
    own = "A" * 40
    edits = [(place, place + 1, "C") for place in range(8, 12)]
    result = cdi.score_edits(own, edits, model, batch_size=4)
    right = cdi.predict([own[:start] + base + own[end:] for start, end, base in edits], model)
    np.testing.assert_allclose(result.predictions, right, rtol=0, atol=1e-5)


def test_integers_that_may_be_ids_or_channels_are_refused() -> None:
    mostly_unknown = alphabet.one_hot(alphabet.encode("ACGTNNNNNN"))[:4].astype(np.int8)
    with pytest.raises(ValueError, match="may be ids of A and C, or one-hot channels that are mostly N"):
        cdi.reverse_complement(mostly_unknown)
    right = alphabet.one_hot(alphabet.encode("NNNNNNACGT"))[:4]
    np.testing.assert_array_equal(cdi.reverse_complement(mostly_unknown.astype(bool)), right)


def test_an_empty_record_is_empty() -> None:
    with pytest.raises(ValueError, match="must hold at least one base, but it is empty"):
        alphabet.normalize(SeqRecord(Seq("")))

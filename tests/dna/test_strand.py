"""strand: the reverse complement in every form, and where blocks and branches lie on the duplex."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossdna_interpret.dna import alphabet, strand
from crossdna_interpret.dna.strand import reverse_complement
from crossdna_interpret.models.crossdna.blocks import BlockPair, RcBlocks, block_pairs, flip
from crossdna_interpret.models.spans import Locus, whole

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None)

SEQUENCES = st.text(alphabet="ACGTN", min_size=1, max_size=30)
LENGTHS = st.integers(1, 90)
SIZES = st.one_of(st.none(), st.integers(1, 100))
PAIRINGS = st.sampled_from(["aligned", "mirrored"])
LOCI = st.tuples(st.integers(1, 40), st.integers(0, 39), st.integers(1, 40), st.booleans()).map(
    lambda x: (x[0], Locus("reverse" if x[3] else "forward", min(x[1], x[0] - 1), min(x[1] + x[2], x[0]), x[3]))
)

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


def by_hand(seq: str) -> str:
    """Reverse complement, base by base."""
    return "".join(COMPLEMENT[base] for base in reversed(seq))


# Each form: how a string is written in it, with the axis of the channels where it has them.
def channels(seq: str, count: int, axis: int) -> np.ndarray:
    return np.moveaxis(alphabet.one_hot(alphabet.encode(seq), np.float64)[:count], 0, axis)


FORMS: dict[str, tuple[Callable[[str], np.ndarray | Tensor], dict[str, int]]] = {
    "ids, numpy": (alphabet.encode, {}),
    "ids, tensor": (lambda seq: torch.from_numpy(alphabet.encode(seq)), {}),
    "5 channels first, numpy": (lambda seq: channels(seq, 5, -2), {}),
    "4 channels first, numpy": (lambda seq: channels(seq, 4, -2), {"channel_axis": -2}),
    "5 channels last, numpy": (lambda seq: channels(seq, 5, -1), {"channel_axis": -1}),
    "4 channels last, numpy": (lambda seq: channels(seq, 4, -1), {"channel_axis": -1}),
    "5 channels first, tensor": (lambda seq: torch.from_numpy(channels(seq, 5, -2)), {}),
    "4 channels first, tensor": (lambda seq: torch.from_numpy(channels(seq, 4, -2)), {"channel_axis": -2}),
    "5 channels last, tensor": (lambda seq: torch.from_numpy(channels(seq, 5, -1)), {"channel_axis": -1}),
    "4 channels last, tensor": (lambda seq: torch.from_numpy(channels(seq, 4, -1)), {"channel_axis": -1}),
}


@unhurried
@given(SEQUENCES)
def test_reverse_complement_of_a_string(seq: str) -> None:
    assert reverse_complement(seq) == by_hand(seq)
    assert reverse_complement(reverse_complement(seq)) == seq


def test_reverse_complement_of_a_string_takes_what_users_type() -> None:
    assert reverse_complement("aacgu") == "ACGTT"
    with pytest.raises(ValueError, match="'X' at position 1"):
        reverse_complement("AX")


@pytest.mark.parametrize("form", FORMS)
@unhurried
@given(seq=SEQUENCES)
def test_reverse_complement_agrees_in_every_form_and_is_an_involution(form: str, seq: str) -> None:
    write, axis = FORMS[form]
    x = write(seq)
    there = reverse_complement(x, **axis)
    assert type(there) is type(x)
    np.testing.assert_array_equal(np.asarray(there), np.asarray(write(by_hand(seq))))
    np.testing.assert_array_equal(np.asarray(reverse_complement(there, **axis)), np.asarray(x))


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("count", [4, 5])
def test_reverse_complement_of_batches_treats_each_row_alone(axis: int, count: int) -> None:
    # Values that are no one-hot, as attributions are; 4 or 5 positions would hide an exchange of the axes.
    x = np.random.default_rng(0).normal(size=(2, 3, count, 7))
    if axis == -1:
        x = np.swapaxes(x, -1, -2)
    there = reverse_complement(x, channel_axis=axis)
    rows = np.stack([[reverse_complement(row, channel_axis=axis) for row in rows] for rows in x])
    np.testing.assert_array_equal(there, rows)
    np.testing.assert_array_equal(reverse_complement(torch.from_numpy(x), channel_axis=axis).numpy(), there)
    ids = np.random.default_rng(1).integers(0, 5, (2, 3, 7))
    np.testing.assert_array_equal(reverse_complement(ids)[1, 2], reverse_complement(ids[1, 2]))


def test_reverse_complement_of_channels_moves_each_value_to_its_partner() -> None:
    x = np.zeros((5, 7))
    x[1, 2] = 0.25  # C at position 2
    x[4, 0] = -3.0  # N at position 0
    expected = np.zeros((5, 7))
    expected[2, 4] = 0.25  # is G at position 7 - 1 - 2
    expected[4, 6] = -3.0
    np.testing.assert_array_equal(reverse_complement(x), expected)


def test_reverse_complement_does_not_share_memory_with_its_input() -> None:
    for x in (alphabet.encode("ACGTN"), channels("ACGTN", 5, -2)):
        before = x.copy()
        reverse_complement(x)[...] = 0
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("count", [4, 5])
def test_reverse_complement_of_a_tensor_is_differentiable(axis: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (2, count, 7) if axis == -2 else (2, 7, count)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    (reverse_complement(x, channel_axis=axis) * weight).sum().backward()
    # The map is a permutation and its own inverse, so its transpose is itself.
    assert torch.equal(x.grad, reverse_complement(weight, channel_axis=axis))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_reverse_complement_keeps_the_dtype_of_ids(dtype: type[np.integer]) -> None:
    ids = np.array([0, 1, 4], dtype=dtype)
    assert reverse_complement(torch.from_numpy(ids)).dtype == torch.from_numpy(ids).dtype
    assert reverse_complement(ids).dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reverse_complement_keeps_the_dtype_of_channels(dtype: type[np.floating]) -> None:
    x = alphabet.one_hot(alphabet.encode("ACGTNN"), dtype)
    assert reverse_complement(x).dtype == dtype
    assert reverse_complement(torch.from_numpy(x)).dtype == torch.from_numpy(x).dtype


@pytest.mark.parametrize("x", [None, 3, ["A"], b"A"])
def test_reverse_complement_refuses_other_types(x: object) -> None:
    with pytest.raises(TypeError, match=f"`x` must be.*{type(x).__name__}"):
        reverse_complement(x)  # type: ignore[call-overload]


@pytest.mark.parametrize(("shape", "axis"), [((7,), -2), ((3, 7), -2), ((5, 7), -1), ((7, 5), -2), ((2, 6, 9), -1)])
def test_reverse_complement_refuses_channels_where_there_are_none(shape: tuple[int, ...], axis: int) -> None:
    for x in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(ValueError) as caught:
            reverse_complement(x, channel_axis=axis)
        assert f"`channel_axis`={axis}" in str(caught.value)
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize("axis", [0, 1, 2, -3])
def test_reverse_complement_refuses_other_channel_axes(axis: int) -> None:
    with pytest.raises(ValueError, match=f"`channel_axis` must be -2.*or -1.*got {axis}"):
        reverse_complement(np.zeros((2, 5, 7)), channel_axis=axis)


def loci(pairs: list[BlockPair], name: str) -> list[Locus]:
    """The loci of one strand, whichever branch has it."""
    return [pair.branch_a if pair.branch_a.strand == name else pair.branch_b for pair in pairs]


@unhurried
@given(LENGTHS, SIZES, PAIRINGS)
def test_forward_loci_tile_the_sequence(length: int, size: int | None, pairing: RcBlocks) -> None:
    pairs = block_pairs(length, size, pairing)
    assert len(pairs) == (1 if size is None else math.ceil(length / size))
    assert [pair.index for pair in pairs] == list(range(len(pairs)))
    assert np.concatenate([pair.forward.positions for pair in pairs]).tolist() == list(range(length))
    widths = [pair.forward.end - pair.forward.start for pair in pairs]
    assert all(width == (size or length) for width in widths[:-1])  # only the last may be short


@unhurried
@given(LENGTHS, SIZES, PAIRINGS)
def test_reverse_loci_cover_every_position_once(length: int, size: int | None, pairing: RcBlocks) -> None:
    reverse = loci(block_pairs(length, size, pairing), "reverse")
    assert sorted(np.concatenate([locus.positions for locus in reverse]).tolist()) == list(range(length))
    assert all(locus.descending for locus in reverse)


@unhurried
@given(LENGTHS, SIZES, PAIRINGS)
def test_odd_blocks_swap_the_branches(length: int, size: int | None, pairing: RcBlocks) -> None:
    for pair in block_pairs(length, size, pairing):
        odd = pair.index % 2 == 1
        expected = ("reverse", "forward") if odd else ("forward", "reverse")
        assert (pair.branch_a.strand, pair.branch_b.strand) == expected
        assert pair.a_is_forward is not odd
        assert pair.forward is (pair.branch_b if odd else pair.branch_a)
        assert not pair.forward.descending
        assert pair.branch_a.block == pair.branch_b.block == pair.index


@unhurried
@given(LENGTHS, SIZES, PAIRINGS)
def test_merged_is_the_forward_stretch_of_both_strands(length: int, size: int | None, pairing: RcBlocks) -> None:
    for pair in block_pairs(length, size, pairing):
        assert pair.merged == Locus("both", pair.forward.start, pair.forward.end, block=pair.index)


@unhurried
@given(LENGTHS, SIZES)
def test_aligned_pairs_the_two_strands_of_one_stretch(length: int, size: int | None) -> None:
    for pair in block_pairs(length, size, "aligned"):
        assert (pair.branch_a.start, pair.branch_a.end) == (pair.branch_b.start, pair.branch_b.end)


@unhurried
@given(LENGTHS, SIZES)
def test_mirrored_cuts_the_reverse_strand_in_its_own_coordinates(length: int, size: int | None) -> None:
    pairs = block_pairs(length, size, "mirrored")
    for pair, reverse in zip(pairs, loci(pairs, "reverse"), strict=True):
        # Position i of the reverse strand is position L - 1 - i of the sequence.
        assert (length - 1 - reverse.positions).tolist() == pair.forward.positions.tolist()
        assert reverse.own_slice(length) == slice(pair.forward.start, pair.forward.end)


@unhurried
@given(LENGTHS, st.integers(0, 50))
def test_both_pairings_are_the_same_with_one_block(length: int, spare: int) -> None:
    alone = block_pairs(length, None, "aligned")
    assert alone == block_pairs(length, None, "mirrored")
    assert alone == block_pairs(length, length + spare, "aligned") == block_pairs(length, length + spare, "mirrored")


def test_the_pairings_differ_with_two_blocks() -> None:
    assert block_pairs(10, 6, "aligned") != block_pairs(10, 6, "mirrored")
    assert block_pairs(12, 6, "aligned") != block_pairs(12, 6, "mirrored")  # also when no block is short


def strand_features(length: int, name: str) -> Tensor:
    """Features (1, L, 1) of a strand, read 5' to 3', that hold the position in the sequence they stand for."""
    along = torch.arange(length)
    return (along if name == "forward" else length - 1 - along).reshape(1, length, 1)


@unhurried
@given(LENGTHS, SIZES, PAIRINGS)
def test_own_slice_takes_features_that_stand_for_positions(length: int, size: int | None, pairing: RcBlocks) -> None:
    for pair in block_pairs(length, size, pairing):
        for locus in (pair.branch_a, pair.branch_b):
            taken = strand_features(length, locus.strand)[:, locus.own_slice(length)]
            assert taken.flatten().tolist() == locus.positions.tolist()


@unhurried
@given(LOCI)
def test_any_stretch_of_either_strand_is_taken_by_own_slice(drawn: tuple[int, Locus]) -> None:
    length, locus = drawn
    taken = strand_features(length, locus.strand)[:, locus.own_slice(length)]
    assert taken.flatten().tolist() == locus.positions.tolist()
    assert sorted(locus.positions.tolist()) == list(range(locus.start, locus.end))


@unhurried
@given(LOCI)
def test_flip_puts_features_in_the_order_of_the_sequence(drawn: tuple[int, Locus]) -> None:
    length, locus = drawn
    taken = strand_features(length, locus.strand)[:, locus.own_slice(length)]
    assert flip(taken, locus).flatten().tolist() == list(range(locus.start, locus.end))
    assert flip(taken, locus).flatten().tolist() == locus.ascending().positions.tolist()


def test_flip_reverses_positions_and_nothing_else() -> None:
    features = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert torch.equal(flip(features, Locus("reverse", 5, 8, descending=True)), features[:, [2, 1, 0]])
    assert torch.equal(flip(features, Locus("forward", 5, 8)), features)


@unhurried
@given(LOCI)
def test_ascending_changes_the_order_alone(drawn: tuple[int, Locus]) -> None:
    _, locus = drawn
    ascending = locus.ascending()
    assert not ascending.descending
    assert (ascending.strand, ascending.start, ascending.end) == (locus.strand, locus.start, locus.end)


@unhurried
@given(LENGTHS)
def test_whole_covers_a_strand_in_its_own_order(length: int) -> None:
    for name in ("forward", "reverse"):
        assert whole(name, length).positions.tolist() == strand_features(length, name).flatten().tolist()
        assert whole(name, length).block is None


def test_positions_do_not_share_memory() -> None:
    locus = Locus("reverse", 2, 5, descending=True)
    locus.positions[:] = 0
    assert locus.positions.tolist() == [4, 3, 2]


def test_public_names_exist() -> None:
    assert all(hasattr(strand, name) for name in strand.__all__)


@pytest.mark.parametrize("ids", [np.array([0, 7]), np.array([-1, 2]), torch.tensor([0, 7]), torch.tensor([-1, 2])])
def test_ids_that_stand_for_nothing_are_refused(ids: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(ValueError, match="`x` must hold ids from 0 to 4"):
        reverse_complement(ids)

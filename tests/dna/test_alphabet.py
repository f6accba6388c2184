"""alphabet: valid input, its normal form, and error messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crossdna_interpret as cdi
from crossdna_interpret.dna import alphabet

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None)

TYPED = st.text(alphabet="ACGTNUacgtnu", min_size=1, max_size=40)
NORMAL = st.text(alphabet=alphabet.ALPHABET, min_size=1, max_size=40)


def test_alphabet_is_the_published_one() -> None:
    assert alphabet.ALPHABET == "ACGTN"
    assert alphabet.ALPHABET[:4] == alphabet.BASES
    assert alphabet.ALPHABET[alphabet.N_ID] == "N"


@unhurried
@given(TYPED)
def test_normalize_upper_cases_and_reads_u_as_t(seq: str) -> None:
    assert alphabet.normalize(seq) == seq.upper().replace("U", "T")


@unhurried
@given(TYPED)
def test_normalize_is_idempotent(seq: str) -> None:
    once = alphabet.normalize(seq)
    assert alphabet.normalize(once) == once


def test_normalize_refuses_an_empty_string() -> None:
    with pytest.raises(ValueError, match=r"`seq` must hold at least one base, but it is empty"):
        alphabet.normalize("")


@pytest.mark.parametrize(
    ("seq", "character", "position"),
    [
        ("ACGX", "X", 3),
        ("xACG", "x", 0),  # as the user typed it, not upper-cased
        ("AC-GTRY", "-", 2),  # the first of several
        ("AC GT", " ", 2),
        ("ACGT\n", "\n", 4),
        ("ACGTé", "é", 4),
        ("ACI\u0130", "I", 2),
        ("AC\u0131", "\u0131", 2),  # its upper case is I
        ("AßX", "ß", 1),  # its upper case is two characters, which would shift the position of what follows
    ],
)
def test_normalize_names_the_first_bad_character_and_its_position(seq: str, character: str, position: int) -> None:
    with pytest.raises(ValueError) as caught:
        alphabet.normalize(seq)
    message = str(caught.value)
    assert "`seq`" in message
    assert f"{character!r} at position {position} " in message


@unhurried
@given(NORMAL, st.characters().filter(lambda c: c not in "ACGTNUacgtnu"), st.data())
def test_normalize_refuses_every_other_character_wherever_it_stands(seq: str, bad: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(seq)))
    with pytest.raises(ValueError) as caught:
        alphabet.normalize(seq[:position] + bad + seq[position:])
    assert f"{bad!r} at position {position} " in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, b"ACGT", ["ACGT"], np.array([0, 1])])
def test_normalize_refuses_what_is_no_string(value: object) -> None:
    with pytest.raises(TypeError, match=f"`dna` must be a string.*{type(value).__name__}"):
        alphabet.normalize(value, name="dna")  # type: ignore[arg-type]


def test_normalize_many_takes_one_string_a_list_or_any_iterable() -> None:
    assert alphabet.normalize_many("acgu") == ["ACGT"]
    assert alphabet.normalize_many(["ac", "GUN"]) == ["AC", "GTN"]
    assert alphabet.normalize_many(seq for seq in ("a", "u")) == ["A", "T"]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [("ACGX", ValueError, r"`seqs\[2\]` has 'X' at position 3"), ("", ValueError, r"`seqs\[2\]`.*empty"),
     (7, TypeError, r"`seqs\[2\]`.*int")],
)  # fmt: skip
def test_normalize_many_names_the_bad_entry(bad: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        alphabet.normalize_many(["ACG", "T", bad, "X"])  # type: ignore[list-item]


def test_normalize_many_uses_the_caller_s_name() -> None:
    with pytest.raises(ValueError, match=r"`background\[1\]`"):
        alphabet.normalize_many(["A", "X"], name="background")
    with pytest.raises(ValueError, match=r"`background` has 'X'"):
        alphabet.normalize_many("X", name="background")


@pytest.mark.parametrize("empty", [[], (), iter([])])
def test_normalize_many_refuses_no_sequence(empty: object) -> None:
    with pytest.raises(ValueError, match=r"`seqs` must hold at least one sequence"):
        alphabet.normalize_many(empty)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 3, b"ACGT"])
def test_normalize_many_refuses_what_is_no_list(value: object) -> None:
    with pytest.raises(TypeError, match=f"`seqs` must be.*{type(value).__name__}"):
        alphabet.normalize_many(value)  # type: ignore[arg-type]


@unhurried
@given(TYPED)
def test_encode_gives_the_place_in_the_alphabet(seq: str) -> None:
    ids = alphabet.encode(seq)
    assert ids.dtype == np.int64
    assert ids.tolist() == [alphabet.ALPHABET.index(base) for base in alphabet.normalize(seq)]


def test_encode_refuses_what_normalize_refuses() -> None:
    with pytest.raises(ValueError, match=r"'X' at position 3"):
        alphabet.encode("ACGX")


@unhurried
@given(NORMAL)
def test_decode_is_the_inverse_of_encode(seq: str) -> None:
    assert alphabet.decode(alphabet.encode(seq)) == seq
    assert alphabet.decode(alphabet.encode(seq).tolist()) == seq


def test_complement_pairs_watson_and_crick_and_keeps_order_and_shape() -> None:
    ids = np.array([[0, 1, 2], [3, 4, 0]])
    assert alphabet.complement_ids(ids).tolist() == [[3, 2, 1], [0, 4, 3]]


@unhurried
@given(NORMAL)
def test_complement_is_an_involution(seq: str) -> None:
    ids = alphabet.encode(seq)
    np.testing.assert_array_equal(alphabet.complement_ids(alphabet.complement_ids(ids)), ids)


@unhurried
@given(NORMAL)
def test_one_hot_marks_each_position_s_own_channel(seq: str) -> None:
    encoded = alphabet.one_hot(alphabet.encode(seq))
    assert encoded.shape == (5, len(seq))
    assert encoded.dtype == np.float32
    for position, base in enumerate(seq):
        assert encoded[:, position].tolist() == [float(channel == base) for channel in "ACGTN"]


def test_one_hot_keeps_leading_axes_and_takes_a_dtype() -> None:
    ids = np.random.default_rng(0).integers(0, 5, (2, 3, 7))
    encoded = alphabet.one_hot(ids, dtype=np.float64)
    assert encoded.shape == (2, 3, 5, 7)
    assert encoded.dtype == np.float64
    np.testing.assert_array_equal(encoded.argmax(-2), ids)
    np.testing.assert_array_equal(encoded.sum(-2), 1)


@pytest.mark.parametrize("path", ["enhancers.fa", "data/enhancers", "C:\\enhancers", "../x.fasta.gz"])
def test_a_path_by_mistake_is_called_one(path: str) -> None:
    with pytest.raises(ValueError, match="It looks like a path: read the file with `read_fasta` first"):
        cdi.predict(path)
    with pytest.raises(ValueError, match=r"either case\.$"):
        alphabet.normalize("ACGX")


def test_a_list_for_one_sequence_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`seq` must be a string of bases .* but got list\. Pass one"):
        cdi.design(["ACGT"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`seq` must be one sequence, or the text of one FASTA record, but got list"):
        cdi.explore(["ACGT"])  # type: ignore[arg-type]

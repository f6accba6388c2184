"""edits: valid edits, and edited sequences against slices of plain strings."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor, window

# A busy machine is no reason to fail, so examples have no deadline.
unhurried = settings(deadline=None)

SEQUENCES = st.text(alphabet="ACGTN", min_size=1, max_size=12)
STRINGS = st.text(alphabet="ACGTN", max_size=8)


def sliced(sequence: str, edit: Edit) -> str:
    """The edit without flanks."""
    return sequence[: edit.start] + edit.string + sequence[edit.end :]


def kept(sequence: str, edit: Edit, left: str, right: str) -> str | int:
    """The edit with flanks, base by base, or the number of missing bases if the flanks are too short."""
    text = sliced(sequence, edit)
    fresh_left, fresh_right = list(left), list(right)  # what is still to be had
    arm_left, arm_right = edit.start, len(sequence) - edit.end  # bases that can still be pushed out
    left_first = edit.start < len(sequence) - edit.end
    while len(text) != len(sequence):
        ends = ["left", "right"] if left_first else ["right", "left"]
        for end in ends:
            if len(text) < len(sequence):
                if end == "left" and fresh_left:
                    text = fresh_left.pop() + text
                    break
                if end == "right" and fresh_right:
                    text = text + fresh_right.pop(0)
                    break
            else:
                if end == "left" and left and arm_left:
                    text, arm_left = text[1:], arm_left - 1
                    break
                if end == "right" and right and arm_right:
                    text, arm_right = text[:-1], arm_right - 1
                    break
        else:
            return abs(len(text) - len(sequence))
    return text


@st.composite
def edits_of(draw: st.DrawFn, sequence: str) -> Edit:
    """Any edit of a sequence."""
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(sequence))] * 2)))
    return Edit(start, end, draw(STRINGS))


# Edit


def test_an_edit_normalises_its_string() -> None:
    assert Edit(3, 4, "u") == Edit(3, 4, "T")
    assert Edit(3, 3, "gaUNn").string == "GATNN"
    assert Edit(3, 5, "").string == ""


def test_an_edit_takes_numpy_integers_and_keeps_plain_ones() -> None:
    edit = Edit(np.int64(3), np.int32(5), "A")
    assert (type(edit.start), type(edit.end)) == (int, int)
    assert edit == Edit(3, 5, "A")
    assert hash(edit) == hash(Edit(3, 5, "a"))


@pytest.mark.parametrize(
    ("edit", "change"), [(Edit(1, 2, "A"), 0), (Edit(1, 4, ""), -3), (Edit(2, 2, "ACGT"), 4), (Edit(2, 5, "A"), -2),
                         (Edit(2, 3, "AA"), 1), (Edit(2, 2, ""), 0)],
)  # fmt: skip
def test_change_is_how_much_longer_the_sequence_gets(edit: Edit, change: int) -> None:
    assert edit.change == change


def test_an_edit_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Edit(1, 2, "A").start = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ((-1, 2, "A"), ValueError, "`start` and `end` must satisfy 0 <= start <= end, but got start=-1, end=2"),
        ((3, 2, "A"), ValueError, "`start` and `end` must satisfy 0 <= start <= end, but got start=3, end=2"),
        ((1.0, 2, "A"), TypeError, r"`start` must be an integer, but got 1\.0"),
        ((True, 2, "A"), TypeError, "`start` must be an integer, but got True"),
        ((1, None, "A"), TypeError, "`end` must be an integer, but got None"),
        ((1, "2", "A"), TypeError, "`end` must be an integer, but got '2'"),
        ((1, 2, "AXG"), ValueError, "`string` has 'X' at position 1"),
        ((1, 2, "A-"), ValueError, "`string` has '-' at position 1"),
        ((1, 2, None), TypeError, "`string` must be a string of bases .* got NoneType"),
        ((1, 2, b""), TypeError, "`string` must be a string of bases .* got bytes"),
    ],
)
def test_a_bad_edit_names_the_argument_and_the_value(fields: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Edit(*fields)


# A window


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(0, None, (0, 9)), (4, None, (4, 9)), (0, 1, (0, 1)), (np.int64(2), 9, (2, 9))]
)
def test_a_window_is_two_plain_integers(start: int, end: int | None, expected: tuple[int, int]) -> None:
    assert window(9, start, end) == expected
    assert [type(value) for value in window(9, start, end)] == [int, int]


@pytest.mark.parametrize(("start", "end"), [(3, 3), (5, 2), (-1, 4), (0, 10), (9, None)])
def test_a_window_outside_names_the_values(start: int, end: int | None) -> None:
    given_end = 9 if end is None else end
    message = rf"0 <= start < end <= 9 \(the length\), but got start={start}, end={given_end}\."
    with pytest.raises(ValueError, match=message):
        window(9, start, end)


@pytest.mark.parametrize(("name", "place"), [("start", (1.5, 4)), ("end", (1, "4")), ("start", (True, 4))])
def test_a_window_of_no_integers_names_the_argument(name: str, place: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match=f"`{name}` must be an integer, but got {place[name == 'end']!r}"):
        window(9, *place)


# The editor, without flanks


@unhurried
@given(st.data(), SEQUENCES)
def test_an_edit_is_a_slice_replaced(data: st.DataObject, sequence: str) -> None:
    edit = data.draw(edits_of(sequence))
    expected = sliced(sequence, edit)
    assume(expected)
    editor = Editor(sequence)
    assert editor.check([edit]) == [edit]
    assert editor(edit) == expected
    assert editor.encoded(edit).tolist() == alphabet.encode(expected).tolist()
    assert editor.encoded(edit).dtype == editor.ids.dtype
    assert len(expected) == len(sequence) + edit.change


def test_edits_leave_the_reference_alone() -> None:
    editor = Editor("ACGTACGT", flanks=("TT", "GG"))
    for edit in (Edit(1, 3, "NN"), Edit(1, 3, ""), Edit(2, 2, "TTT"), Edit(2, 2, "")):
        editor.encoded(edit)[:] = 4
        assert editor.ids.tolist() == alphabet.encode("ACGTACGT").tolist()


def test_substitutions_may_be_text() -> None:
    editor = Editor("ACGTACGTACGTACGTT")
    assert editor.check(["A0g", "T16U"]) == [Edit(0, 1, "G"), Edit(16, 17, "T")]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            "C0G",
            r"`edits\[0\]` replaces 'C' at position 0, but the sequence has 'A' there. Positions are",
        ),
        ("A4G", r"`edits\[0\]` replaces 'A' at position 4, but the sequence has 4 bases"),
        ("A0X", r"`edits\[0\]` has 'X'"),
        ("X0A", r"`edits\[0\]` has 'X'"),
    ],
)
def test_a_substitution_that_does_not_fit_is_named(edit: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Editor("ACGT").check([edit])


def test_tuples_are_edits_too() -> None:
    assert Editor("ACGTACGT").check([(1, 2, "u"), Edit(3, 5, ""), (8, 8, "gg")]) == [
        Edit(1, 2, "T"), Edit(3, 5, ""), Edit(8, 8, "GG")
    ]  # fmt: skip
    assert Editor("ACGT").check(Edit(i, i + 1, "N") for i in range(2)) == [Edit(0, 1, "N"), Edit(1, 2, "N")]


GOOD = (0, 1, "A")


@pytest.mark.parametrize(
    ("edits", "error", "message"),
    [
        ([GOOD, (8, 9, "A")], ValueError, r"`edits\[1\]` ends at 9, but the sequence has 8 bases"),
        ([GOOD, GOOD, (9, 9, "A")], ValueError, r"`edits\[2\]` ends at 9, but the sequence has 8 bases"),
        ([(0, 8, "")], ValueError, r"`edits\[0\]` leaves no base of the sequence"),
        ([GOOD, (4, 3, "A")], ValueError, r"`edits\[1\]`: `start` and `end` must satisfy .* start=4, end=3"),
        ([GOOD, (3, 4, "Z")], ValueError, r"`edits\[1\]`: `string` has 'Z' at position 0"),
        ([GOOD, (3.5, 4, "A")], TypeError, r"`edits\[1\]`: `start` must be an integer, but got 3\.5"),
        ([GOOD, (3, 4)], TypeError, r"`edits\[1\]` must be an Edit or a tuple \(start, end, string\), .* \(3, 4\)"),
        ([GOOD, "3A"], TypeError, r"`edits\[1\]` must be an Edit or a tuple .* got '3A'"),
        ([GOOD, [3, 4, "A"]], TypeError, r"`edits\[1\]` must be an Edit or a tuple .* got \[3, 4, 'A'\]"),
        (Edit(*GOOD), TypeError, "`edits` must be a list, such as \\['T125G'\\], but got Edit"),
        ("ACG", TypeError, "`edits` must be a list, such as \\['T125G'\\], but got str"),
        ({"A0G"}, TypeError, "`edits` must be a list, such as \\['T125G'\\], but got set"),
        (["A" + "9" * 5000 + "G"], TypeError, r"`edits\[0\]` must be an Edit or a tuple"),
        (None, TypeError, "`edits` must be a list, such as \\['T125G'\\], but got NoneType"),
    ],
)  # fmt: skip
def test_an_edit_that_cannot_be_applied_is_named(edits: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Editor("ACGTACGT").check(edits)


def test_edits_may_touch_the_ends() -> None:
    editor = Editor("ACGT")
    edits = [Edit(0, 0, "TT"), Edit(4, 4, "TT"), Edit(0, 3, ""), Edit(0, 4, "N")]
    assert [editor(edit) for edit in editor.check(edits)] == ["TTACGT", "ACGTTT", "T", "N"]


# With flanks


@unhurried
@given(st.data(), SEQUENCES, st.text(alphabet="ACGTN", max_size=6), st.text(alphabet="ACGTN", max_size=6))
def test_flanks_keep_the_window(data: st.DataObject, sequence: str, left: str, right: str) -> None:
    edit = data.draw(edits_of(sequence))
    editor = Editor(sequence, (left, right))
    expected = kept(sequence, edit, left, right)
    if isinstance(expected, int):
        verb, short = (
            ("deletes", f" {expected} too few") if edit.change < 0 else ("adds", f" {expected} more than can leave")
        )
        with pytest.raises(ValueError, match=rf"`edits\[0\]` {verb} {abs(edit.change)} bases.*{short}"):
            editor.check([edit])
    else:
        assert editor(editor.check([edit])[0]) == expected
        assert len(expected) == len(sequence)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit(1, 3, ""), "TCATACGT"),  # nearer to the left end: what the left flank ends with comes in
        (Edit(5, 7, ""), "ACGTATAG"),  # nearer to the right end: what the right flank begins with
        (Edit(3, 5, ""), "ACGCGTAG"),  # as near to both: the right one
        (Edit(1, 1, "NN"), "NNCGTACG"),  # the arm of one base goes out, and one at the far end
        (Edit(2, 2, "NN"), "NNGTACGT"),
        (Edit(6, 6, "NN"), "ACGTACNN"),
        (Edit(4, 4, "NN"), "ACGTNNAC"),  # as near to both: the right one
        (Edit(0, 0, "NN"), "NNACGTAC"),  # nothing lies to the left of it, so the right end gives way
        (Edit(8, 8, "NN"), "GTACGTNN"),
        (Edit(2, 4, "N"), "CACNACGT"),
        (Edit(2, 4, "NN"), "ACNNACGT"),
    ],
)  # fmt: skip
def test_the_nearer_end_moves(edit: Edit, expected: str) -> None:
    editor = Editor("ACGTACGT", flanks=("GATC", "AGGG"))
    assert editor(editor.check([edit])[0]) == expected


def test_what_the_nearer_flank_lacks_comes_from_the_other() -> None:
    editor = Editor("ACGTACGTACGT", flanks=("CC", "AGN"))
    assert editor(Edit(1, 5, "")) == "CCACGTACGTAG"
    assert editor(Edit(7, 11, "")) == "CACGTACGTAGN"
    assert editor.check([Edit(1, 6, "")])
    for edit in (Edit(1, 7, ""), Edit(5, 11, "")):
        with pytest.raises(ValueError, match=r"`edits\[0\]` deletes 6 bases, and `flanks` has 1 too few"):
            editor.check([edit])


def test_what_the_nearer_arm_lacks_goes_out_at_the_other() -> None:
    editor = Editor("ACGTACGT", flanks=("C", "A"))
    assert editor(Edit(1, 1, "NNN")) == "NNNCGTAC"
    assert editor(Edit(7, 7, "NNN")) == "GTACGNNN"
    assert editor(Edit(3, 3, "N" * 8)) == "N" * 8
    message = r"`edits\[1\]` adds 10 bases, 2 more than can leave the window"
    with pytest.raises(ValueError, match=message):
        editor.check([Edit(3, 3, "N"), Edit(3, 3, "N" * 10)])


@pytest.mark.parametrize(
    ("flanks", "edit", "expected"),
    [
        (("", "AGGG"), Edit(1, 3, ""), "ATACGTAG"),
        (("GATC", ""), Edit(5, 7, ""), "TCACGTAT"),
        (("", "A"), Edit(1, 1, "NN"), "ANNCGTAC"),
        (("A", ""), Edit(7, 7, "NN"), "GTACGNNT"),
    ],
)
def test_an_end_with_an_empty_flank_stays(flanks: tuple[str, str], edit: Edit, expected: str) -> None:
    editor = Editor("ACGTACGT", flanks=flanks)
    assert editor(editor.check([edit])[0]) == expected


def test_an_end_that_stays_has_nothing_to_give() -> None:
    with pytest.raises(ValueError, match=r"`edits\[0\]` adds 2 bases, 2 more than can leave"):
        Editor("ACGTACGT", flanks=("", "AGGG")).check([Edit(8, 8, "NN")])
    with pytest.raises(ValueError, match=r"`edits\[0\]` deletes 1 bases, and `flanks` has 1 too few"):
        Editor("ACGTACGT", flanks=("", "")).check([Edit(2, 3, "")])
    assert Editor("ACGTACGT", flanks=("", "")).check([Edit(2, 3, "T")])


def test_with_flanks_the_whole_sequence_may_be_replaced() -> None:
    editor = Editor("ACGT", flanks=("CC", "GGG"))
    assert editor(editor.check([Edit(0, 4, "")])[0]) == "CGGG"


def test_flanks_are_normalised() -> None:
    editor = Editor("ACGT", flanks=("uu", "gn"))
    assert editor.flanks == ("TT", "GN")
    assert editor(Edit(0, 2, "")) == "TTGT"
    assert Editor("ACGT", flanks=["tt", "g"]).flanks == ("TT", "G")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flanks", "error", "message"),
    [
        ("ACGT", ValueError, r"`flanks` must be two strings, \(left, right\), but got 'ACGT'"),
        (("A",), ValueError, r"`flanks` must be two strings, \(left, right\), but got \('A',\)"),
        (("A", "C", "G"), ValueError, "`flanks` must be two strings"),
        (("A", "CXG"), ValueError, r"`flanks\[1\]` has 'X' at position 1"),
        ((None, "A"), TypeError, r"`flanks\[0\]` must be a string of bases"),
        (5, (TypeError, ValueError), "`flanks` must be two strings"),
    ],
)
def test_bad_flanks_are_named(flanks: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Editor("ACGT", flanks=flanks)

"""Edits of a sequence, with or without flanks that keep its length. numpy only.

All positions are 0-based half-open, in coordinates of the sequence that is edited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crossdna_interpret.dna import alphabet

__all__ = ["Edit", "Editor", "edit_to", "substitutions", "window"]


def _integer(name: str, value: object) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer, but got {value!r}.")
    return int(value)


def window(length: int, start: int, end: int | None) -> tuple[int, int]:
    """A part of a sequence, 0-based half-open; to its end if `end` is None.

    Raises:
        TypeError, ValueError: no integers, an empty part, or one that lies outside.
    """
    first, stop = _integer("start", start), _integer("end", length if end is None else end)
    if not 0 <= first < stop <= length:
        raise ValueError(
            f"`start` and `end` must satisfy 0 <= start < end <= {length} (the length), "
            f"but got start={first}, end={stop}."
        )
    return first, stop


@dataclass(frozen=True, slots=True)
class Edit:
    """``seq[start:end]`` replaced by `string`: a substitution, a deletion, an insertion, or several changes at once.

    Attributes:
        start, end: the stretch that is replaced; empty (start = end) for an insertion before position `start`.
        string: what comes in its place, over A, C, G, T, U, N in either case; empty for a deletion.

    Raises:
        ValueError, TypeError: `start` or `end` no integer or out of order, or a string that is not DNA.

    Example:
        >>> Edit(3, 4, "t"), Edit(3, 8, ""), Edit(3, 3, "GATA")
        (Edit(start=3, end=4, string='T'), Edit(start=3, end=8, string=''), Edit(start=3, end=3, string='GATA'))
    """

    start: int
    end: int
    string: str

    def __post_init__(self) -> None:
        start, end = _integer("start", self.start), _integer("end", self.end)
        if not 0 <= start <= end:
            raise ValueError(f"`start` and `end` must satisfy 0 <= start <= end, but got start={start}, end={end}.")
        string = self.string
        if not isinstance(string, str) or string:
            string = alphabet.normalize(string, name="string")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        object.__setattr__(self, "string", string)

    @property
    def change(self) -> int:
        """By how many bases the sequence gets longer; negative where it gets shorter."""
        return len(self.string) - (self.end - self.start)


def edit_to(seq: str, other: str) -> Edit:
    """The shortest edit that makes one sequence the other: what is left between what both begin and end with.

    Raises:
        ValueError, TypeError: one that is not DNA.

    Example:
        >>> edit_to("ACGTACGT", "ACTTCCGT")
        Edit(start=2, end=5, string='TTC')
        >>> edit_to("ACGT", "AGT")
        Edit(start=1, end=2, string='')
    """
    one, new = alphabet.normalize(seq), alphabet.normalize(other, name="other")
    shorter = min(len(one), len(new))
    start = next((at for at in range(shorter) if one[at] != new[at]), shorter)
    rest = next((at for at in range(shorter - start) if one[-1 - at] != new[-1 - at]), shorter - start)
    return Edit(start, len(one) - rest, new[start : len(new) - rest])


def substitutions(sequence: str, start: int, end: int) -> tuple[np.ndarray, np.ndarray, list[Edit]]:
    """Every single-base substitution in a window; at an N, all four bases.

    Returns:
        For each: its position from `start` on, the number of its base in ACGT, and the edit.

    Example:
        >>> [edit.string for edit in substitutions("AC", 0, 1)[2]]
        ['C', 'G', 'T']
    """
    ids = alphabet.encode(sequence)[start:end]
    rows, bases = np.nonzero(ids[:, None] != np.arange(4))
    edits = [
        Edit(start + row, start + row + 1, alphabet.BASES[base])
        for row, base in zip(rows.tolist(), bases.tolist(), strict=True)
    ]
    return rows, bases, edits


def _encoded(string: str) -> np.ndarray:
    """Ids in as little memory as will do: of a long sequence there is one copy for each edit of a batch."""
    return (alphabet.encode(string) if string else np.empty(0)).astype(np.int8)


class Editor:
    """Applies edits to one sequence.

    Where the length changes, the window is kept if `flanks` are given: bases that a deletion leaves missing are pulled
    in from a flank, and bases that an insertion leaves over are pushed out. That happens at the end of the sequence
    that is nearer to the edit, so that few bases move; at the right end if both are as near. If the nearer flank has no
    more bases, the other end moves too. An end whose flank is the empty string does not move.

    Args:
        sequence: normalised, length L.
        flanks: what comes before and after the sequence in the genome or construct, 5' to 3', or None to let the length
            change.

    Raises:
        ValueError, TypeError: `flanks` is not two strings of DNA.

    Example:
        >>> Editor("ACGTACGT")(Edit(1, 3, ""))
        'ATACGT'
        >>> Editor("ACGTACGT", flanks=("TTTT", "GGGG"))(Edit(1, 3, ""))
        'TTATACGT'
    """

    def __init__(self, sequence: str, flanks: tuple[str, str] | None = None) -> None:
        self.sequence = sequence
        self.ids = _encoded(sequence)
        self.flanks: tuple[str, str] | None = None
        if flanks is not None:
            if not isinstance(flanks, (tuple, list)) or len(flanks) != 2:
                raise ValueError(f"`flanks` must be two strings, (left, right), but got {flanks!r}.")
            left, right = (
                alphabet.normalize(flank, name=f"flanks[{side}]") if flank != "" else ""
                for side, flank in enumerate(flanks)
            )
            self.flanks = left, right

    def check(self, edits: Iterable[Edit | tuple[int, int, str]]) -> list[Edit]:
        """The edits, each of which can be applied.

        Raises:
            ValueError, TypeError: one that is no edit, lies outside, leaves nothing, or for which the flanks do not do;
                it is named as in ``edits[3]``.
        """
        if isinstance(edits, (Edit, str)) or not isinstance(edits, Iterable):
            raise TypeError(f"`edits` must be a list of Edit, but got {type(edits).__name__}.")
        return [self._checked(index, edit) for index, edit in enumerate(edits)]

    def _checked(self, index: int, edit: Edit | tuple[int, int, str]) -> Edit:
        name = f"edits[{index}]"
        if not isinstance(edit, Edit):
            if not isinstance(edit, tuple) or len(edit) != 3:
                raise TypeError(f"`{name}` must be an Edit or a tuple (start, end, string), but got {edit!r}.")
            try:
                edit = Edit(*edit)
            except (TypeError, ValueError) as error:
                raise type(error)(f"`{name}`: {error}") from None
        if edit.end > len(self.sequence):
            raise ValueError(f"`{name}` ends at {edit.end}, but the sequence has {len(self.sequence)} bases.")
        if self.flanks is None:
            if len(self.sequence) + edit.change < 1:
                raise ValueError(f"`{name}` leaves no base of the sequence.")
        elif edit.change:
            short = self._moves(edit)[2]
            if short and edit.change < 0:
                raise ValueError(f"`{name}` leaves {-edit.change} bases missing, and `flanks` has {short} too few.")
            if short:
                raise ValueError(
                    f"`{name}` leaves {edit.change} bases over, {short} more than there are to push out at the ends "
                    "that have a flank."
                )
        return edit

    def _moves(self, edit: Edit) -> tuple[int, int, int]:
        """Bases that move at the left end and at the right end, and how many there are too few of."""
        assert self.flanks is not None
        arms = edit.start, len(self.sequence) - edit.end
        # An insertion pushes out what the arm has, a deletion pulls in what the flank has.
        room = [
            (len(flank) if edit.change < 0 else arm) if flank else 0
            for flank, arm in zip(self.flanks, arms, strict=True)
        ]
        first, second = (0, 1) if arms[0] < arms[1] else (1, 0)
        moves = [0, 0]
        moves[first] = min(abs(edit.change), room[first])
        moves[second] = min(abs(edit.change) - moves[first], room[second])
        return moves[0], moves[1], abs(edit.change) - sum(moves)

    def encoded(self, edit: Edit) -> np.ndarray:
        """Ids (L',) int8 of the edited sequence."""
        if edit.change == 0:
            ids = self.ids.copy()
            if edit.string:
                ids[edit.start : edit.end] = _encoded(edit.string)
            return ids
        string = _encoded(edit.string)
        if self.flanks is None:
            return np.concatenate([self.ids[: edit.start], string, self.ids[edit.end :]])
        at_left, at_right, _ = self._moves(edit)
        if edit.change > 0:
            stop = len(self.ids) - at_right
            return np.concatenate([self.ids[at_left : edit.start], string, self.ids[edit.end : stop]])
        left, right = self.flanks
        parts = [left[len(left) - at_left :], right[:at_right]]
        before, after = map(_encoded, parts)
        return np.concatenate([before, self.ids[: edit.start], string, self.ids[edit.end :], after])

    def __call__(self, edit: Edit) -> str:
        """The edited sequence."""
        return alphabet.decode(self.encoded(edit))

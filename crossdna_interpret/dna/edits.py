"""Edits of a sequence, with or without flanks that keep its length. Needs only numpy.

All positions are 0-based half-open, in coordinates of the sequence before the edit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

import numpy as np

from crossdna_interpret.dna import alphabet

__all__ = ["Edit", "Editor", "edit_to", "substitutions", "window"]


_SUBSTITUTION = re.compile(r"([A-Za-z])([0-9]{1,12})([A-Za-z])")  # the old base, its position, the new base


def _integer(name: str, value: object) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer, but got {value!r}.")
    return int(value)


def window(length: int, start: int, end: int | None) -> tuple[int, int]:
    """Check a window (start, end) of a sequence, 0-based half-open. `end` None means the end of the sequence.

    Raises:
        TypeError, ValueError: not integers, an empty window, or a window outside the sequence.
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
        start, end: the replaced span. It is empty (start = end) for an insertion before position `start`.
        string: the replacement, letters A, C, G, T, U, N in upper or lower case. It is empty for a deletion.

    Raises:
        ValueError, TypeError: `start` or `end` is not an integer or out of order, or `string` is not DNA.

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
        """Change in length, in bases. It is negative if the sequence gets shorter."""
        return len(self.string) - (self.end - self.start)


def edit_to(seq: str, other: str) -> Edit:
    """The shortest edit that changes `seq` to `other`: the span between their common prefix and suffix.

    Raises:
        ValueError, TypeError: a sequence is not DNA.

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
    """Every single-base substitution in a window. At an N, these are all four bases.

    Returns:
        For each substitution: position relative to `start`, index of its base in ACGT, and the edit.

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
    """Ids as int8, to save memory: a batch has one copy of the sequence for each edit."""
    return (alphabet.encode(string) if string else np.empty(0)).astype(np.int8)


class Editor:
    """Applies edits to one sequence.

    With `flanks`, an edit that changes the length keeps the window. After a deletion, bases of a flank enter the
    window. After an insertion, surplus bases leave it. This happens at the end that is nearer to the edit, so that few
    bases move. If both ends are equally near, it is the right end. If the nearer flank has too few bases, the other end
    moves too. An end with an empty flank does not move.

    Args:
        sequence: normalised sequence of length L.
        flanks: bases before and after the sequence in the genome or construct, 5' to 3'. With None, the length can
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

    def check(self, edits: Iterable[Edit | tuple[int, int, str] | str]) -> list[Edit]:
        """Check that each edit can be applied.

        A substitution may be text: "T125G" replaces a T at position 125, counted from 0, by G.

        Raises:
            ValueError, TypeError: an entry is not an edit, is outside the sequence, deletes all bases, or needs longer
                flanks. The message names it, such as ``edits[3]``.
        """
        if isinstance(edits, (Edit, str, Mapping, Set)) or not isinstance(edits, Iterable):
            raise TypeError(f"`edits` must be a list, such as ['T125G'], but got {type(edits).__name__}.")
        return [self._checked(index, edit) for index, edit in enumerate(edits)]

    def _checked(self, index: int, edit: Edit | tuple[int, int, str] | str) -> Edit:
        name = f"edits[{index}]"
        if isinstance(edit, str) and (parts := _SUBSTITUTION.fullmatch(edit)):
            edit = self._substitution(name, *parts.groups())
        if not isinstance(edit, Edit):
            if not isinstance(edit, tuple) or len(edit) != 3:
                raise TypeError(
                    f"`{name}` must be an Edit or a tuple (start, end, string), or a substitution such as 'T125G', "
                    f"but got {edit!r}."
                )
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
                raise ValueError(
                    f"`{name}` deletes {-edit.change} bases, and `flanks` has {short} too few to replace them."
                )
            if short:
                raise ValueError(
                    f"`{name}` adds {edit.change} bases, {short} more than can leave the window. Only an end with a "
                    "flank can move."
                )
        return edit

    def _substitution(self, name: str, ref: str, position: str, alt: str) -> Edit:
        start, end = int(position), int(position) + 1
        base, present = alphabet.normalize(ref, name=name), self.sequence[start:end]
        new = alphabet.normalize(alt, name=name)
        if base != present:
            what = f"{present!r} there" if present else f"{len(self.sequence)} bases"
            raise ValueError(
                f"`{name}` replaces {base!r} at position {start}, but the sequence has {what}. Positions are counted "
                "from 0."
            )
        return Edit(start, end, new)

    def _moves(self, edit: Edit) -> tuple[int, int, int]:
        """Number of bases that move at the left end and at the right end, and number of missing bases."""
        assert self.flanks is not None
        arms = edit.start, len(self.sequence) - edit.end
        # After an insertion, bases between the edit and an end can leave. After a deletion, bases of a flank can enter.
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

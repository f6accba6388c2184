"""History of edits with undo and redo. It can be exported as a table or as Python code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.dna.edits import Edit, Editor

__all__ = ["History", "Step", "parsed"]


@dataclass(frozen=True)
class Step:
    """One state of the sequence, and the edit that led to it.

    Attributes:
        label: description of the edit for display.
        edit: the edit, in coordinates of the sequence before it. None if the whole sequence was replaced.
        sequence: the sequence after the edit.
        origin: (L,) position of each base in the sequence before all edits, or -1 for an inserted base.
        name: name of the sequence.
    """

    label: str
    edit: Edit | None
    sequence: str
    origin: np.ndarray
    name: str


class History:
    """The states of a sequence.

    Args:
        name: name of the sequence. It may be empty.
        sequence: the first sequence, normalised.
    """

    def __init__(self, name: str, sequence: str) -> None:
        self._steps: list[Step] = []
        self._at = -1
        self.begin(name, sequence)

    @property
    def present(self) -> Step:
        """The current state."""
        return self._steps[self._at]

    @property
    def steps(self) -> list[Step]:
        """All states from the first to the current one."""
        return self._steps[: self._at + 1]

    @property
    def root(self) -> Step:
        """The state before the first of the current edits."""
        return self._steps[self._root()]

    @property
    def edits(self) -> list[Step]:
        """The edits since `root`."""
        return self._steps[self._root() + 1 : self._at + 1]

    @property
    def can_undo(self) -> bool:
        """Whether there is a state to go back to."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone state."""
        return self._at + 1 < len(self._steps)

    def _root(self) -> int:
        return max(at for at in range(self._at + 1) if self._steps[at].edit is None)

    def begin(self, name: str, sequence: str) -> None:
        """Start with another sequence. Undone states are lost."""
        self._push(Step(f"began with {name or 'a sequence'}", None, sequence, np.arange(len(sequence)), name))

    def edited(self, edit: Edit | tuple[int, int, str]) -> Step | None:
        """The state after an edit, or None if the edit changes nothing.

        Raises:
            ValueError, TypeError: the edit does not apply to the current sequence.
        """
        editor, origin = Editor(self.present.sequence), self.present.origin
        (checked,) = editor.check([edit])
        sequence = editor(checked)
        if sequence == self.present.sequence:
            return None
        # Replaced bases keep the origin of the old bases if the length does not change.
        new = np.full(len(checked.string), -1) if checked.change else origin[checked.start : checked.end]
        origin = np.concatenate([origin[: checked.start], new, origin[checked.end :]])
        return Step(_described(self.present.sequence, checked), checked, sequence, origin, self.present.name)

    def take(self, step: Step) -> None:
        """Go to a state from `edited`. Undone states are lost."""
        self._push(step)

    def _push(self, step: Step) -> None:
        self._steps = [*self.steps, step]
        self._at += 1

    def undo(self) -> None:
        """Go back to the state before, if there is one."""
        self._at = max(0, self._at - 1)

    def redo(self) -> None:
        """Go to the state that was undone last, if there is one."""
        self._at = min(len(self._steps) - 1, self._at + 1)

    def reset(self) -> None:
        """Go back to the state before all current edits. It can be redone."""
        self._at = self._root()

    def to_fasta(self) -> str:
        """The current sequence as FASTA text. The header lists the edits."""
        edits = "; ".join(step.label for step in self.edits)
        header = f">{self.present.name or 'sequence'}{' ' + edits if edits else ''}"
        sequence = self.present.sequence
        return "\n".join([header, *(sequence[at : at + 60] for at in range(0, len(sequence), 60)), ""])

    def to_tsv(self, prediction: Callable[[str], float | None]) -> str:
        """A table: step, description, start, end, ref, alt, length, prediction (if known)."""
        rows = ["step\tdone\tstart\tend\tref\talt\tlength\tprediction"]
        for number, step in enumerate(self.steps):
            where = ["", "", "", ""]
            if step.edit is not None:
                before, edit = self._steps[number - 1].sequence, step.edit
                where = [str(edit.start), str(edit.end), before[edit.start : edit.end], edit.string]
            known = prediction(step.sequence)
            score = "" if known is None else f"{known:.6g}"
            rows.append("\t".join([str(number), step.label, *where, str(len(step.sequence)), score]))
        return "\n".join([*rows, ""])

    def to_python(self, model: str | None, name: str, target: int) -> str:
        """Python code that creates the current sequence and predicts it.

        Args:
            model: name or path of the model for `load_model`, "" for the bundled model, or None if the model exists
                only in this process. The code then has a name without a value in its place.
            name: name of the model.
            target: index of the target.
        """
        lines = ["import crossdna_interpret as cdi", "", f'sequence = "{self.root.sequence}"']
        if self.edits:
            lines += ["for start, end, string in ["]
            for step in self.edits:
                assert step.edit is not None
                lines.append(f'    ({step.edit.start}, {step.edit.end}, "{step.edit.string}"),  # {step.label}')
            lines += ["]:", "    sequence = sequence[:start] + string + sequence[end:]"]
        if model is None:
            lines += ["", f"model = your_model  # put the model {name} here: this code cannot load it"]
        else:
            lines += ["", f"model = cdi.load_model({repr(model) if model else ''})  # {name}"]
        lines += [f"cdi.predict(sequence, model)[0, {target}]", ""]
        return "\n".join(lines)


def parsed(text: str) -> tuple[str, str]:
    """Name and bases from FASTA text with one record, or from bases on any number of lines.

    Raises:
        ValueError: empty text, several records, bases before a header, or a character that is not a base.
        TypeError: not a text.
    """
    if not isinstance(text, str):
        raise TypeError(f"`seq` must be one sequence, or the text of one FASTA record, but got {type(text).__name__}.")
    lines = [line.strip() for line in text.strip().splitlines()]
    headers = [at for at, line in enumerate(lines) if line.startswith(">")]
    if len(headers) > 1:
        raise ValueError(f"Expected one FASTA record, but got {len(headers)}. Paste one at a time.")
    if headers and headers[0] != 0:
        raise ValueError("Expected a FASTA record to begin with its header, but there are bases before '>'.")
    name = (lines[0][1:].split() or [""])[0] if headers else ""
    bases = "".join("".join(line.split()) for line in lines[len(headers) :])
    if not bases:
        raise ValueError("Expected a sequence of A, C, G, T and N, but got nothing.")
    return name, alphabet.normalize(bases, name="sequence")


def _described(sequence: str, edit: Edit) -> str:
    ref = sequence[edit.start : edit.end]
    if not ref:
        return f"inserted {_short(edit.string)} at {edit.start}"
    if not edit.string:
        what = ref if len(ref) == 1 else f"{_short(ref)} ({len(ref)} bp)"
        return f"deleted {what} at {edit.start}"
    if len(ref) == len(edit.string) == 1:
        return f"{ref}{edit.start}{edit.string}"
    return f"{_short(ref)} to {_short(edit.string)} at {edit.start}"


def _short(bases: str) -> str:
    return bases if len(bases) <= 12 else f"{bases[:9]}…"

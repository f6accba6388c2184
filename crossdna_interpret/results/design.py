"""The result of a sequence design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Design"]


@dataclass(frozen=True, eq=False, repr=False)
class Design(Shown):
    """A sequence that was changed edit by edit towards a goal.

    Attributes:
        sequences: S + 1 sequences: the start, and the sequence after each of S edits.
        edits: S edits, each in coordinates of the sequence before it.
        labels: description of each edit, such as "A12G" (position 12, counted from 0) or "CRX at 40, - strand".
        target: the predicted target.
        predictions: (S + 1,) prediction for each of `sequences`.
        goal: "increase", "decrease" or the target value.
        reason: reason why the search stopped.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> path = cdi.design("ACGTTGCAACGTTGCAACGT", max_edits=1)
        >>> path.to_dataframe().columns.tolist()
        ['step', 'edit', 'start', 'end', 'ref', 'alt', 'prediction', 'change', 'sequence']
    """

    sequences: tuple[str, ...]
    edits: tuple[Edit, ...]
    labels: tuple[str, ...]
    target: str
    predictions: np.ndarray
    goal: str | float
    reason: str
    certificate: Certificate

    def __post_init__(self) -> None:
        if not len(self.sequences) == len(self.edits) + 1 == len(self.labels) + 1:
            raise ValueError(f"`edits` must be one fewer than `sequences`, but got {len(self.edits)}.")
        freeze(self, "predictions", (len(self.sequences),))

    @property
    def start(self) -> str:
        """The first sequence."""
        return self.sequences[0]

    @property
    def sequence(self) -> str:
        """The final sequence."""
        return self.sequences[-1]

    @property
    def change(self) -> float:
        """Total change in prediction, in the units of the target."""
        return float(self.predictions[-1] - self.predictions[0])

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each step, from 0: edit, start, end, ref, alt, prediction, change (by this edit), sequence."""
        import pandas as pd

        before = [self.sequences[at][edit.start : edit.end] for at, edit in enumerate(self.edits)]
        return pd.DataFrame(
            {
                "step": np.arange(len(self.sequences)),
                "edit": ["", *self.labels],
                "start": pd.array([None, *(edit.start for edit in self.edits)], dtype="Int64"),
                "end": pd.array([None, *(edit.end for edit in self.edits)], dtype="Int64"),
                "ref": ["", *before],
                "alt": ["", *(edit.string for edit in self.edits)],
                "prediction": self.predictions,
                "change": np.diff(self.predictions, prepend=self.predictions[0]),
                "sequence": list(self.sequences),
            }
        )

    def to_xarray(self) -> xr.Dataset:
        """`prediction` along "step", with edits and sequences as coordinates, and the certificate."""
        import xarray as xr

        return xr.Dataset(
            {"prediction": (("step",), self.predictions)},
            coords={"edit": ("step", ["", *self.labels]), "sequence": ("step", list(self.sequences))},
            attrs={
                "target": self.target,
                "goal": self.goal,
                "reason": self.reason,
                "certificate": self.certificate.to_json(),
            },
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """The prediction after each edit. See `plot.design_path`."""
        return draw(self, ax=ax, **options)

"""Results of edits and scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossdna_interpret.dna.edits import Edit
from crossdna_interpret.results.averaged import MultiTarget
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown
from crossdna_interpret.results.tables import target_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["EditScan", "EditScores"]


@dataclass(frozen=True, eq=False, repr=False)
class EditScores(MultiTarget):
    """Predictions for a list of edits, in the order of the list.

    Attributes:
        sequence: sequence before the edits, length L.
        edits: n edits.
        targets: the model's T targets.
        target: the target for `delta`.
        reference: (T,) prediction for the sequence itself.
        predictions: (n, T) prediction for each edited sequence.
        lengths: (n,) lengths of the scored sequences. They are all L if flanks kept the window.
        flanks: bases beside the sequence that keep the window, or None if the length could change.
        certificate: how it was computed.
        orientations: if both orientations were averaged, the results of the sequence and of its reverse complement,
            both in coordinates of `sequence`. Otherwise None.

    Example:
        >>> import crossdna_interpret as cdi
        >>> scores = cdi.score_edits("ACGTACGTAC", [cdi.Edit(2, 3, "T"), cdi.Edit(4, 6, "")])
        >>> scores.delta.shape, scores.window
        ((2,), 'changed')
    """

    sequence: str
    edits: tuple[Edit, ...]
    targets: tuple[str, ...]
    target: str
    reference: np.ndarray
    predictions: np.ndarray
    lengths: np.ndarray
    flanks: tuple[str, str] | None
    certificate: Certificate
    orientations: tuple[EditScores, EditScores] | None = None

    def __post_init__(self) -> None:
        if self.target not in self.targets:
            raise ValueError(f"`target` must be one of {self.targets}, but got {self.target!r}.")
        freeze(self, "reference", (len(self.targets),))
        freeze(self, "predictions", (len(self.edits), len(self.targets)))
        freeze(self, "lengths", (len(self.edits),))

    @property
    def window(self) -> Literal["kept", "changed"]:
        """ "kept" if every scored sequence has the original length, otherwise "changed"."""
        return "kept" if bool((self.lengths == len(self.sequence)).all()) else "changed"

    @property
    def delta(self) -> np.ndarray:
        """(n,) predictions - reference for `target`."""
        index = self.targets.index(self.target)
        return self.predictions[:, index] - self.reference[index]

    def to_dataframe(self, targets: Sequence[str] | str | None = None) -> pd.DataFrame:
        """One row for each edit and target: start, end, ref, alt, length, target, prediction, delta.

        Args:
            targets: names of the targets to include. The default is all.

        Raises:
            ValueError: an unknown target.
            MemoryError: the table does not fit in memory.
        """
        columns = {
            "start": [edit.start for edit in self.edits],
            "end": [edit.end for edit in self.edits],
            "ref": [self.sequence[edit.start : edit.end] for edit in self.edits],
            "alt": [edit.string for edit in self.edits],
            "length": self.lengths,
        }
        return target_table(columns, self.targets, targets, self.predictions, self.reference)

    def to_xarray(self) -> xr.Dataset:
        """`predictions` (edit, target) and `reference` (target), with coordinates and the certificate."""
        import xarray as xr

        return xr.Dataset(
            {
                "predictions": (("edit", "target"), self.predictions),
                "reference": (("target",), self.reference),
            },
            coords={
                "target": list(self.targets),
                "start": ("edit", [edit.start for edit in self.edits]),
                "end": ("edit", [edit.end for edit in self.edits]),
                "alt": ("edit", [edit.string for edit in self.edits]),
                "length": ("edit", self.lengths),
            },
            attrs={"sequence": self.sequence, "certificate": self.certificate.to_json()},
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """The change that each edit causes, at its position. See `plot.edit_effects`."""
        return draw(self, ax=ax, **options)


@dataclass(frozen=True, eq=False, repr=False)
class EditScan(Shown):
    """One kind of edit, at successive positions of a sequence.

    Attributes:
        scores: the edits and their predictions.
        kind: "deletion" of `width` bases, or "insertion" of `insert`.
        width: number of bases that are deleted or inserted.
        insert: the inserted string. It is empty for a deletion.

    Example:
        >>> import crossdna_interpret as cdi
        >>> scan = cdi.deletion_scan("ACGTACGTAC", width=3)
        >>> scan.kind, scan.positions.tolist()
        ('deletion', [0, 1, 2, 3, 4, 5, 6, 7])
    """

    scores: EditScores
    kind: Literal["deletion", "insertion"]
    width: int
    insert: str = ""

    @property
    def sequence(self) -> str:
        """The sequence before the edits."""
        return self.scores.sequence

    @property
    def target(self) -> str:
        """The target for `delta`."""
        return self.scores.target

    @property
    def targets(self) -> tuple[str, ...]:
        """The model's T targets."""
        return self.scores.targets

    @property
    def certificate(self) -> Certificate:
        """How it was computed."""
        return self.scores.certificate

    @property
    def reference(self) -> np.ndarray:
        """(T,) prediction for the sequence itself."""
        return self.scores.reference

    @property
    def predictions(self) -> np.ndarray:
        """(n, T) prediction for each position."""
        return self.scores.predictions

    @property
    def window(self) -> Literal["kept", "changed"]:
        """ "kept" if flanks kept the length, otherwise "changed"."""
        return self.scores.window

    @property
    def positions(self) -> np.ndarray:
        """(n,) first deleted base, or the base after the insertion."""
        return np.array([edit.start for edit in self.scores.edits])

    @property
    def delta(self) -> np.ndarray:
        """(n,) predictions - reference for `target`."""
        return self.scores.delta

    def with_target(self, target: str) -> EditScan:
        """The same predictions with another selected target."""
        return dataclasses.replace(self, scores=self.scores.with_target(target))

    def to_dataframe(self, targets: Sequence[str] | str | None = None) -> pd.DataFrame:
        """One row for each position and target. Columns and `targets` as in `EditScores.to_dataframe`."""
        return self.scores.to_dataframe(targets)

    def to_xarray(self) -> xr.Dataset:
        """As `EditScores.to_xarray`, with the kind of edit."""
        return self.scores.to_xarray().assign_attrs(kind=self.kind, width=self.width, insert=self.insert)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """The change at each position. See `plot.edit_effects`."""
        return draw(self, ax=ax, **options)

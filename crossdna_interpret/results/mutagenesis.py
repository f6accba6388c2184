"""In-silico saturation mutagenesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.results.averaged import MultiTarget
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.tables import target_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Mutagenesis"]


@dataclass(frozen=True, eq=False, repr=False)
class Mutagenesis(MultiTarget):
    """In-silico mutagenesis: the prediction for every single-base substitution in a window.

    Attributes:
        sequence: the full sequence, length L.
        start: first position of the window of L' positions.
        targets: the model's T targets.
        target: the target for `delta` and `importance`.
        reference: (T,) prediction for the sequence itself.
        predictions: (L', 4, T) prediction with base b at position start + i. The sequence's own base repeats
            `reference`. At an N, all four bases are substitutions.
        certificate: how it was computed.
        orientations: if both orientations were averaged, the results of the sequence and of its reverse complement,
            both in coordinates of `sequence`. Otherwise None.

    Example:
        >>> import crossdna_interpret as cdi
        >>> r = cdi.ism("ACGTACGTAC", start=2, end=5)
        >>> r.predictions.shape, r.delta.shape, r.importance.shape
        ((3, 4, 1), (3, 4), (3,))
    """

    sequence: str
    start: int
    targets: tuple[str, ...]
    target: str
    reference: np.ndarray
    predictions: np.ndarray
    certificate: Certificate
    orientations: tuple[Mutagenesis, Mutagenesis] | None = None

    def __post_init__(self) -> None:
        if self.target not in self.targets:
            raise ValueError(f"`target` must be one of {self.targets}, but got {self.target!r}.")
        width = len(self.predictions)
        if width < 1 or self.start < 0 or self.start + width > len(self.sequence):
            raise ValueError(f"`predictions` cover {self.start} to {self.start + width} of {len(self.sequence)} bases.")
        freeze(self, "reference", (len(self.targets),))
        freeze(self, "predictions", (width, 4, len(self.targets)))

    def __len__(self) -> int:
        """Number of positions in the window."""
        return len(self.predictions)

    @property
    def end(self) -> int:
        """The position after the window."""
        return self.start + len(self.predictions)

    @property
    def delta(self) -> np.ndarray:
        """(L', 4) predictions - reference for `target`, order ACGT. It is 0 at the sequence's own base."""
        index = self.targets.index(self.target)
        return self.predictions[..., index] - self.reference[index]

    @property
    def importance(self) -> np.ndarray:
        """(L',) minus the mean delta of the three substitutions (four at an N).

        It is positive if the base increases the prediction.
        """
        ids = alphabet.encode(self.sequence)[self.start : self.end]
        return -self.delta.sum(axis=1) / np.where(ids == alphabet.N_ID, 4, 3).astype(self.predictions.dtype)

    def to_dataframe(self, targets: Sequence[str] | str | None = None) -> pd.DataFrame:
        """One row for each substitution and target: position, ref, alt, target, prediction, delta.

        Args:
            targets: names of the targets to include. The default is all.

        Raises:
            ValueError: an unknown target.
            MemoryError: the table does not fit in memory.
        """
        ids = alphabet.encode(self.sequence)[self.start : self.end]
        row, base = np.nonzero(ids[:, None] != np.arange(4))
        letters = np.array(list(alphabet.ALPHABET))
        columns = {"position": row + self.start, "ref": letters[ids[row]], "alt": letters[base]}
        return target_table(columns, self.targets, targets, self.predictions[row, base], self.reference)

    def to_xarray(self) -> xr.Dataset:
        """`predictions` (position, base, target) and `reference` (target), with coordinates and the certificate."""
        import xarray as xr

        return xr.Dataset(
            {
                "predictions": (("position", "base", "target"), self.predictions),
                "reference": (("target",), self.reference),
            },
            coords={
                "position": np.arange(self.start, self.end),
                "base": list(alphabet.BASES),
                "target": list(self.targets),
                "ref": ("position", list(self.sequence[self.start : self.end])),
            },
            attrs={"sequence": self.sequence, "certificate": self.certificate.to_json()},
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Heat map of `delta`. See `plot.mutagenesis_map`."""
        return draw(self, ax=ax, **options)

"""Results of the comparison of both orientations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Orientation"]


@dataclass(frozen=True, eq=False, repr=False)
class Orientation(Shown):
    """Predictions and attributions of N sequences in both orientations, and with other arbitrary choices in the model.

    Attributes:
        sequences: N sequences.
        target: the predicted target.
        forward: (N,) prediction for each sequence.
        reverse: (N,) prediction for its reverse complement.
        attribution_r: (N,) correlation of the attributions between both orientations. NaN if one of them is constant.
        attribution_worst: (N,) largest difference between them at a base.
        exchanged: (N,) prediction if each branch reads the other strand, or None if the model has no branches.
        shifts: shifts of the block boundaries in positions, ascending. Empty if no sequence is longer than a block.
        shifted: (N, len(shifts)) predictions with shifted boundaries.
        table: one row for each comparison: what was compared, the statistic, its value, a 95 % interval and the number
            of sequences. NaN if there are too few.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = cdi.orientation(["ACGTTGCAACGTTGCA", "TTGACCTAATCCGGTA"])
        >>> result.forward.shape, result.reverse.shape
        ((2,), (2,))
    """

    sequences: tuple[str, ...]
    target: str
    forward: np.ndarray
    reverse: np.ndarray
    attribution_r: np.ndarray
    attribution_worst: np.ndarray
    exchanged: np.ndarray | None
    shifts: tuple[int, ...]
    shifted: np.ndarray
    table: pd.DataFrame
    certificate: Certificate

    def __post_init__(self) -> None:
        count = len(self.sequences)
        for name in ("forward", "reverse", "attribution_worst"):
            freeze(self, name, (count,))
        freeze(self, "shifted", (count, len(self.shifts)))
        if self.exchanged is not None:
            freeze(self, "exchanged", (count,))

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each sequence: its predictions and the agreement of its attributions."""
        import pandas as pd

        columns: dict[str, Any] = {
            "sequence": list(self.sequences),
            "forward": self.forward,
            "reverse": self.reverse,
            "gap": self.reverse - self.forward,
            "attribution_r": self.attribution_r,
            "attribution_worst": self.attribution_worst,
        }
        if self.exchanged is not None:
            columns["branches_exchanged"] = self.exchanged
        columns |= {f"blocks_shifted_{shift}": self.shifted[:, at] for at, shift in enumerate(self.shifts)}
        return pd.DataFrame(columns)

    def to_xarray(self) -> xr.Dataset:
        """The rows of `to_dataframe`, with the certificate."""
        result = self.to_dataframe().rename_axis("row").to_xarray()
        result.attrs |= {"target": self.target, "certificate": self.certificate.to_json()}
        return result

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Scatter plot of both orientations. See `plot.orientation_scatter`."""
        return draw(self, ax=ax, **options)

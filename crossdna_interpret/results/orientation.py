"""Results of comparing both orientations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Orientation"]


@dataclass(frozen=True, eq=False)
class Orientation:
    """Predictions and attributions of N sequences in both orientations, and with parts of the model exchanged.

    Attributes:
        sequences: N of them.
        target: whose predictions they are.
        forward: (N,) prediction for each sequence as given.
        reverse: (N,) for its reverse complement.
        attribution_r: (N,) correlation of each position's attribution between both orientations; NaN where one is
            constant.
        attribution_worst: (N,) largest difference between them at a base.
        exchanged: (N,) prediction with each branch reading the strand that is the other's, or None if the model has no
            branches.
        shifts: by how many positions block boundaries were moved, ascending; empty if no sequence is longer than a
            block.
        shifted: (N, len(shifts)) predictions with boundaries moved.
        table: one row for each question: what was compared, the statistic, its value, a 95 % interval and the number of
            sequences; NaN where there are too few.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> found = cdi.orientation(["ACGTTGCAACGTTGCA", "TTGACCTAATCCGGTA"])
        >>> found.forward.shape, found.reverse.shape
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
        """One row for each sequence: its predictions, and how its attributions agree."""
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
        """Both orientations against each other; see `plot.orientation_scatter`."""
        return draw(self, ax=ax, **options)

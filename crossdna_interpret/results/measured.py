"""Results of comparisons with measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossdna_interpret.results.certificate import Certificate
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["MeasuredComparison"]


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredComparison(Shown):
    """Predicted and measured effects of edits.

    Attributes:
        sequence: the sequence before the edits.
        target: the predicted target.
        table: a row for each edit that was both predicted and measured: start, end, ref, alt, predicted, measured.
        r: Pearson correlation, with `low` and `high` ends of its 95 % interval. NaN below four rows.
        rho: Spearman correlation.
        same_sign: fraction of the edits with the measured sign, without measured effects of 0. A predicted 0 has
            the wrong sign.
        left_out: number of rows of the measured table without a prediction.
        certificate: how the predictions were computed.

    Example:
        >>> import pandas as pd, crossdna_interpret as cdi
        >>> table = pd.DataFrame({"position": [1, 2, 3, 5], "alt": list("AATG"), "effect": [0.1, -1.0, 0.3, -0.2]})
        >>> result = cdi.compare_with_measured(cdi.ism("ACGGACTT"), table)
        >>> len(result), result.left_out, result.low <= result.r <= result.high
        (4, 0, True)
    """

    sequence: str
    target: str
    table: pd.DataFrame
    r: float
    low: float
    high: float
    rho: float
    same_sign: float
    left_out: int
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return (
            f"r = {self.r:.2f} ({self.low:.2f} to {self.high:.2f}), rho = {self.rho:.2f}, "
            f"same sign {self.same_sign:.0%}, n = {len(self)}"
        ) + (f" ({self.left_out} rows left out)" if self.left_out else "")

    @property
    def by_position(self) -> pd.DataFrame:
        """Mean effects of the edits that touch each position: position, n, predicted, measured."""
        import pandas as pd

        places: list[int] = []
        rows: list[int] = []
        for at, (start, end) in enumerate(zip(self.table["start"], self.table["end"], strict=True)):
            places += range(start, max(end, start + 1))
            rows += [at] * (len(places) - len(rows))
        spread = self.table.iloc[rows][["predicted", "measured"]].assign(position=places)
        grouped = spread.groupby("position")
        return pd.concat([grouped.size().rename("n"), grouped.mean()], axis=1).reset_index()

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each edit: start, end, ref, alt, predicted, measured."""
        return self.table.copy()

    def to_xarray(self) -> xr.Dataset:
        """The columns of `to_dataframe` along "edit", with the correlation and the certificate."""
        result = self.table.rename_axis("edit").to_xarray()
        names = ("sequence", "target", "r", "low", "high", "rho", "same_sign")
        result.attrs |= {name: getattr(self, name) for name in names}
        result.attrs["certificate"] = self.certificate.to_json()
        return result

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Measured against predicted effects. See `plot.measured_scatter`."""
        return draw(self, ax=ax, **options)

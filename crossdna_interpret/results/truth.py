"""Predicted beside measured changes between members of families."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossdna_interpret.results.certificate import Certificate
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["By", "TruthReport"]

By = Literal["size", "predicted", "kind", "motif"]
_SIZES = (0.0, 0.25, 0.5, 1.0, 2.0, np.inf)  # limits of |measured change|, as multiples of their root mean square
_COUNTS = ("sequences", "changes", "groups")
_MEANING = {
    "sequences": "measured sequences",
    "r_scores": "r of the sequences",
    "changes": "changes, between sequences of a family that differ by a few bases",
    "groups": "independent groups of families",
    "r_changes": "r of the changes",
    "r_low": "low end of its 95 % interval",
    "r_high": "high end",
    "slope": "measured change for each predicted unit",
    "r_large": "r of the changes above their root mean square",
    "same_sign": "fraction of these with the predicted sign",
    "coverage": "fraction of measured changes inside their {level:.0%} intervals",
}


@dataclass(frozen=True, eq=False, repr=False)
class TruthReport(Shown):
    """Predicted beside measured changes, between sequences of a family that differ by a few bases.

    A change has no natural direction: which of two sequences is the mutant is the order of the table. So each change
    counts in both directions, and no number depends on the order. r is then the sum of products of predicted and
    measured changes, divided by the roots of their sums of squares.

    Attributes:
        target: the predicted target.
        measured: name of the column with the measurements.
        sequences: N measured sequences.
        scores: a row for each sequence: family, measured, predicted.
        table: a row for each change, from one sequence to another one of its family:

            - family, reference, mutant: name of the family, and indices of both sequences.
            - changes, positions, kind: number of changed bases, their positions (0-based, separated by commas), and
              "transition", "transversion" or "2 changes" and so on.
            - measured, predicted: the change, mutant minus reference.
            - spread: standard deviation of the predicted change over variants of the model.
            - low, high: interval of the measured change, found from the errors in other families.
            - motifs: names of motifs with a match, in either sequence, that covers a changed base. Separated by commas.
            - group: number of its group. Families that share a change are one group.
        level: level of the intervals.
        errors: parameters of the errors, from all changes, for `mutation_intervals`.
        certificate: how it was computed.

    Example:
        >>> import pandas as pd, crossdna_interpret as cdi
        >>> random = np.random.default_rng(0)
        >>> rows = []
        >>> for family in range(30):
        ...     start = "".join(random.choice(list("ACGT"), 20))
        ...     rows += [(family, start[:at] + "A" + start[at + 1 :], random.normal()) for at in range(6)]
        >>> table = pd.DataFrame(rows, columns=["family", "sequence", "activity"])
        >>> report = cdi.truth_report(table, measured="activity", draws=0)
        >>> report.by("kind").columns.tolist()
        ['kind', 'n', 'r', 'same_sign', 'mean_error', 'coverage']
    """

    target: str
    measured: str
    sequences: tuple[str, ...]
    scores: pd.DataFrame
    table: pd.DataFrame
    level: float
    errors: dict[str, Any]
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.table)

    @property
    def coverage(self) -> float:
        """Fraction of the measured changes that are inside their intervals."""
        inside = (self.table["measured"] >= self.table["low"]) & (self.table["measured"] <= self.table["high"])
        return float(inside.mean())

    def summary(self) -> dict[str, float]:
        """Main numbers: r of the scores, and r, slope, signs and interval coverage of the changes.

        `r_low` and `r_high` are the ends of the 95 % interval of `r_changes`, from a jackknife over `groups` of related
        families. `r_large` and `same_sign` are of changes above their root mean square.
        `slope` is that of measured on predicted changes: 1 is ideal, and below 1 predictions are too large.
        """
        x, y = self.table["predicted"].to_numpy(), self.table["measured"].to_numpy()
        large = np.abs(y) > _root_mean_square(y)
        low, high = _interval_of_r(x, y, self.table["group"].to_numpy())
        return {
            "sequences": len(self.sequences),
            "r_scores": _r(self.scores["predicted"].to_numpy(), self.scores["measured"].to_numpy()),
            "changes": len(self),
            "groups": int(self.table["group"].nunique()),
            "r_changes": _r_of_changes(x, y),
            "r_low": low,
            "r_high": high,
            "slope": float((x * y).sum() / (x * x).sum()) if (x != 0).any() else float("nan"),
            "r_large": _r_of_changes(x[large], y[large]),
            "same_sign": _same_sign(x[large], y[large]),
            "coverage": self.coverage,
        }

    def __str__(self) -> str:
        """A line for each of the main numbers, with what it is."""
        lines = [f"{self.target}, predicted beside measured {self.measured}"]
        for name, value in self.summary().items():
            number = f"{value:,.0f}" if name in _COUNTS else f"{value:.3f}"
            lines.append(f"{name:>10}  {number:>7}  {_MEANING[name].format(level=self.level)}")
        return "\n".join(lines)

    def by(self, what: By, *, min_changes: int = 20) -> pd.DataFrame:
        """Agreement in groups of changes: n, r, same_sign, mean absolute error, coverage of the intervals.

        Args:
            what: "size" of the measured change, size of the "predicted" change, "kind" of mutation, or "motif" at a
                changed base. An interval holds what it says for changes of one predicted size. Of changes that were
                measured to be large it holds fewer, as these are the ones that were predicted too small.
            min_changes: groups with fewer changes are left out.

        Raises:
            ValueError: another `what`.
        """
        import pandas as pd

        table = self.table
        if what in ("size", "predicted"):
            change = table["measured" if what == "size" else "predicted"]
            unit = _root_mean_square(change.to_numpy()) or 1.0
            limits = [unit * limit for limit in _SIZES]
            names = [
                f"{low:.2g} to {high:.2g}" if np.isfinite(high) else f"above {low:.2g}"
                for low, high in itertools.pairwise(limits)
            ]
            label = pd.cut(change.abs(), limits, labels=names, include_lowest=True)
        elif what == "kind":
            label = table["kind"]
        elif what == "motif":
            label = table["motifs"].replace("", "no motif").str.split(", ")
            table = table.assign(motif=label).explode("motif")
            label = table["motif"]
        else:
            raise ValueError(f"`what` must be 'size', 'predicted', 'kind' or 'motif', but got {what!r}.")
        rows = []
        for name, group in table.groupby(label, sort=what != "motif", observed=True):
            if len(group) < min_changes:
                continue
            x, y = group["predicted"].to_numpy(), group["measured"].to_numpy()
            inside = (y >= group["low"].to_numpy()) & (y <= group["high"].to_numpy())
            row = {
                what: name, "n": len(group), "r": _r_of_changes(x, y), "same_sign": _same_sign(x, y),
                "mean_error": float(np.abs(x - y).mean()), "coverage": float(inside.mean()),
            }  # fmt: skip
            rows.append(row)
        result = pd.DataFrame(rows, columns=[what, "n", "r", "same_sign", "mean_error", "coverage"])
        return result.sort_values("n", ascending=False, ignore_index=True) if what == "motif" else result

    def calibration(self, bins: int = 10) -> pd.DataFrame:
        """Mean measured change in bins of the predicted change, with about equal numbers of changes.

        Each change counts in both directions. Equal predictions are in one bin, so there may be fewer bins.

        Columns: predicted, measured, error (standard error of the mean), n. Changes of a family share sequences, so the
        error is that of a jackknife over groups of related families. It is NaN for a bin with a single group.

        Raises:
            ValueError: `bins` is below 1.
        """
        import pandas as pd

        _require_count("bins", bins, 1)
        predicted, measured = (
            np.concatenate([change, -change]) for change in (self.table[name] for name in ("predicted", "measured"))
        )
        group = np.tile(self.table["group"].to_numpy(), 2)
        _, same, counts = np.unique(predicted, return_inverse=True, return_counts=True)
        middle = (np.cumsum(counts) - counts / 2)[same]
        of_bin = np.floor(middle / len(predicted) * bins)
        rows = []
        for number in np.unique(of_bin):
            part = of_bin == number
            row = {"predicted": float(predicted[part].mean()), "measured": float(measured[part].mean())}
            rows.append({**row, "error": _jackknife(measured[part], group[part]), "n": int(part.sum())})
        return pd.DataFrame(rows)

    def worst(self, count: int = 6) -> pd.DataFrame:
        """Rows of `table` with the largest errors relative to their intervals, at most one for each family."""
        _require_count("count", count, 0)
        half_width = (self.table["high"] - self.table["low"]) / 2
        share = (self.table["measured"] - self.table["predicted"]).abs() / half_width
        order = share.sort_values(ascending=False, kind="stable").index
        return self.table.loc[order].drop_duplicates("family").head(count)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each change, as in `table`, with both sequences."""
        own = np.array(self.sequences, dtype=object)
        reference, mutant = own[self.table["reference"]], own[self.table["mutant"]]
        return self.table.assign(reference_sequence=reference, mutant_sequence=mutant)

    def to_xarray(self) -> xr.Dataset:
        """The columns of `table` along "change", with the summary and the certificate."""
        result = self.table.rename_axis("change").to_xarray()
        result.attrs |= {"target": self.target, "measured": self.measured, **self.summary()}
        result.attrs["certificate"] = self.certificate.to_json()
        return result

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Measured against predicted changes, with their calibration. See `plot.change_calibration`."""
        return draw(self, ax=ax, **options)


def _require_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, but got {value!r}.")


def _jackknife(values: np.ndarray, group: np.ndarray) -> float:
    """Standard error of the mean of (N,) values, from the means without each group. NaN for a single group."""
    _, of = np.unique(group, return_inverse=True)
    totals, counts = np.bincount(of, weights=values), np.bincount(of)
    if len(counts) < 2:
        return float("nan")
    without = (totals.sum() - totals) / (counts.sum() - counts)
    return float(np.sqrt((len(counts) - 1) * without.var()))


def _interval_of_r(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """95 % interval of `_r_of_changes`, from its values without each group, on Fisher's scale. NaN for one group."""
    from scipy.special import stdtrit  # imported already, by the fit of the errors

    _, of = np.unique(group, return_inverse=True)
    sums = [np.bincount(of, weights=each) for each in (x * y, x * x, y * y)]
    xy, xx, yy = (each.sum() - each for each in sums)
    if len(xy) < 2 or not (xx * yy > 0).all():
        return float("nan"), float("nan")
    z = np.arctanh(np.clip(xy / np.sqrt(xx * yy), -1 + 1e-12, 1 - 1e-12))
    half_width = stdtrit(len(z) - 1, 0.975) * np.sqrt((len(z) - 1) * z.var())
    middle = np.arctanh(np.clip(_r_of_changes(x, y), -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(middle - half_width)), float(np.tanh(middle + half_width))


def _same_sign(x: np.ndarray, y: np.ndarray) -> float:
    """Fraction of the measured changes, without zeros, with the predicted sign. A predicted 0 has the wrong one."""
    signed = y != 0
    return float((np.sign(x) == np.sign(y))[signed].mean()) if signed.any() else float("nan")


def _root_mean_square(changes: np.ndarray) -> float:
    return float(np.sqrt((changes**2).mean()))


def _r_of_changes(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of changes (N,), each in both directions. NaN where all are zero, or for fewer than three."""
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if len(x) > 2 and scale > 0 else float("nan")


def _r(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")

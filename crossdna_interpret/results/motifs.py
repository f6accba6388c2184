"""Seqlets and motif sites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from crossdna_interpret.results.certificate import Certificate
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["MotifSites", "Seqlets"]

Own = TypeVar("Own", bound="_Stretches")


@dataclass(frozen=True, eq=False, repr=False)
class _Stretches(Shown):
    """Spans of sequences, as rows of a table.

    `table` is never changed. `to_dataframe` returns a copy.
    """

    sequences: tuple[str, ...]
    target: str
    table: pd.DataFrame
    certificate: Certificate
    importances: tuple[np.ndarray, ...] | None

    _COLUMNS: ClassVar[tuple[str, ...]] = ("example", "start", "end")

    def __post_init__(self) -> None:
        missing = [name for name in self._COLUMNS if name not in self.table.columns]
        if missing:
            raise ValueError(f"`table` lacks the columns {missing}.")
        table = self.table.reset_index(drop=True)
        lengths = np.array([len(sequence) for sequence in self.sequences])
        examples, starts, ends = (table[name].to_numpy() for name in ("example", "start", "end"))
        if len(table):
            if examples.min() < 0 or examples.max() >= len(lengths):
                raise ValueError(f"`table` has examples {examples.min()} to {examples.max()} of {len(lengths)}.")
            outside = np.flatnonzero((starts < 0) | (starts >= ends) | (ends > lengths[examples.astype(int)]))
            if len(outside):
                row = int(outside[0])
                raise ValueError(
                    f"`table` row {row}: {starts[row]} to {ends[row]} is not a span of a sequence of "
                    f"{lengths[int(examples[row])]} bases."
                )
        object.__setattr__(self, "table", table)
        if self.importances is not None:
            object.__setattr__(self, "importances", tuple(map(self._read_only, self.sequences, self.importances)))

    @staticmethod
    def _read_only(sequence: str, values: np.ndarray) -> np.ndarray:
        if values.shape != (len(sequence),):
            raise ValueError(f"`importances` must be of shape ({len(sequence)},), but got {values.shape}.")
        view = values.view()
        view.flags.writeable = False
        return view

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Any]:
        """The rows of `table`, as named tuples."""
        rows: Any = self.table
        return iter(rows.itertuples(index=False))

    def of(self: Own, example: int) -> Own:
        """The rows of one sequence, given by its index. The result has only this sequence."""
        if not 0 <= example < len(self.sequences):
            raise ValueError(f"`example` must be from 0 to {len(self.sequences) - 1}, but got {example}.")
        table = self.table[self.table["example"] == example].assign(example=0)
        importances = None if self.importances is None else (self.importances[example],)
        return replace(self, sequences=(self.sequences[example],), table=table, importances=importances)

    def where(self: Own, chosen: Any) -> Own:
        """The rows where a mask is true. The mask has one value for each row of `table`."""
        mask = np.asarray(chosen, dtype=bool)
        if mask.shape != (len(self),):
            raise ValueError(f"`chosen` must be a mask of {len(self)} rows, but is of shape {mask.shape}.")
        return replace(self, table=self.table[mask])

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each span."""
        return self.table.copy()

    def to_xarray(self) -> xr.Dataset:
        """The columns of `to_dataframe` along "row", with the certificate."""
        result = self.table.rename_axis("row").to_xarray()
        result.attrs |= {"target": self.target, "certificate": self.certificate.to_json()}
        return result


@dataclass(frozen=True, eq=False, repr=False)
class Seqlets(_Stretches):
    """Seqlets: spans of high attribution, positive or negative.

    Attributes:
        sequences: N sequences that have the seqlets.
        target: the target of the attributions.
        importances: for each sequence, (L,) its attributions, with 0 outside the window.
        table: a row for each seqlet: example (index of its sequence), start, end (0-based half-open), attribution (sum
            over the span), p_value. The p value is the probability of such a sum in a span of this length if positions
            were independent. Use it as a ranking, not as an error rate.
        certificate: how the seqlets were found, and how the attributions were computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = cdi.find_seqlets(cdi.ism(cdi.example().sequence))
        >>> all(0 <= stretch.start < stretch.end <= 164 for stretch in result)
        True
    """

    importances: tuple[np.ndarray, ...]

    _COLUMNS: ClassVar[tuple[str, ...]] = ("example", "start", "end", "attribution", "p_value")

    def plot(self, ax: Axes | None = None, *, example: int = 0, **options: Any) -> Axes:
        """A sequence with its seqlets marked. See `plot.annotated_logo`."""
        return draw(self, ax=ax, example=example, **options)


@dataclass(frozen=True, eq=False, repr=False)
class MotifSites(_Stretches):
    """Sites of named motifs.

    Attributes:
        sequences: N sequences that have the sites.
        target: the target of attribution, necessity and sufficiency.
        importances: for each sequence, (L,) attributions, or None if the sites are from sequences without attributions.
        table: a row for each site, sorted by example and start:

            - example, start, end: index of its sequence, and position of the motif, 0-based half-open.
            - strand: "+" or "-" strand of the sequence.
            - motif, name: id and name of the motif.
            - score: log odds of the site in bits, relative to equal base frequencies. An N or a position outside the
              sequence counts as the base that fits worst.
            - p_value: fraction of random words that score as high. `annotate` and `scan` say which words.
            - q_value: false discovery rate. In `annotate` it is over all motifs, placements and seqlets. In `scan` it
              is over all positions of one motif.
            - attribution: sum over the site, or NaN if unknown.
            - necessity: decrease of the prediction if the site is replaced. sufficiency: increase of the prediction for
              a shuffled sequence if the site is inserted. Both are in units of the target, with standard errors over
              shuffles. They are NaN until `site_effects` measures them.
            - also: other motifs that pass for this seqlet or match nearly as well, best first, separated by commas.
        certificate: how the sites were found.

    Example:
        >>> import crossdna_interpret as cdi
        >>> sites = cdi.scan("GGGGCTAATCCGGG", {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T}, p=1e-3)
        >>> [(site.start, site.strand, site.name) for site in sites]
        [(5, '+', 'CRX')]
    """

    _COLUMNS: ClassVar[tuple[str, ...]] = (
        "example", "start", "end", "strand", "motif", "name", "score", "p_value", "q_value", "attribution", "necessity",
        "necessity_error", "sufficiency", "sufficiency_error", "also",
    )  # fmt: skip

    @property
    def measured(self) -> bool:
        """Whether necessity and sufficiency of all sites are known."""
        return not bool(self.table["necessity"].isna().any())

    def plot(self, ax: Axes | None = None, *, example: int = 0, **options: Any) -> Axes:
        """A sequence with brackets above its sites. See `plot.annotated_logo`."""
        return draw(self, ax=ax, example=example, **options)

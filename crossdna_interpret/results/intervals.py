"""Mutagenesis with an interval for each substitution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.mutagenesis import Mutagenesis
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["MutationIntervals"]


@dataclass(frozen=True, eq=False, repr=False)
class MutationIntervals(Shown):
    """Predicted effects of substitutions, with intervals of the effect that a laboratory would measure.

    Attributes:
        mutagenesis: the predictions.
        spread: (L', 4) standard deviation of each effect over variants of the model.
        low, high: (L', 4) ends of the interval of each effect, in units of the target. 0 at the sequence's own base.
        level: fraction of measured changes that such intervals hold, in families that they were not found from.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> from crossdna_interpret.models.change_errors import ChangeErrors
        >>> errors = ChangeErrors(0.5, 1.0, 0.1, {0.9: 2.0}, pairs=100)
        >>> result = cdi.mutation_intervals("ACGT" * 41, end=3, draws=0, errors=errors)
        >>> result.certain.shape, bool((result.low <= result.high).all())
        ((3, 4), True)
    """

    mutagenesis: Mutagenesis
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    certificate: Certificate

    def __post_init__(self) -> None:
        for name in ("spread", "low", "high"):
            freeze(self, name, (len(self.mutagenesis), 4))

    @property
    def certain(self) -> np.ndarray:
        """(L', 4) whether the interval excludes 0, so that the sign of the effect is known at this level."""
        result: np.ndarray = (self.low > 0) | (self.high < 0)
        return result

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each substitution: position, ref, alt, delta, spread, low, high, certain."""
        import pandas as pd

        result = self.mutagenesis
        ids = alphabet.encode(result.sequence)[result.start : result.end]
        row, base = np.nonzero(ids[:, None] != np.arange(4))
        letters = np.array(list(alphabet.ALPHABET))
        columns = {"position": row + result.start, "ref": letters[ids[row]], "alt": letters[base]}
        values = {name: getattr(self, name)[row, base] for name in ("spread", "low", "high", "certain")}
        return pd.DataFrame({**columns, "delta": result.delta[row, base], **values})

    def to_xarray(self) -> xr.Dataset:
        """`delta`, `spread`, `low` and `high` (position, base), with coordinates and the certificate."""
        import xarray as xr

        names = {"delta": self.mutagenesis.delta, "spread": self.spread, "low": self.low, "high": self.high}
        return xr.Dataset(
            {name: (("position", "base"), values) for name, values in names.items()},
            coords={
                "position": np.arange(self.mutagenesis.start, self.mutagenesis.end),
                "base": list(alphabet.BASES),
            },
            attrs={
                "sequence": self.mutagenesis.sequence,
                "target": self.mutagenesis.target,
                "level": self.level,
                "certificate": self.certificate.to_json(),
            },
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Heat map of the effects. Those of uncertain sign are pale. See `plot.certain_effects`."""
        return draw(self, ax=ax, **options)

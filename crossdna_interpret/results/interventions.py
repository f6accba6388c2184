"""Results of ablated and patched messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossdna_interpret.results.certificate import Certificate
from crossdna_interpret.results.exchange import Direction
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["ExchangeAblation", "ExchangePatch"]


@dataclass(frozen=True, eq=False, repr=False)
class _Intervention(Shown):
    sequence: str
    target: str
    direction: Direction
    positions: tuple[int, ...]
    side: Literal["receiver", "sender"]
    sources: tuple[str, ...]
    reference: float
    prediction: float
    certificate: Certificate

    def __post_init__(self) -> None:
        for name in ("reference", "prediction"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"`{name}` must be finite, but got {getattr(self, name)}.")

    @property
    def delta(self) -> float:
        """prediction - reference, as in `Mutagenesis.delta`."""
        return self.prediction - self.reference

    def _row(self) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "side": self.side,
            "positions": len(self.positions),
            "sources": len(self.sources),
            "reference": self.reference,
            "prediction": self.prediction,
            "delta": self.delta,
        }

    def to_dataframe(self) -> pd.DataFrame:
        """One row: the changed messages, the predictions, and the values computed from them."""
        import pandas as pd

        return pd.DataFrame([self._row()])

    def to_xarray(self) -> xr.Dataset:
        """The values of `to_dataframe` without a dimension, with the certificate."""
        import xarray as xr

        attributes = {"sequence": self.sequence, "target": self.target, "certificate": self.certificate.to_json()}
        return xr.Dataset({name: ((), value) for name, value in self._row().items()}, attrs=attributes)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Bars of the predictions with and without the changed messages. See `plot.intervention_bars`."""
        return draw(self, ax=ax, **options)


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeAblation(_Intervention):
    """Predictions without some of the messages, and with only these messages.

    Attributes:
        sequence, target: the scored sequence and target.
        direction: direction of the selected messages.
        positions: positions that receive or send them.
        side: whether `positions` are receivers or senders.
        sources: selected parts of the messages.
        reference: prediction with all messages.
        prediction: prediction without the selected messages.
        replacement: values that replace them.
        only: prediction with only the selected messages.
        none: prediction with all messages replaced.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = cdi.ablate_exchange("ACGTTGCAACGTTGCA", positions=range(4, 8))
        >>> result.necessity == result.reference - result.prediction
        True
    """

    replacement: Literal["zero", "mean", "shuffled"]
    only: float
    none: float

    @property
    def necessity(self) -> float:
        """reference - prediction: positive if the messages increase the prediction, as in `Mutagenesis.importance`."""
        return self.reference - self.prediction

    @property
    def sufficiency(self) -> float:
        """only - none: the effect of the selected messages alone."""
        return self.only - self.none

    def _row(self) -> dict[str, Any]:
        result = {"necessity": self.necessity, "sufficiency": self.sufficiency, "only": self.only, "none": self.none}
        return super()._row() | {"replacement": self.replacement} | result


@dataclass(frozen=True, eq=False, repr=False)
class ExchangePatch(_Intervention):
    """Prediction with messages from another sequence.

    Attributes:
        sequence: the sequence that received the messages.
        target, direction, positions, side, sources: as in `ExchangeAblation`, for the replaced messages.
        reference: prediction for `sequence` with its own messages.
        prediction: prediction with the messages of the other sequence.
        source_sequence: the sequence that the messages come from.
        source_prediction: prediction for `source_sequence`.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = cdi.patch_exchange("ACGTTGCAACGTTGCA", "TTTTTTTTTTTTTTTT")
        >>> result.delta == result.prediction - result.reference
        True
    """

    source_sequence: str
    source_prediction: float

    @property
    def recovered(self) -> float:
        """Fraction of the difference between both sequences that the messages recover. NaN without a difference."""
        difference = self.source_prediction - self.reference
        return self.delta / difference if difference else float("nan")

    def _row(self) -> dict[str, Any]:
        return super()._row() | {"source_prediction": self.source_prediction, "recovered": self.recovered}

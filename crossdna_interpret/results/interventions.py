"""Results of ablated and patched messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossdna_interpret.results.certificate import Certificate
from crossdna_interpret.results.exchange import Direction

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ExchangeAblation", "ExchangePatch"]


@dataclass(frozen=True, eq=False)
class _Intervention:
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
        """One row: what was changed, the predictions, and the numbers that follow from them."""
        import pandas as pd

        return pd.DataFrame([self._row()])


@dataclass(frozen=True, eq=False)
class ExchangeAblation(_Intervention):
    """What the prediction is without some of the messages, and with these alone.

    Attributes:
        sequence, target: what was scored.
        direction: of the messages that were ablated.
        positions: where they are received, or sent from.
        side: which of the two `positions` are.
        sources: the parts of a message that were ablated.
        reference: prediction with all messages.
        prediction: without those chosen.
        replacement: what stood in their place.
        only: prediction with those chosen, and all others ablated.
        none: prediction with all messages ablated in the same way.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> found = cdi.ablate_exchange("ACGTTGCAACGTTGCA", positions=range(4, 8))
        >>> found.necessity == found.reference - found.prediction
        True
    """

    replacement: Literal["zero", "mean", "shuffled"]
    only: float
    none: float

    @property
    def necessity(self) -> float:
        """reference - prediction: positive where the messages help, as `Mutagenesis.importance` is."""
        return self.reference - self.prediction

    @property
    def sufficiency(self) -> float:
        """only - none: what the messages add by themselves."""
        return self.only - self.none

    def _row(self) -> dict[str, Any]:
        result = {"necessity": self.necessity, "sufficiency": self.sufficiency, "only": self.only, "none": self.none}
        return super()._row() | {"replacement": self.replacement} | result


@dataclass(frozen=True, eq=False)
class ExchangePatch(_Intervention):
    """What the prediction is with messages of another sequence.

    Attributes:
        sequence: the one that received them.
        target, direction, positions, side, sources: as in `ExchangeAblation`, of the messages that were replaced.
        reference: prediction of `sequence` as it is.
        prediction: with the other's messages.
        source_sequence: where they are from.
        source_prediction: its own prediction.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> found = cdi.patch_exchange("ACGTTGCAACGTTGCA", "TTTTTTTTTTTTTTTT")
        >>> found.delta == found.prediction - found.reference
        True
    """

    source_sequence: str
    source_prediction: float

    @property
    def recovered(self) -> float:
        """Share of the difference between both sequences that the messages alone carry over; NaN if there is none."""
        difference = self.source_prediction - self.reference
        return self.delta / difference if difference else float("nan")

    def _row(self) -> dict[str, Any]:
        return super()._row() | {"source_prediction": self.source_prediction, "recovered": self.recovered}

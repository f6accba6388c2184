"""Results of strand exchange.

Directions are in the order of `DIRECTIONS`. The values of a message are stored at the receiving position.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.results.averaged import RcAveraged
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.mutagenesis import Mutagenesis
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = [
    "DIRECTIONS",
    "Direction",
    "ExchangeEffects",
    "ExchangeMutagenesis",
    "StrandExchange",
]

DIRECTIONS = ("reverse_to_forward", "forward_to_reverse")
Direction = Literal["reverse_to_forward", "forward_to_reverse", "both"]


@dataclass(frozen=True)
class ExchangeEffects:
    """The prediction with and without messages, in the units of the target.

    Attributes:
        both: with messages in both directions, as in the model.
        reverse_to_forward: with only the messages to the forward strand.
        forward_to_reverse: with only the messages to the reverse strand.
        none: without messages.

    Example:
        >>> import crossdna_interpret as cdi
        >>> effects = cdi.strand_exchange("ACGTTGCAACGTTGCA").effects
        >>> abs(effects.total - (effects.both - effects.none)) < 1e-9
        True
    """

    both: float
    reverse_to_forward: float
    forward_to_reverse: float
    none: float

    def __add__(self, other: ExchangeEffects) -> ExchangeEffects:
        return ExchangeEffects(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __truediv__(self, number: float) -> ExchangeEffects:
        return ExchangeEffects(*(getattr(self, each.name) / number for each in fields(self)))

    @property
    def total(self) -> float:
        """both - none: effect of the exchange on the prediction."""
        return self.both - self.none

    @property
    def interaction(self) -> float:
        """Effect of both directions together minus the sum of their single effects."""
        return self.both - self.reverse_to_forward - self.forward_to_reverse + self.none


@dataclass(frozen=True, eq=False, repr=False)
class StrandExchange(RcAveraged):
    """The effect of strand exchange, split by source, direction, receiver and sender.

    A message is a sum of terms and a bias. Each term comes from one position of the other strand through one source.
    When all messages are scaled from 0 to 1, the prediction goes from `effects.none` to `effects.both`. The
    contribution of a term is its part of the integrated gradient along this path (exact to `completeness_error`).

    Attributes:
        sequence: sequence of length L.
        target: the predicted target.
        sources: names of the S sources: the same position, the bridge's dilated convolutions, the mean of a block.
        by_source: (S, 2, L, L) contributions by source, direction, receiving position and sending position. Positions
            are those of `sequence` on either strand.
        bias: (2, L) contribution of the bias, by direction and receiving position.
        gate_channels: (2, L, H) gate of each channel, 0 to 1, by direction and receiving position.
        fusion_gate: (L,) weight of the forward strand in the fusion, 0 to 1.
        partner: (L,) for each position of the forward strand, the reverse-strand position that it is paired with. It is
            the same position, except for models with several "mirrored" blocks. There the sender of the source "same
            position" is the mirror locus.
        effects: predictions with and without messages.
        certificate: how it was computed.
        orientations: if both orientations were averaged, the results of the sequence and of its reverse complement,
            both in coordinates and strands of `sequence`. Otherwise None.

    Example:
        >>> import crossdna_interpret as cdi
        >>> x = cdi.strand_exchange("ACGTTGCAACGTTGCA")
        >>> x.contributions.shape, x.gates.shape
        ((2, 16, 16), (2, 16))
    """

    AVERAGED: ClassVar = ("by_source", "bias", "gate_channels", "fusion_gate", "effects")
    MAIN: ClassVar = "contributions"

    sequence: str
    target: str
    sources: tuple[str, ...]
    by_source: np.ndarray
    bias: np.ndarray
    gate_channels: np.ndarray
    fusion_gate: np.ndarray
    partner: np.ndarray
    effects: ExchangeEffects
    certificate: Certificate
    orientations: tuple[StrandExchange, StrandExchange] | None = None

    def __post_init__(self) -> None:
        length = len(self.sequence)
        freeze(self, "by_source", (len(self.sources), 2, length, length))
        freeze(self, "bias", (2, length))
        freeze(self, "gate_channels", (2, length, np.shape(self.gate_channels)[-1]))
        freeze(self, "fusion_gate", (length,))
        freeze(self, "partner", (length,))

    @cached_property
    def contributions(self) -> np.ndarray:
        """(2, L, L) sum over sources, by direction, receiving position and sending position."""
        total = self.by_source.sum(axis=0)
        total.flags.writeable = False
        return total

    @property
    def gates(self) -> np.ndarray:
        """(2, L) mean gate over channels, by direction and receiving position."""
        mean: np.ndarray = self.gate_channels.mean(axis=-1)
        return mean

    @property
    def received(self) -> np.ndarray:
        """(2, L) contribution of the message that a position receives, with the bias. Its sum is `effects.total`."""
        received: np.ndarray = self.contributions.sum(axis=2) + self.bias
        return received

    @property
    def sent(self) -> np.ndarray:
        """(2, L) contribution of the messages that a position sends."""
        sent: np.ndarray = self.contributions.sum(axis=1)
        return sent

    @property
    def completeness_error(self) -> float:
        """|sum of contributions and bias - effects.total|."""
        total = float(self.by_source.sum(dtype=np.float64) + self.bias.sum(dtype=np.float64))
        return abs(total - self.effects.total)

    @property
    def mirrored(self) -> bool:
        """Whether the bridge joins positions that are not base pairs, as in published models with several blocks."""
        return bool((self.partner != np.arange(len(self.sequence))).any())

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each direction and position: direction, position, ref, received, sent, bias, gate, and sources.

        The column of a source is the contribution of its part of the message received at the position.
        """
        import pandas as pd

        frames = [
            pd.DataFrame(
                {
                    "direction": name,
                    "position": np.arange(len(self.sequence)),
                    "ref": list(self.sequence),
                    "received": self.received[way],
                    "sent": self.sent[way],
                    "bias": self.bias[way],
                    "gate": self.gates[way],
                }
                | {source: self.by_source[at, way].sum(axis=1) for at, source in enumerate(self.sources)}
            )
            for way, name in enumerate(DIRECTIONS)
        ]
        return pd.concat(frames, ignore_index=True)

    def to_xarray(self) -> xr.Dataset:
        """All arrays, with coordinates, effects and the certificate."""
        import xarray as xr

        positions = np.arange(len(self.sequence))
        return xr.Dataset(
            {
                "contributions": (("source", "direction", "receiver", "sender"), self.by_source),
                "bias": (("direction", "receiver"), self.bias),
                "gate": (("direction", "receiver", "channel"), self.gate_channels),
                "fusion_gate": (("receiver",), self.fusion_gate),
                "partner": (("receiver",), self.partner),
            },
            coords={
                "source": list(self.sources),
                "direction": list(DIRECTIONS),
                "receiver": positions,
                "sender": positions,
                "ref": ("receiver", list(self.sequence)),
            },
            attrs={
                "sequence": self.sequence,
                "target": self.target,
                "effects": json.dumps(vars(self.effects)),
                "certificate": self.certificate.to_json(),
            },
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Arcs between the two strands. See `plot.exchange_arcs`."""
        return draw(self, ax=ax, **options)


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeMutagenesis(Shown):
    """Change of the effect of strand exchange by every substitution in a window.

    Attributes:
        with_exchange: mutagenesis of the original model.
        without_exchange: mutagenesis of the model without messages.
        received: (L', 4, L) change of the effect of exchange at each position, or None if it was not computed. Its sum
            over positions is `delta`.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> cdi.exchange_ism("ACGTTGCAACGTTGCA", start=4, end=7).delta.shape
        (3, 4)
    """

    with_exchange: Mutagenesis
    without_exchange: Mutagenesis
    received: np.ndarray | None
    certificate: Certificate

    def __post_init__(self) -> None:
        if self.received is not None:
            freeze(self, "received", (*self.with_exchange.delta.shape, len(self.sequence)))

    @property
    def sequence(self) -> str:
        """The full sequence, length L."""
        return self.with_exchange.sequence

    @property
    def target(self) -> str:
        """The predicted target."""
        return self.with_exchange.target

    @property
    def start(self) -> int:
        """First position of the window of L' positions."""
        return self.with_exchange.start

    @property
    def end(self) -> int:
        """The position after the window."""
        return self.with_exchange.end

    @property
    def reference(self) -> float:
        """Effect of the exchange on the prediction for the sequence itself."""
        index = self.with_exchange.targets.index(self.target)
        return float(self.with_exchange.reference[index] - self.without_exchange.reference[index])

    @property
    def delta(self) -> np.ndarray:
        """(L', 4) change of the effect of exchange, order ACGT. It is 0 at the sequence's own base."""
        return self.with_exchange.delta - self.without_exchange.delta

    @property
    def importance(self) -> np.ndarray:
        """(L',) minus the mean change: positive if the base increases the effect. As in `Mutagenesis.importance`."""
        return self.with_exchange.importance - self.without_exchange.importance

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each substitution: position, ref, alt, delta, and the part of it that goes through exchange."""
        table = self.with_exchange.to_dataframe()
        table = table[table["target"] == self.target].drop(columns=["target"]).reset_index(drop=True)
        bases = [alphabet.BASES.index(base) for base in table["alt"]]
        table["delta_through_exchange"] = self.delta[table["position"] - self.start, bases]
        return table

    def to_xarray(self) -> xr.Dataset:
        """`delta` (position, base) and, if computed, `received` (position, base, receiver)."""
        import xarray as xr

        values: dict[str, Any] = {"delta": (("position", "base"), self.delta)}
        coords: dict[str, Any] = {"position": np.arange(self.start, self.end), "base": list(alphabet.BASES)}
        if self.received is not None:
            values["received"] = (("position", "base", "receiver"), self.received)
            coords["receiver"] = np.arange(len(self.sequence))
        attrs = {
            "sequence": self.sequence,
            "target": self.target,
            "reference": self.reference,
            "certificate": self.certificate.to_json(),
        }
        return xr.Dataset(values, coords=coords, attrs=attrs)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Heat map of `delta`. See `plot.mutagenesis_map`."""
        return draw(self, ax=ax, **options)

"""Results of marginalization, spacing and motif interactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.motifs import MotifSites
from crossdna_interpret.results.pictures import draw
from crossdna_interpret.results.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["ORDERS", "STRANDS", "Interaction", "Marginalization", "MotifInteractions", "Spacing"]

STRANDS = ("+", "-")
ORDERS = ("a-b", "b-a")
Interaction = Literal["additive", "synergistic", "redundant"]
_NORMAL_95 = 1.959964


def _interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the last axis, with its 95 % interval. The interval of a single value is NaN."""
    mean = values.mean(axis=-1)
    if values.shape[-1] < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    wide = _NORMAL_95 * values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    return mean, mean - wide, mean + wide


@dataclass(frozen=True, eq=False, repr=False)
class Marginalization(Shown):
    """The effect of a motif alone: predictions for backgrounds without and with the motif.

    Attributes:
        motif: name of the motif.
        string: the inserted bases, on the "+" strand.
        start: position of the first base.
        backgrounds: N sequences.
        targets: the model's T targets.
        target: the target for `delta`.
        before: (N, T) predictions for the backgrounds.
        after: (2, N, T) predictions with the motif and with its reverse complement.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = cdi.marginalize("TAATCC", backgrounds=["ACGT" * 10])
        >>> result.to_dataframe()[["motif", "strand"]].values.tolist()
        [['TAATCC', '+'], ['TAATCC', '-']]
    """

    motif: str
    string: str
    start: int
    backgrounds: tuple[str, ...]
    targets: tuple[str, ...]
    target: str
    before: np.ndarray
    after: np.ndarray
    certificate: Certificate

    def __post_init__(self) -> None:
        freeze(self, "before", (len(self.backgrounds), len(self.targets)))
        freeze(self, "after", (2, len(self.backgrounds), len(self.targets)))

    @property
    def delta(self) -> np.ndarray:
        """(2, N) after - before for `target`, by strand."""
        index = self.targets.index(self.target)
        return self.after[..., index] - self.before[:, index]

    @property
    def effect(self) -> np.ndarray:
        """(2,) mean of `delta` over backgrounds."""
        return self.delta.mean(axis=1)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each strand: motif, strand, effect, low and high end of its 95 % interval over backgrounds."""
        import pandas as pd

        mean, low, high = _interval(self.delta)
        return pd.DataFrame({"motif": self.motif, "strand": STRANDS, "effect": mean, "low": low, "high": high})

    def to_xarray(self) -> xr.Dataset:
        """`before` (background, target) and `after` (strand, background, target), with the certificate."""
        import xarray as xr

        return xr.Dataset(
            {
                "before": (("background", "target"), self.before),
                "after": (("strand", "background", "target"), self.after),
            },
            coords={"strand": list(STRANDS), "target": list(self.targets)},
            attrs={"motif": self.motif, "string": self.string, "certificate": self.certificate.to_json()},
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """The effect in each background, by strand. See `plot.marginal_effects`."""
        return draw(self, ax=ax, **options)


@dataclass(frozen=True, eq=False, repr=False)
class Spacing(Shown):
    """The effect of two motifs at each distance, in both orders and relative orientations.

    Motif a is always on the "+" strand. The other arrangements are the reverse complements of these.

    Attributes:
        motifs: names of a and b.
        strings: the inserted bases of each, on the "+" strand.
        distances: (D,) numbers of bases between the two.
        backgrounds: N sequences.
        target: the predicted target.
        background: (N,) predictions for the backgrounds.
        both: (2, 2, D, N) predictions with both motifs: order (a first, b first), strand of b, distance, background.
        only_a: (2, D, N) predictions with only a, at its position in each arrangement.
        only_b: (2, 2, D, N) predictions with only b.
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> result = cdi.spacing("TAATCC", "CAGCTG", distances=[2, 7], backgrounds=["ACGT" * 10])
        >>> sorted(result.best)[:3], result.both.shape
        (['distance', 'effect', 'effect_high'], (2, 2, 2, 1))
    """

    motifs: tuple[str, str]
    strings: tuple[str, str]
    distances: np.ndarray
    backgrounds: tuple[str, ...]
    target: str
    background: np.ndarray
    both: np.ndarray
    only_a: np.ndarray
    only_b: np.ndarray
    certificate: Certificate

    def __post_init__(self) -> None:
        count, many = len(self.distances), len(self.backgrounds)
        freeze(self, "distances", (count,))
        freeze(self, "background", (many,))
        freeze(self, "both", (2, 2, count, many))
        freeze(self, "only_a", (2, count, many))
        freeze(self, "only_b", (2, 2, count, many))

    @property
    def delta(self) -> np.ndarray:
        """(2, 2, D, N) effect of both motifs in each background."""
        return self.both - self.background

    @property
    def interaction(self) -> np.ndarray:
        """(2, 2, D, N) f(ab) - f(a) - f(b) + f(0): joint effect minus the single effects at the same positions."""
        return self.both - self.only_a[:, None] - self.only_b + self.background

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each arrangement: order, strand of b, distance, effect and interaction.

        Effect and interaction are means over backgrounds, each with the low and high end of its 95 % interval.
        """
        import pandas as pd

        order, strand, at = np.indices(self.both.shape[:3]).reshape(3, -1)
        columns: dict[str, Any] = {
            "order": np.array(ORDERS)[order],
            "strand": np.array(STRANDS)[strand],
            "distance": self.distances[at],
        }
        for name, values in (("effect", self.delta), ("interaction", self.interaction)):
            mean, low, high = (each.reshape(-1) for each in _interval(values))
            columns |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        return pd.DataFrame(columns)

    @property
    def best(self) -> dict[str, Any]:
        """The row of `to_dataframe` with the largest effect, as a dict of plain Python types."""
        (row,) = self.to_dataframe().nlargest(1, "effect").to_dict("records")
        return {str(name): value for name, value in row.items()}

    def to_xarray(self) -> xr.Dataset:
        """`both`, `only_a`, `only_b` and `background`, with coordinates and the certificate."""
        import xarray as xr

        return xr.Dataset(
            {
                "both": (("order", "strand", "distance", "background"), self.both),
                "only_a": (("order", "distance", "background"), self.only_a),
                "only_b": (("order", "strand", "distance", "background"), self.only_b),
                "none": (("background",), self.background),
            },
            coords={"order": list(ORDERS), "strand": list(STRANDS), "distance": self.distances},
            attrs={
                "motifs": list(self.motifs),
                "strings": list(self.strings),
                "target": self.target,
                "certificate": self.certificate.to_json(),
            },
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """A curve for each arrangement. See `plot.spacing_curves`."""
        return draw(self, ax=ax, **options)


@dataclass(frozen=True, eq=False, repr=False)
class MotifInteractions(Shown):
    """Interactions between pairs of motif sites of a sequence.

    Attributes:
        sites: S sites of one sequence.
        pairs: (P, 2) indices of sites. Pairs that overlap are left out.
        reference: prediction for the sequence itself.
        without: (S, K) predictions with each site replaced by the same span of each of K shuffles.
        without_both: (P, K) predictions with both sites replaced.
        without_exchange: `reference`, `without` and `without_both` without messages between the strands. None for a
            model without a bridge.
        tolerance: limit for additive pairs, as a fraction of their effects (see `kinds`).
        certificate: how it was computed.

    Example:
        >>> import crossdna_interpret as cdi
        >>> sites = cdi.scan(cdi.example().sequence, {"CRX": np.eye(4)[[3, 0, 0, 3, 1, 1]].T}, p=1e-3)
        >>> result = cdi.motif_interactions(sites, shuffles=4)
        >>> set(result.kinds) <= {"additive", "synergistic", "redundant"}
        True
    """

    sites: MotifSites
    pairs: np.ndarray
    reference: float
    without: np.ndarray
    without_both: np.ndarray
    without_exchange: tuple[float, np.ndarray, np.ndarray] | None
    tolerance: float
    certificate: Certificate

    def __post_init__(self) -> None:
        count, shuffles = len(self.sites), self.without.shape[-1]
        freeze(self, "pairs", (len(self.pairs), 2))
        freeze(self, "without", (count, shuffles))
        freeze(self, "without_both", (len(self.pairs), shuffles))

    @property
    def sequence(self) -> str:
        """The sequence that has the sites."""
        return self.sites.sequences[0]

    @property
    def target(self) -> str:
        """The predicted target."""
        return self.sites.target

    def _over_shuffles(self, reference: float, without: np.ndarray, without_both: np.ndarray) -> np.ndarray:
        first, second = (without[self.pairs[:, side]] for side in (0, 1))
        result: np.ndarray = reference - first - second + without_both
        return result

    @property
    def interaction(self) -> np.ndarray:
        """(P,) f(both) - f(without a) - f(without b) + f(without both), mean over shuffles."""
        return self._over_shuffles(self.reference, self.without, self.without_both).mean(axis=1)

    @property
    def error(self) -> np.ndarray:
        """(P,) standard error of `interaction` over shuffles."""
        values = self._over_shuffles(self.reference, self.without, self.without_both)
        return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])

    @property
    def through_exchange(self) -> np.ndarray | None:
        """(P,) the part of `interaction` that needs messages between the strands. None for models without a bridge."""
        if self.without_exchange is None:
            return None
        return self.interaction - self._over_shuffles(*self.without_exchange).mean(axis=1)

    @property
    def together(self) -> np.ndarray:
        """(P,) joint effect: decrease of the prediction without both sites."""
        return self.reference - self.without_both.mean(axis=1)

    @property
    def kinds(self) -> list[Interaction]:
        """The kind of each pair.

        - "synergistic": the interaction has the sign of the joint effect, so the sites amplify each other.
        - "redundant": it has the opposite sign, so one site can replace the other.
        - "additive": its size is below `tolerance` times the largest of the joint effect and the two single effects, or
          within two standard errors of zero.
        """
        own = np.abs(self.reference - self.without.mean(axis=1))
        scale = np.maximum.reduce([np.abs(self.together), own[self.pairs[:, 0]], own[self.pairs[:, 1]]])
        result: list[Interaction] = []
        additive, synergistic, redundant = get_args(Interaction)
        for value, error, size, both in zip(self.interaction, self.error, scale, self.together, strict=True):
            if abs(value) <= max(self.tolerance * size, 2 * error):
                result.append(additive)
            else:
                result.append(synergistic if value * both > 0 else redundant)
        return result

    @property
    def matrix(self) -> np.ndarray:
        """(S, S) `interaction`, symmetric. NaN on the diagonal and for sites that overlap."""
        result = np.full((len(self.sites), len(self.sites)), np.nan)
        first, second = self.pairs.T
        result[first, second] = result[second, first] = self.interaction
        return result

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each pair of sites.

        Columns: site_1, start_1, site_2, start_2, distance (bases between them), together, interaction, error, kind
        and, for models with a bridge, through_exchange.
        """
        import pandas as pd

        table = self.sites.table
        first, second = (table.iloc[self.pairs[:, side]].reset_index(drop=True) for side in (0, 1))
        columns: dict[str, Any] = {
            "site_1": first["name"],
            "start_1": first["start"],
            "site_2": second["name"],
            "start_2": second["start"],
            "distance": second["start"] - first["end"],
            "together": self.together,
            "interaction": self.interaction,
            "error": self.error,
            "kind": self.kinds,
        }
        if self.through_exchange is not None:
            columns["through_exchange"] = self.through_exchange
        return pd.DataFrame(columns)

    def to_xarray(self) -> xr.Dataset:
        """The columns of `to_dataframe` along "pair", with the certificate."""
        result = self.to_dataframe().rename_axis("pair").to_xarray()
        result.attrs |= {"sequence": self.sequence, "certificate": self.certificate.to_json()}
        return result

    def plot(self, ax: Axes | None = None, *, kind: Literal["graph", "matrix"] = "graph", **options: Any) -> Axes:
        """Arcs between interacting sites along the sequence, or a matrix.

        See `plot.interaction_graph` and `plot.interaction_matrix`.
        """
        if kind not in ("graph", "matrix"):
            raise ValueError(f"`kind` must be 'graph' or 'matrix', but got {kind!r}.")
        return draw(self, kind, ax=ax, **options)

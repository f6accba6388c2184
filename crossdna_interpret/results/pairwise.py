"""Results of pairwise mutagenesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.results.averaged import MultiTarget
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["PairwiseMutagenesis"]


@dataclass(frozen=True, eq=False, repr=False)
class PairwiseMutagenesis(MultiTarget):
    """Predictions for pairs of substitutions.

    Attributes:
        sequence: sequence of length L.
        positions: (m,) all positions in the pairs, ascending.
        pairs: (P, 2) indices into `positions`, the smaller first.
        targets: the model's T targets.
        target: the target for `interaction`.
        reference: (T,) prediction for the sequence itself.
        singles: (m, 4, T) prediction for each single substitution. The sequence's own base repeats `reference`.
        predictions: (P, 4, 4, T) prediction with base a at the first position and base b at the second. If one of them
            is the sequence's own base, it repeats `singles`.
        certificate: how it was computed.
        orientations: if both orientations were averaged, the results of the sequence and of its reverse complement,
            both in coordinates of `sequence`. Otherwise None.

    Example:
        >>> import crossdna_interpret as cdi
        >>> r = cdi.pairwise_ism("ACGTACGTAC", positions=[1, 4, 6])
        >>> r.pairs.tolist(), r.interaction.shape
        ([[0, 1], [0, 2], [1, 2]], (3, 4, 4))
    """

    AVERAGED: ClassVar = ("reference", "singles", "predictions")
    MAIN: ClassVar = "interaction"

    sequence: str
    positions: np.ndarray
    pairs: np.ndarray
    targets: tuple[str, ...]
    target: str
    reference: np.ndarray
    singles: np.ndarray
    predictions: np.ndarray
    certificate: Certificate
    orientations: tuple[PairwiseMutagenesis, PairwiseMutagenesis] | None = None

    def __post_init__(self) -> None:
        if self.target not in self.targets:
            raise ValueError(f"`target` must be one of {self.targets}, but got {self.target!r}.")
        count, pairs, targets = len(self.positions), len(self.pairs), len(self.targets)
        freeze(self, "positions", (count,))
        freeze(self, "pairs", (pairs, 2))
        freeze(self, "reference", (targets,))
        freeze(self, "singles", (count, 4, targets))
        freeze(self, "predictions", (pairs, 4, 4, targets))

    @property
    def interaction(self) -> np.ndarray:
        """(P, 4, 4) f(ab) - f(a) - f(b) + f(0) for `target`. It is 0 for additive effects and at own bases."""
        index = self.targets.index(self.target)
        first, second = (self.singles[self.pairs[:, side], :, index] for side in (0, 1))
        both, none = self.predictions[..., index], self.reference[index]
        result = (both - none) - (first - none)[:, :, None] - (second - none)[:, None, :]
        ids = alphabet.encode(self.sequence)[self.positions]
        own_first, own_second = (ids[self.pairs[:, side], None] == np.arange(4) for side in (0, 1))
        return np.where(own_first[:, :, None] | own_second[:, None, :], 0, result)

    @property
    def strongest(self) -> np.ndarray:
        """(P,) interaction with the largest absolute value in each pair, with its sign."""
        flat = self.interaction.reshape(len(self.pairs), 16)
        return flat[np.arange(len(flat)), np.abs(flat).argmax(axis=1)]

    @property
    def matrix(self) -> np.ndarray:
        """(m, m) `strongest`, symmetric. NaN for pairs that were not scored."""
        result = np.full((len(self.positions), len(self.positions)), np.nan, dtype=self.predictions.dtype)
        first, second = self.pairs.T
        result[first, second] = result[second, first] = self.strongest
        return result

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each pair of substitutions, for `target`.

        Columns: position_1, ref_1, alt_1, position_2, ref_2, alt_2, prediction, delta, interaction.
        """
        import pandas as pd

        ids = alphabet.encode(self.sequence)[self.positions]
        first, second = self.pairs.T
        changed = (ids[first, None, None] != np.arange(4)[:, None]) & (ids[second, None, None] != np.arange(4))
        pair, a, b = np.nonzero(changed)
        letters = np.array(list(alphabet.ALPHABET))
        index = self.targets.index(self.target)
        both = self.predictions[pair, a, b, index]
        return pd.DataFrame(
            {
                "position_1": self.positions[first[pair]],
                "ref_1": letters[ids[first[pair]]],
                "alt_1": letters[a],
                "position_2": self.positions[second[pair]],
                "ref_2": letters[ids[second[pair]]],
                "alt_2": letters[b],
                "prediction": both,
                "delta": both - self.reference[index],
                "interaction": self.interaction[pair, a, b],
            }
        )

    def to_xarray(self) -> xr.Dataset:
        """`predictions` (pair, base_1, base_2, target), `singles` and `reference`, with the certificate."""
        import xarray as xr

        bases = list(alphabet.BASES)
        return xr.Dataset(
            {
                "predictions": (("pair", "base_1", "base_2", "target"), self.predictions),
                "singles": (("position", "base", "target"), self.singles),
                "reference": (("target",), self.reference),
            },
            coords={
                "position": self.positions,
                "base": bases,
                "base_1": bases,
                "base_2": bases,
                "target": list(self.targets),
                "position_1": ("pair", self.positions[self.pairs[:, 0]]),
                "position_2": ("pair", self.positions[self.pairs[:, 1]]),
            },
            attrs={"sequence": self.sequence, "certificate": self.certificate.to_json()},
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Heat map of the strongest interaction of each pair. See `plot.interaction_map`."""
        return draw(self, ax=ax, **options)

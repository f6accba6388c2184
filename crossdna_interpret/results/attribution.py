"""Attribution of a prediction to bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossdna_interpret.dna import alphabet
from crossdna_interpret.results.averaged import RcAveraged
from crossdna_interpret.results.certificate import Certificate, freeze
from crossdna_interpret.results.pictures import draw

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Attribution"]


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(RcAveraged):
    """Contributions of the bases to a prediction, split by strand path if the model reads the strands separately.

    Attributes:
        sequence: sequence of length L.
        target: the explained target.
        forward: (L, 4) contribution through the forward-strand path, order ACGT.
        reverse: (L, 4) contribution through the reverse-strand path, in coordinates and bases of `sequence` (not
            complemented): ``reverse[i, b]`` is the contribution of base b at position i through its complement. It is
            all zeros if the model has no strand paths.
        prediction: prediction for the sequence.
        baseline_prediction: mean prediction for the baselines.
        baseline: name of the baseline, or "array".
        certificate: how it was computed.
        orientations: if both orientations were averaged, the results of the sequence and of its reverse complement,
            both in coordinates of `sequence`. Otherwise None.
        by_strand: whether the model has a separate path for each strand. If not, `forward` has everything.

    Example:
        >>> import crossdna_interpret as cdi
        >>> a = cdi.integrated_gradients("ACGTACGTACGT", baseline="zeros")
        >>> a.values.shape, bool((a.values == a.forward + a.reverse).all())
        ((12, 4), True)
    """

    AVERAGED: ClassVar = ("forward", "reverse", "prediction", "baseline_prediction")
    MAIN: ClassVar = "values"

    sequence: str
    target: str
    forward: np.ndarray
    reverse: np.ndarray
    prediction: float
    baseline_prediction: float
    baseline: str
    certificate: Certificate
    orientations: tuple[Attribution, Attribution] | None = None
    by_strand: bool = True

    def __post_init__(self) -> None:
        for name in ("forward", "reverse"):
            freeze(self, name, (len(self.sequence), 4))
        if not self.by_strand and self.reverse.any():
            raise ValueError("`reverse` must be all zeros where `by_strand` is False, but holds other values.")
        for name in ("prediction", "baseline_prediction"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"`{name}` must be finite, but got {getattr(self, name)}.")

    @property
    def values(self) -> np.ndarray:
        """(L, 4) forward + reverse. With shuffled baselines, bases that are not in the sequence have values too."""
        return self.forward + self.reverse

    @property
    def importance(self) -> np.ndarray:
        """(L,) sum of `values` over bases: contribution of position i to the prediction."""
        return self.values.sum(axis=1)

    @property
    def completeness_error(self) -> float:
        """|sum of values - (prediction - baseline_prediction)|: 0 for an exact path integral."""
        total = float(self.values.sum(dtype=np.float64))
        return abs(total - (self.prediction - self.baseline_prediction))

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each position: position, ref, importance, forward, reverse, and `values` as A, C, G, T.

        If the attribution is not split by strand, there are no columns `forward` and `reverse`.
        """
        import pandas as pd

        columns: dict[str, Any] = {
            "position": np.arange(len(self.sequence)),
            "ref": list(self.sequence),
            "importance": self.importance,
        }
        if self.by_strand:
            columns |= {"forward": self.forward.sum(axis=1), "reverse": self.reverse.sum(axis=1)}
        return pd.DataFrame(columns | {base: self.values[:, i] for i, base in enumerate(alphabet.BASES)})

    def to_xarray(self) -> xr.Dataset:
        """`values` (strand, position, base), with coordinates and the certificate.

        The strands are "forward" and "reverse", or only "both" if the attribution is not split by strand.
        """
        import xarray as xr

        strands = {"forward": self.forward, "reverse": self.reverse} if self.by_strand else {"both": self.forward}
        return xr.Dataset(
            {"values": (("strand", "position", "base"), np.stack(list(strands.values())))},
            coords={
                "strand": list(strands),
                "position": np.arange(len(self.sequence)),
                "base": list(alphabet.BASES),
                "ref": ("position", list(self.sequence)),
            },
            attrs={
                "sequence": self.sequence,
                "target": self.target,
                "prediction": self.prediction,
                "baseline_prediction": self.baseline_prediction,
                "baseline": self.baseline,
                "certificate": self.certificate.to_json(),
            },
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Logo, with a track for each strand if split by strand. See `plot.strand_logo`."""
        return draw(self, ax=ax, **options)

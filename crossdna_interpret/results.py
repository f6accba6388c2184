"""What the analyses return: frozen, validated at birth, holding numpy arrays. No torch and no plots in here.

Every position is 0-based in the coordinates of the sequence that was asked about; bases are in the order ACGT.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crossdna_interpret import alphabet

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Attribution", "Certificate", "Mutagenesis"]


@dataclass(frozen=True)
class Certificate:
    """How a result was computed, and what was checked on the way.

    Attributes:
        method: name of the analysis and of the path that computed it.
        model: name of the model.
        model_hash: SHA-256 of its weights and config, hexadecimal.
        device, dtype: where, and in which floating-point type.
        versions: of this package, torch and numpy.
        settings: the arguments that matter for the numbers, such as the seed.
        checks: name of a check -> its figure.
    """

    method: str
    model: str
    model_hash: str
    device: str
    dtype: str
    versions: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return dataclasses.asdict(self)


def _freeze(result: object, name: str, shape: tuple[int, ...]) -> None:
    """Check an array of a result, and keep a read-only view of it; the caller's own array stays as it was."""
    array = getattr(result, name)
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ValueError(f"`{name}` must be an array of shape {shape}, but got {np.shape(array)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, but holds NaN or infinity.")
    view = array.view()
    view.flags.writeable = False
    object.__setattr__(result, name, view)


def _sequence_index(sequence: str, start: int, end: int) -> np.ndarray:
    return alphabet.encode(sequence)[start:end]


@dataclass(frozen=True, eq=False)
class Mutagenesis:
    """In-silico mutagenesis: the prediction for every single-base substitution in a window.

    Attributes:
        sequence: the whole sequence, length L.
        start: first position of the window of L' positions.
        targets: the model's T targets.
        target: the one that `delta` and `importance` are about.
        reference: (T,) prediction for the sequence itself.
        predictions: (L', 4, T) prediction with base b at position start + i; the sequence's own base repeats
            `reference`. At an N all four bases are substitutions.
        certificate: how it was computed.
    """

    sequence: str
    start: int
    targets: tuple[str, ...]
    target: str
    reference: np.ndarray
    predictions: np.ndarray
    certificate: Certificate

    def __post_init__(self) -> None:
        if self.target not in self.targets:
            raise ValueError(f"`target` must be one of {self.targets}, but got {self.target!r}.")
        width = len(self.predictions)
        if width < 1 or self.start < 0 or self.start + width > len(self.sequence):
            raise ValueError(f"`predictions` cover {self.start} to {self.start + width} of {len(self.sequence)} bases.")
        _freeze(self, "reference", (len(self.targets),))
        _freeze(self, "predictions", (width, 4, len(self.targets)))

    @property
    def end(self) -> int:
        """The position after the window."""
        return self.start + len(self.predictions)

    @property
    def delta(self) -> np.ndarray:
        """(L', 4) predictions - reference for `target`, order ACGT; 0 at the sequence's own base."""
        index = self.targets.index(self.target)
        return self.predictions[..., index] - self.reference[index]

    @property
    def importance(self) -> np.ndarray:
        """(L',) minus the mean delta of the substitutions (three; four at an N): positive where the base helps."""
        ids = _sequence_index(self.sequence, self.start, self.end)
        return -self.delta.sum(axis=1) / np.where(ids == alphabet.N_ID, 4, 3).astype(self.predictions.dtype)

    def with_target(self, target: str) -> Mutagenesis:
        """The same predictions, seen for another target."""
        return dataclasses.replace(self, target=target)

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each substitution and target: position, ref, alt, target, prediction, delta."""
        import pandas as pd

        ids = _sequence_index(self.sequence, self.start, self.end)
        row, base = np.nonzero(ids[:, None] != np.arange(4))
        letters = np.array(list(alphabet.ALPHABET))
        frames = [
            pd.DataFrame(
                {
                    "position": row + self.start,
                    "ref": letters[ids[row]],
                    "alt": letters[base],
                    "target": target,
                    "prediction": self.predictions[row, base, index],
                    "delta": self.predictions[row, base, index] - self.reference[index],
                }
            )
            for index, target in enumerate(self.targets)
        ]
        return pd.concat(frames, ignore_index=True)

    def to_xarray(self) -> xr.Dataset:
        """`predictions` (position, base, target) and `reference` (target), with coordinates and the certificate."""
        import xarray as xr

        return xr.Dataset(
            {
                "predictions": (("position", "base", "target"), self.predictions),
                "reference": (("target",), self.reference),
            },
            coords={
                "position": np.arange(self.start, self.end),
                "base": list(alphabet.BASES),
                "target": list(self.targets),
                "ref": ("position", list(self.sequence[self.start : self.end])),
            },
            attrs={"sequence": self.sequence, "certificate": json.dumps(self.certificate.to_dict())},
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Heat map of `delta`; see `plot.mutagenesis_map`."""
        from crossdna_interpret import plot

        return plot.mutagenesis_map(self, ax=ax, **options)


@dataclass(frozen=True, eq=False)
class Attribution:
    """A prediction shared out over the bases, split by the strand path through which each base acts.

    Attributes:
        sequence: length L.
        target: what is explained.
        forward: (L, 4) contribution through the forward-strand path, order ACGT.
        reverse: (L, 4) through the reverse-strand path, in the same coordinates and bases of `sequence` (not
            complemented): ``reverse[i, b]`` is what base b at position i does by way of its complement.
        prediction: of the sequence.
        baseline_prediction: mean over the baselines.
        baseline: name of the baseline, or "array".
        certificate: how it was computed.
    """

    sequence: str
    target: str
    forward: np.ndarray
    reverse: np.ndarray
    prediction: float
    baseline_prediction: float
    baseline: str
    certificate: Certificate

    def __post_init__(self) -> None:
        for name in ("forward", "reverse"):
            _freeze(self, name, (len(self.sequence), 4))
        for name in ("prediction", "baseline_prediction"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"`{name}` must be finite, but got {getattr(self, name)}.")

    @property
    def values(self) -> np.ndarray:
        """(L, 4) forward + reverse. With dinucleotide-shuffled baselines other bases than the own one count too."""
        return self.forward + self.reverse

    @property
    def importance(self) -> np.ndarray:
        """(L,) sum of `values` over bases: what position i adds to the prediction."""
        return self.values.sum(axis=1)

    @property
    def completeness_error(self) -> float:
        """|sum of values - (prediction - baseline_prediction)|: 0 for an exact path integral."""
        total = float(self.values.sum(dtype=np.float64))
        return abs(total - (self.prediction - self.baseline_prediction))

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each position: position, ref, importance, forward, reverse, and `values` as A, C, G, T."""
        import pandas as pd

        columns: dict[str, Any] = {
            "position": np.arange(len(self.sequence)),
            "ref": list(self.sequence),
            "importance": self.importance,
            "forward": self.forward.sum(axis=1),
            "reverse": self.reverse.sum(axis=1),
        }
        return pd.DataFrame(columns | {base: self.values[:, i] for i, base in enumerate(alphabet.BASES)})

    def to_xarray(self) -> xr.Dataset:
        """`values` (strand, position, base), with coordinates and the certificate."""
        import xarray as xr

        return xr.Dataset(
            {"values": (("strand", "position", "base"), np.stack([self.forward, self.reverse]))},
            coords={
                "strand": ["forward", "reverse"],
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
                "certificate": json.dumps(self.certificate.to_dict()),
            },
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Both-strand logo; see `plot.strand_logo`."""
        from crossdna_interpret import plot

        return plot.strand_logo(self, ax=ax, **options)

"""How wrong predicted changes are, and intervals from it. Needs only numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ChangeErrors"]


@dataclass(frozen=True)
class ChangeErrors:
    """Errors of predicted changes, such as the effect of a mutation, found by comparison with measured changes.

    The error of a predicted change has the scale sqrt(base² + (of_spread · spread)² + (of_change · change)²). `spread`
    is the standard deviation of the change over variants of the model.

    Attributes:
        base: scale of the error of a change of 0, in units of the target.
        of_spread: factor of the spread.
        of_change: factor of the change.
        multiples: for each level, such as 0.9, the half-width of the interval as a multiple of the scale.
        pairs: number of measured changes that it was found from.
        target: the target of the changes, or "" if it is unknown.
        model_hash: hash of the model, as in its certificates, or "" if it is unknown.
        variants: the variants that the spread is over, such as "8 sub-networks", or "" if they are unknown.

    Raises:
        ValueError: invalid numbers.

    Example:
        >>> errors = ChangeErrors(0.5, 1.0, 0.0, {0.9: 2.0}, pairs=100)
        >>> errors.half_width(np.array([0.0, 1.0]), spread=np.array([0.0, 0.0]), level=0.9).tolist()
        [1.0, 1.0]
    """

    base: float
    of_spread: float
    of_change: float
    multiples: Mapping[float, float]
    pairs: int
    target: str = ""
    model_hash: str = ""
    variants: str = ""

    def __post_init__(self) -> None:
        for name in ("base", "of_spread", "of_change"):
            value = getattr(self, name)
            if not np.isfinite(value) or value < 0 or (name == "base" and value == 0):
                raise ValueError(f"`{name}` must be a positive number, but got {value!r}.")
            object.__setattr__(self, name, float(value))
        object.__setattr__(self, "multiples", {float(level): float(each) for level, each in self.multiples.items()})
        if not self.multiples or not all(0 < level < 1 and each > 0 for level, each in self.multiples.items()):
            raise ValueError(f"`multiples` must map levels from 0 to 1 to positive numbers, but got {self.multiples}.")

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of its intervals."""
        return tuple(self.multiples)

    def scale(self, change: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Scale of the error of predicted changes. Arrays of one shape."""
        result: np.ndarray = np.sqrt(
            self.base**2 + (self.of_spread * np.asarray(spread)) ** 2 + (self.of_change * np.asarray(change)) ** 2
        )
        return result

    def half_width(self, change: np.ndarray, spread: np.ndarray, level: float) -> np.ndarray:
        """Half of the width of the intervals of predicted changes.

        Args:
            change: predicted changes, in units of the target.
            spread: their standard deviations over variants of the model, of the same shape.
            level: one of `levels`.

        Raises:
            ValueError: another level.
        """
        if level not in self.multiples:
            raise ValueError(f"`level` must be one of {list(self.multiples)}, but got {level!r}.")
        return self.multiples[level] * self.scale(change, spread)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ChangeErrors:
        """Create it from the output of `to_dict`.

        Raises:
            ValueError: invalid keys or values.
        """
        try:
            return cls(**{**values, "multiples": {float(level): each for level, each in values["multiples"].items()}})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"These values do not make up errors of changes: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return dataclasses.asdict(self) | {"multiples": {str(level): each for level, each in self.multiples.items()}}

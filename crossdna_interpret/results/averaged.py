"""Results that are means over both orientations, and results with several targets."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import numpy as np

__all__ = ["MultiTarget", "RcAveraged", "average_orientations"]

Own = TypeVar("Own", bound="MultiTarget")
Result = TypeVar("Result")


class RcAveraged:
    """A result that may be the mean over both orientations of a sequence.

    Attributes:
        AVERAGED: names of the numbers of which the mean is taken.
        MAIN: name of the result's main array.
        orientations: both results in coordinates of the sequence as given, or None if they were not averaged.
    """

    AVERAGED: ClassVar[tuple[str, ...]] = ("reference", "predictions")
    MAIN: ClassVar[str] = "delta"
    orientations: tuple[Any, Any] | None

    @property
    def orientation_gap(self) -> np.ndarray | None:
        """What the reverse complement gives minus what the sequence as given does; None if they were not averaged.

        Of the result's main array: an error bar that comes from the model's own disagreement with itself.
        """
        if self.orientations is None:
            return None
        as_given, reverse = (getattr(result, self.MAIN) for result in self.orientations)
        gap: np.ndarray = reverse - as_given
        return gap


class MultiTarget(RcAveraged):
    """A result with predictions of all targets, of which one is shown."""

    def with_target(self: Own, target: str) -> Own:
        """The same result, showing another target."""
        of_both = None if self.orientations is None else tuple(one.with_target(target) for one in self.orientations)
        return dataclasses.replace(self, target=target, orientations=of_both)  # type: ignore[type-var]


def average_orientations(forward: Result, reverse: Result) -> Result:
    """The mean of a result and of that of the reverse-complemented model, which carries both as its `orientations`.

    Args:
        forward: of the sequence as given.
        reverse: of the `ReverseComplemented` model, in coordinates of the sequence as given.
    """
    assert dataclasses.is_dataclass(forward)
    assert not isinstance(forward, type)
    both = forward, reverse
    names: tuple[str, ...] = forward.AVERAGED  # type: ignore[attr-defined]
    means = {name: (getattr(forward, name) + getattr(reverse, name)) / 2 for name in names}
    certificates = [each.certificate for each in both]  # type: ignore[attr-defined]
    method = ", and ".join(dict.fromkeys(certificate.method for certificate in certificates))
    certificate = certificates[0].merge(certificates, method=method, settings={"rc_average": True})
    return dataclasses.replace(forward, **means, orientations=both, certificate=certificate)

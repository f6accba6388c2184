"""Results that are means over both orientations, and results with several targets."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import numpy as np

from crossdna_interpret.results.shown import Shown

__all__ = ["MultiTarget", "RcAveraged", "average_orientations"]

Own = TypeVar("Own", bound="MultiTarget")
Result = TypeVar("Result")


class RcAveraged(Shown):
    """A result that may be the mean over both orientations of a sequence.

    Attributes:
        AVERAGED: names of the averaged arrays and numbers.
        MAIN: name of the result's main array.
        orientations: both results in coordinates of the original sequence, or None if there was no averaging.
    """

    AVERAGED: ClassVar[tuple[str, ...]] = ("reference", "predictions")
    MAIN: ClassVar[str] = "delta"
    orientations: tuple[Any, Any] | None

    @property
    def orientation_gap(self) -> np.ndarray | None:
        """Main array of the reverse complement minus that of the sequence, or None if there was no averaging.

        The two describe the same DNA, so the gap is an error bar of the model.
        """
        if self.orientations is None:
            return None
        as_given, reverse = (getattr(result, self.MAIN) for result in self.orientations)
        gap: np.ndarray = reverse - as_given
        return gap


class MultiTarget(RcAveraged):
    """A result with predictions for all targets. One target is selected."""

    def with_target(self: Own, target: str) -> Own:
        """The same result with another selected target."""
        of_both = None if self.orientations is None else tuple(one.with_target(target) for one in self.orientations)
        return dataclasses.replace(self, target=target, orientations=of_both)  # type: ignore[type-var]


def average_orientations(forward: Result, reverse: Result) -> Result:
    """Mean of a result and that of the reverse-complemented model. It has both in `orientations`.

    Args:
        forward: result of the original model.
        reverse: result of the `ReverseComplemented` model, in coordinates of the original sequence.
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

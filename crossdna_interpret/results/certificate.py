"""What every result carries: how it was computed; and what every result checks of its arrays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Certificate", "CompletenessWarning", "freeze"]


class CompletenessWarning(UserWarning):
    """Contributions do not add up to the change in prediction as closely as they should.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.CompletenessWarning)  # stop, rather than go on with a rough answer
        ...     a = cdi.integrated_gradients("ACGTACGTACGT", baseline="zeros")
    """


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

    Example:
        >>> import crossdna_interpret as cdi
        >>> certificate = cdi.ism("ACGTACGTAC", start=2, end=4).certificate
        >>> certificate.model, len(certificate.model_hash)
        ('retina-enhancer', 64)
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

    def to_json(self) -> str:
        """The same as text, for attributes of datasets."""
        return json.dumps(self.to_dict())


def freeze(result: object, name: str, shape: tuple[int, ...]) -> None:
    """Check an array of a result, and keep a read-only view of it; the caller's own array stays as it was."""
    array = getattr(result, name)
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ValueError(f"`{name}` must be an array of shape {shape}, but got {np.shape(array)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, but holds NaN or infinity.")
    view = array.view()
    view.flags.writeable = False
    object.__setattr__(result, name, view)

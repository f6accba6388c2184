"""The certificate of a result, and the validation of its arrays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Certificate", "CompletenessWarning", "freeze"]


class CompletenessWarning(UserWarning):
    """The sum of the contributions differs too much from the change in prediction.

    Example:
        >>> import warnings, crossdna_interpret as cdi
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cdi.CompletenessWarning)  # stop instead of using an inexact result
        ...     a = cdi.integrated_gradients("ACGTACGTACGT", baseline="zeros")
    """


@dataclass(frozen=True)
class Certificate:
    """How a result was computed and checked.

    Attributes:
        method: name of the analysis and of the computation path.
        model: name of the model.
        model_hash: SHA-256, hexadecimal, of its weights, and of the attributes and code that affect its scores.
        device, dtype: device and floating-point type of the computation.
        versions: versions of this package, torch and numpy.
        settings: arguments that affect the result, such as the seed.
        checks: name of a check -> its value.

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

    @classmethod
    def merge(
        cls,
        parts: Iterable[Certificate],
        *,
        method: str,
        settings: Mapping[str, Any] | None = None,
        checks: Mapping[str, float] | None = None,
    ) -> Certificate:
        """Combine the certificates of several runs of one model.

        Each check has the largest (worst) value of the parts. Counts (names that end in "checked") are summed. Settings
        of all parts are combined. If parts differ in a setting, it is the tuple of their values.

        Args:
            parts: certificates of the runs, at least one.
            method: name of the analysis.
            settings, checks: additional values of the analysis itself. They replace those of the parts.

        Raises:
            ValueError: no parts, or parts of different models.

        Example:
            >>> import crossdna_interpret as cdi
            >>> runs = [cdi.ism(seq).certificate for seq in ("ACGTACGTAC", "TTGACCTAAT")]
            >>> whole = cdi.Certificate.merge(runs, method="two enhancers")
            >>> whole.checks["reuse_worst_difference"] == max(run.checks["reuse_worst_difference"] for run in runs)
            True
        """
        parts = list(parts)
        if not parts:
            raise ValueError("`parts` must hold at least one certificate.")
        models = {(part.model, part.model_hash): f"{part.model} ({part.model_hash[:8]})" for part in parts}
        if len(models) > 1:
            raise ValueError(f"`parts` must be of one model, but are of {', '.join(models.values())}.")
        figures: dict[str, list[float]] = {}
        for part in parts:
            for name, figure in part.checks.items():
                figures.setdefault(name, []).append(figure)
        worst = {name: sum(each) if name.endswith("checked") else max(each) for name, each in figures.items()}
        return dataclasses.replace(
            parts[0],
            method=method,
            device=", ".join(dict.fromkeys(part.device for part in parts)),
            dtype=", ".join(dict.fromkeys(part.dtype for part in parts)),
            versions=_union([part.versions for part in parts]),
            settings=_union([part.settings for part in parts]) | dict(settings or {}),
            checks=worst | dict(checks or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """JSON text, for attributes of datasets."""
        return json.dumps(self.to_dict())


class _Several(tuple[Any, ...]):
    """The values of a setting that differs between the parts of a certificate."""


def _union(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Union of mappings. If values differ, all of them are kept. They may come from an earlier union."""
    values: dict[str, list[Any]] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            known = values.setdefault(name, [])
            known += [each for each in (value if isinstance(value, _Several) else (value,)) if each not in known]
    return {name: known[0] if len(known) == 1 else _Several(known) for name, known in values.items()}


def freeze(result: object, name: str, shape: tuple[int, ...]) -> None:
    """Check an array of a result and replace it by a read-only view. The caller's array does not change."""
    array = getattr(result, name)
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ValueError(f"`{name}` must be an array of shape {shape}, but got {np.shape(array)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, but holds NaN or infinity.")
    view = array.view()
    view.flags.writeable = False
    object.__setattr__(result, name, view)

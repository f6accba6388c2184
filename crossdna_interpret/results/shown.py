"""The short text of a result in a notebook or at a prompt."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Shown"]

_LONG = 40  # characters of a text, or items of a sequence, that are shown whole
_FEW = 6  # numbers of an array that are shown


class Shown:
    """A dataclass whose `repr` names each field: small values as they are, and the shape or size of large ones.

    Example:
        >>> import crossdna_interpret as cdi
        >>> print(cdi.ism("ACGT" * 41))  # doctest: +ELLIPSIS
        Mutagenesis(sequence='ACGTACGTACGT'… (164 characters), ..., predictions=array (164, 4, 1), ...)
    """

    def __repr__(self) -> str:
        assert dataclasses.is_dataclass(self)
        texts = {each.name: _short(getattr(self, each.name)) for each in dataclasses.fields(self)}
        parts = [f"{name}={text}" for name, text in texts.items() if text]
        return f"{type(self).__name__}({', '.join(parts)})"


def _short(value: Any) -> str:
    """Text of a value. Empty for None, which is the absence of something optional."""
    if value is None:
        return ""
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONG else f"{value[:12]!r}… ({len(value):,} characters)"
    if isinstance(value, np.ndarray):
        small = value.size <= _FEW and value.ndim <= 1
        return np.array2string(value, precision=4, separator=", ") if small else f"array {value.shape}"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        return f"table ({len(value):,} x {len(value.columns):,})"
    if dataclasses.is_dataclass(value):
        method = getattr(value, "method", None)
        return repr(value) if method is None else f"{type(value).__name__}({method!r}, …)"
    if isinstance(value, (tuple, list, dict)):
        text = repr(value)
        if len(text) <= _LONG and not any(map(dataclasses.is_dataclass, value)):
            return text
        return f"{len(value):,} item{'s' if len(value) > 1 else ''}"
    return repr(value) if len(repr(value)) <= _LONG else type(value).__name__

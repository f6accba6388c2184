"""What callers may pass: errors that name the argument, what was expected, and what came."""

from __future__ import annotations

import numpy as np

__all__ = ["integer"]


def integer(name: str, value: object, least: int = 0) -> int:
    """A whole number of at least `least`.

    Raises:
        ValueError: anything else; the message names the argument.

    Example:
        >>> integer("seed", 3)
        3
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, but got {value!r}.")
    return int(value)

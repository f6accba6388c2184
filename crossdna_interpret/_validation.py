"""Checks of arguments, and the stack level for warnings."""

from __future__ import annotations

import sys

import numpy as np

__all__ = ["integer", "level_of_caller"]


def integer(name: str, value: object, least: int = 0) -> int:
    """Check that a value is an integer of at least `least`, and return it.

    Raises:
        ValueError: anything else. The message names the argument.

    Example:
        >>> integer("seed", 3)
        3
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, but got {value!r}.")
    return int(value)


def level_of_caller() -> int:
    """The `stacklevel` for a warning of the calling function: the first frame outside the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        level, frame = level + 1, frame.f_back
    return level

"""The registry of plot functions by result class."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["draw", "draws", "load_pictures_from"]

Function = TypeVar("Function", bound=Callable[..., Any])

_functions: dict[tuple[type, str], Callable[..., Any]] = {}
_modules: list[str] = []


def draws(*results: type, kind: str = "") -> Callable[[Function], Function]:
    """Decorate a function that draws results of these classes.

    Args:
        results: classes of results.
        kind: name of the picture, where there are several of one result.
    """

    def register(function: Function) -> Function:
        for result in results:
            _functions[result, kind] = function
        return function

    return register


def load_pictures_from(module: str) -> None:
    """Name the module that is imported when the first picture is wanted, and that registers what it can draw."""
    _modules.append(module)


def draw(result: object, kind: str = "", **options: Any) -> Any:
    """Draw a result.

    Args:
        result: to be drawn.
        kind: of the picture.
        options: of the function that draws it.

    Returns:
        What that function returns: matplotlib Axes.
    """
    for module in _modules:
        importlib.import_module(module)
    for each in type(result).__mro__:
        if (each, kind) in _functions:
            return _functions[each, kind](result, **options)
    raise TypeError(f"There is no picture {kind!r} of a {type(result).__name__}.")

"""The registry of plot functions by result class."""

from __future__ import annotations

import importlib
import inspect
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
        kind: name of the picture, if a result has several.
    """

    def register(function: Function) -> Function:
        for result in results:
            _functions[result, kind] = function
        return function

    return register


def load_pictures_from(module: str) -> None:
    """Set the module to import for the first picture. It registers its plot functions."""
    _modules.append(module)


def draw(result: object, kind: str = "", **options: Any) -> Any:
    """Draw a result.

    Args:
        result: the result to draw.
        kind: name of the picture.
        options: options of the plot function.

    Returns:
        The result of the plot function: matplotlib Axes.

    Raises:
        TypeError: the result has no such picture, or the picture has no such option.
    """
    for module in _modules:
        importlib.import_module(module)
    for each in type(result).__mro__:
        if (each, kind) in _functions:
            function = _functions[each, kind]
            known = list(inspect.signature(function).parameters)[1:]
            if unknown := [name for name in options if name not in known]:
                name = type(result).__name__
                raise TypeError(
                    f"`{unknown[0]}` is not an option of the plot of a {name}; it has {', '.join(known)}. Pass your "
                    "own `ax` to choose the size of the figure."
                )
            return function(result, **options)
    raise TypeError(f"There is no picture {kind!r} of a {type(result).__name__}.")

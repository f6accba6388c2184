"""A progress bar that appears after two seconds in a terminal or notebook, or a callback instead."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm.std import tqdm

__all__ = ["ProgressCallback", "progress", "progress_callback"]

ProgressCallback = Callable[[str, int, int], None]
_listener: ContextVar[ProgressCallback | None] = ContextVar("listener", default=None)
_shown: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def progress_callback(listener: ProgressCallback) -> Iterator[None]:
    """Context in which long work calls `listener` with its label, the units done and the total, and shows no bar.

    To cancel the work, raise an exception in the callback.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class _CallbackBar(tqdm):
    """A bar that is not shown."""

    def __init__(self, total: int, label: str, listener: ProgressCallback) -> None:
        super().__init__(total=total, desc=label, disable=True)
        self.label, self.of, self.done, self.listener = label, total, 0, listener

    def update(self, n: float | None = 1) -> bool | None:
        self.done += int(n or 0)
        self.listener(self.label, self.done, self.of)
        return None


def _is_interactive() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


@contextmanager
def progress(total: int, label: str, unit: str) -> Iterator[tqdm]:
    """Context that yields a progress bar on stderr over `total` units. Call its ``update(n)`` in the body.

    It is not shown for jobs under two seconds, inside another bar, outside terminals and notebooks, and inside
    `progress_callback`.
    """
    listener = _listener.get()
    if listener is not None:
        with _CallbackBar(total, label, listener) as report:
            yield report
        return
    silent = _shown.get() or not _is_interactive()
    # `miniters` 0: an update by 0 redraws the bar, for example to show the progress of work in the body.
    with tqdm(
        total=total, desc=label, unit=unit, delay=2, leave=False, disable=silent, file=sys.stderr, miniters=0
    ) as bar:
        token = _shown.set(_shown.get() or not silent)
        try:
            yield bar
        finally:
            _shown.reset(token)

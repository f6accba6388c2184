"""A progress bar that appears after two seconds in a terminal or notebook; or a callback in its place."""

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
    """In the body, long work calls `listener` with its label, the units done and the total, and shows no bar.

    An exception that the callback raises ends the work. This is how work is cancelled.
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
    """A bar on stderr over `total` units: call its ``update(n)`` in the body.

    It stays silent for jobs under two seconds, inside another bar, and where stderr is neither a terminal nor a
    notebook. Inside `progress_callback`, nothing is shown.
    """
    listener = _listener.get()
    if listener is not None:
        with _CallbackBar(total, label, listener) as report:
            yield report
        return
    silent = _shown.get() or not _is_interactive()
    # `miniters`: an update by nothing shows what else is new, such as what work inside of the body has come to.
    with tqdm(
        total=total, desc=label, unit=unit, delay=2, leave=False, disable=silent, file=sys.stderr, miniters=0
    ) as bar:
        token = _shown.set(_shown.get() or not silent)
        try:
            yield bar
        finally:
            _shown.reset(token)

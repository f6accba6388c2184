"""A progress bar that appears after two seconds, and only where somebody watches; or whoever wants to know is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm.std import tqdm

__all__ = ["Listener", "followed", "progress"]

Listener = Callable[[str, int, int], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_shown: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def followed(listener: Listener) -> Iterator[None]:
    """Long work in the body tells `listener` its label, what is done and the total, instead of showing a bar.

    What the listener raises ends the work: so it can be cancelled.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class _Told(tqdm):
    """A bar that is not shown."""

    def __init__(self, total: int, label: str, listener: Listener) -> None:
        super().__init__(total=total, desc=label, disable=True)
        self.label, self.of, self.done, self.listener = label, total, 0, listener

    def update(self, n: float | None = 1) -> bool | None:
        self.done += int(n or 0)
        self.listener(self.label, self.done, self.of)
        return None


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


@contextmanager
def progress(total: int, label: str, unit: str) -> Iterator[tqdm]:
    """A bar on stderr over `total` units: call its ``update(n)`` in the body.

    It stays silent for jobs under two seconds, inside another bar, and where stderr is neither a terminal nor a
    notebook. Inside `followed`, nothing is shown.
    """
    listener = _listener.get()
    if listener is not None:
        with _Told(total, label, listener) as told:
            yield told
        return
    silent = _shown.get() or not _watched()
    # `miniters`: an update by nothing shows what else is new, such as what work inside of the body has come to.
    with tqdm(
        total=total, desc=label, unit=unit, delay=2, leave=False, disable=silent, file=sys.stderr, miniters=0
    ) as bar:
        token = _shown.set(_shown.get() or not silent)
        try:
            yield bar
        finally:
            _shown.reset(token)

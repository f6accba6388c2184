"""A progress bar that appears after two seconds, and only where somebody watches."""

from __future__ import annotations

import sys

from tqdm.std import tqdm

__all__ = ["progress"]


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def progress(total: int, label: str, unit: str) -> tqdm:
    """A bar on stderr over `total` units; use it in a ``with`` and call ``update(n)``.

    It stays silent for jobs under two seconds, and where stderr is neither a terminal nor a notebook.
    """
    return tqdm(total=total, desc=label, unit=unit, delay=2, leave=False, disable=not _watched(), file=sys.stderr)

"""The folder in which the package caches downloads and compiled files."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """The folder CROSSDNA_INTERPRET_CACHE, or else a folder in the user's cache folder. It may not exist yet."""
    value = os.environ.get("CROSSDNA_INTERPRET_CACHE")
    if value:
        return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossdna_interpret"

"""Which code is of an installed library, whose version tells what it does."""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from importlib import metadata
from pathlib import Path

__all__ = ["code_of_library", "is_library", "version_of"]


@functools.cache
def is_library(module: str) -> bool:
    """Whether code is Python's, ours, or an installed package's, which versions tell apart."""
    root = module.split(".")[0]
    if root in sys.builtin_module_names or root == __name__.split(".")[0]:
        return True
    file = getattr(sys.modules.get(root), "__file__", None)
    return file is not None and _installed(file)


def code_of_library(code: types.CodeType) -> bool:
    """Whether code is from a file of a library, or from no file, as what `dataclasses` makes."""
    return code.co_filename.startswith("<") or _installed(code.co_filename)


@functools.lru_cache(maxsize=4096)
def _installed(file: str) -> bool:
    """Whether a file is Python's, ours, or an installed package's."""
    if Path(__file__).parents[1] in Path(file).parents:
        return True
    paths = sysconfig.get_paths()
    folders = tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return file.startswith(folders) or not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


@functools.cache
def version_of(root: str) -> str:
    """The version of an installed package; of one that has none, when its file was written."""
    module = sys.modules.get(root)
    for known in (lambda: metadata.version(root), lambda: str(module.__version__)):  # type: ignore[union-attr]
        try:
            return known()
        except Exception:
            continue
    file = getattr(module, "__file__", None)
    return "" if file is None else str(Path(file).stat().st_mtime_ns)

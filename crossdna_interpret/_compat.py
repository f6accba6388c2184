"""Calls of other libraries: without their warnings, without changes to torch's threads, and compiled only once."""

from __future__ import annotations

import functools
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["keep_compiled", "quiet_and_same_threads"]

# Warning filters are global in a process, and numba's parallel loops must not run in two threads at once.
_one_at_a_time = threading.RLock()


@contextmanager
def quiet_and_same_threads() -> Iterator[None]:
    """Context that hides warnings and restores the number of torch threads. Only one thread can be inside.

    The first parallel loop of numba in a process sets the number of OpenMP threads to all cores, regardless of
    OMP_NUM_THREADS. torch shares these threads.
    """
    with _one_at_a_time:
        threads = torch.get_num_threads()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            finally:
                if torch.get_num_threads() != threads:
                    torch.set_num_threads(threads)


@functools.cache
def keep_compiled(module: types.ModuleType) -> None:
    """Let numba keep the compiled functions of a module on disk, as `cache=True` would.

    numba writes to the module's `__pycache__`, or to the user's cache folder if that one is read-only. It compiles
    again after a change of the file, of numba or of the processor.
    """
    for function in vars(module).values():
        if hasattr(function, "enable_caching"):
            try:
                function.enable_caching()
            except (RuntimeError, OSError):  # no folder to write to: compile in each process
                return

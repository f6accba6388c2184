"""Calls of other libraries without their warnings and without changes to torch's threads."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["quiet_and_same_threads"]

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

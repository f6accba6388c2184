"""Calls of other libraries without their warnings and without their effect on torch's threads."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["quiet_and_same_threads"]

# Filters of warnings belong to the process, and numba's parallel loops must not run in two threads at once.
_one_at_a_time = threading.RLock()


@contextmanager
def quiet_and_same_threads() -> Iterator[None]:
    """Warnings in the body are not for the user, and torch has as many threads afterwards as before.

    One thread at a time is in such a body. The first parallel loop that numba runs in a process sets the threads of
    OpenMP, which torch shares, to all cores, regardless of OMP_NUM_THREADS.
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

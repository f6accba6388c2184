"""Calls of the field's libraries, which are to leave nothing behind but their results."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["leaving_no_trace"]


@contextmanager
def leaving_no_trace() -> Iterator[None]:
    """Warnings in the body are not for the user, and torch has as many threads afterwards as before.

    The first parallel loop that numba runs in a process sets the threads of OpenMP, which torch shares, to all cores,
    whatever OMP_NUM_THREADS asks for.
    """
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)

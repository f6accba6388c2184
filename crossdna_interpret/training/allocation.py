"""Memory allocation of the process, for training commands."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next training step. Returns whether this worked.

    A step allocates and frees hundreds of tensors of several megabytes. To get their pages from the system again takes
    a tenth to a third of the step. The setting affects the whole process and cannot be read back. So use it only at the
    start of a command, not in a library.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 1 << 28, _MMAP_THRESHOLD: 1 << 25}
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)

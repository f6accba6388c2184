"""How the process gets its memory, for commands that train."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed for the next step of training, and return whether it will.

    A step makes and drops hundreds of tensors of megabytes; getting their pages anew each time takes a tenth to a third
    of it. This holds for the whole process and cannot be read back, so it is for the start of a command, not for a
    library.
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

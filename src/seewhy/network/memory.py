"""The C library's memory: kept between forwards, rather than given back and fetched again."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)
_LARGEST = 2**31 - 1

_kept = False


def keep_memory() -> None:
    """Let glibc keep up to 2 GB of what tensors give back, for the tensors that come next; elsewhere nothing changes.

    By default it returns large pieces to the system at once and gets them again page by page, which takes a fifth of
    the time of a forward of several pictures. It concerns the whole process and cannot be undone, so commands do it and
    the library does not.
    """
    global _kept
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _LARGEST)
    _kept = True


def is_kept() -> bool:
    """Whether memory is kept: after `keep_memory`, or by the environment variable MALLOC_MMAP_MAX_=0."""
    return _kept or os.environ.get("MALLOC_MMAP_MAX_") == "0"

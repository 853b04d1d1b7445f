"""Keeps freed memory with the process where the C library is glibc, so that the next step need not ask for it again.

A step of training or planning frees large temporaries and wants them back at once; glibc returns them to the system in
between, and every page is mapped and zeroed anew. Called once, where training and acting begin; see design/cpu.md.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

SWITCH = "STEERSMAN_KEEP_MEMORY"
"""Environment variable; "0" leaves the allocator as it is."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
_ADDITIONS = (1 << 31) - 1  # free bytes at the end of the heap before any go back: as many as the call can say
_MAPPED = 32 << 20  # what is larger has pages of its own, and gives them back; glibc takes no larger threshold


@functools.cache
def retain_freed_memory() -> bool:
    """Tell glibc to keep up to 2 GB of freed memory; True if it was told. The process's largest size stays as it is.

    Does nothing on other systems, if `STEERSMAN_KEEP_MEMORY=0`, or if the environment tunes malloc itself
    (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `GLIBC_TUNABLES`).
    """
    tuned = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    tuned |= {"GLIBC_TUNABLES"} if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") else set()
    if sys.platform != "linux" or tuned or os.environ.get(SWITCH) == "0":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_TRIM_THRESHOLD, _ADDITIONS) and library.mallopt(_MMAP_THRESHOLD, _MAPPED))

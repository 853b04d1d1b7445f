"""Whether planners may run what numba compiles (`steersman[fast]`). Knows no planner.

A compiled form gives the values of the plain one to rounding, not bit for bit, so a recorded decision says which of the
two decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from typing import Any

_wanted: ContextVar[bool] = ContextVar("compiled", default=True)


@cache
def compiler() -> str:
    """Version of the compiler that is installed; "" if there is none."""
    try:
        return metadata.version("numba")
    except metadata.PackageNotFoundError:
        return ""


def compiled() -> bool:
    """Whether compiled forms are to be used where there are any: they can be, and were not switched off."""
    return _wanted.get() and bool(compiler())


def kernel(**options: Any) -> Any:
    """numba's decorator as it is used here: kept on disk, without Python's lock, a division by 0 is no error."""
    from numba import njit

    return njit(cache=True, nogil=True, error_model="numpy", **options)


@contextmanager
def compiling(wanted: bool) -> Iterator[None]:
    """Within, compiled forms are used only if `wanted`.

    >>> with compiling(False):
    ...     compiled()
    False
    """
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)

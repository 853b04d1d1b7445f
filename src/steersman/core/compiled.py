"""Whether planners may run what numba compiles (`steersman[fast]`). Knows no planner.

A compiled form gives the values of the plain one to rounding, not bit for bit, so a recorded decision says which of the
two decided.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

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


@cache
def compilable(module: ModuleType) -> None:
    """Lets compiled code call the module's plain functions, which are compiled with it. Python still runs them."""
    from numba.extending import register_jitable

    for function in vars(module).values():
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            register_jitable(error_model="numpy")(function)


def run(function: Any, *arguments: Any) -> None:
    """Call a plain function of numbers and arrays: compiled, if compiled forms are to be used, else as it stands.

    As it stands it is given memoryviews of the arrays, entries of which are numbers of Python's own: that takes two
    thirds of the time.
    """
    if compiled():
        _machine_code(function)(*arguments)
    else:
        function(*map(_view, arguments))


@cache
def _machine_code(function: Any) -> Any:
    compilable(sys.modules[function.__module__])
    return kernel()(function)


def _view(x: Any) -> Any:
    if isinstance(x, tuple):
        return type(x)(*map(_view, x))
    return x.data if isinstance(x, np.ndarray) else x


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

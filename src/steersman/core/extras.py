"""Packages that only some things need: imported where they are used, and asked for by name where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from steersman.core.errors import UsageError


def require(package: str, extra: str) -> Any:
    """The module `package`, which is installed with `steersman[extra]`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        fix = f'install it: pip install "steersman[{extra}]"'
        raise UsageError(f"the package {package}", f"{error}", fix) from error

"""Lazy catalogues: a package's `__init__` names what it offers, and a name is imported when first used.

This keeps torch out of `import steersman`, `--help`, `runs` and `studio`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def catalogue(package: str, names: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for `package`, where `names` maps a public name to its module.

    A module that starts with a dot is relative to `package`; a name that maps to itself is that sub-module.
    """
    public = sorted(names)

    def getattr_(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers: {', '.join(public)}")
        module = importlib.import_module(names[name], package)
        value = module if names[name] == f".{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_, lambda: public, public

"""Lazy catalogues: a package's `__init__` names what it offers, and a name is imported when first used.

This keeps torch out of `import steersman`, `--help`, `runs` and `studio`. The names stand in `__init__.pyi`, which type
checkers and editors read as the package itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader


def catalogue(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for `package`: the names that the stub beside its `file` imports.

    `from .x import y as y` offers a name of a module, `from . import x as x` a sub-module.
    """
    load, listed, public = lazy_loader.attach_stub(package, file)

    def getattr_(name: str) -> Any:
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers: {', '.join(public)}")
        return load(name)

    return getattr_, listed, public

"""Python files of the user's own, named on the command line: a recipe, a schema. Executed, as their author asked."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from steersman.core.errors import SteersmanError, UsageError


def load(path: Path, name: str) -> Any:
    """What the Python file at `path` calls `name`.

    Raises:
        UsageError: no such file, it does not run, or has nothing of this name.
    """
    if not path.is_file():
        raise UsageError(f"a Python file at {path}", "nothing", "check the path")
    try:
        defined = runpy.run_path(str(path), run_name=f"steersman_own_{path.stem}")
    except SteersmanError:
        raise
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{path} to run", line, "correct it (python " + f"{path} shows where)") from error
    if name not in defined:
        raise UsageError(f"`{name}` in {path}", "nothing of that name", f"define {name} there")
    return defined[name]

"""Python files of the user's own, named on the command line: a recipe, a schema. Executed, as their author asked."""

from __future__ import annotations

import importlib.util
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
    spec = importlib.util.spec_from_file_location(f"steersman_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"a Python file at {path}", f"{path.suffix or 'no suffix'}", "name it with .py at the end")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SteersmanError:
        raise
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{path} to run", line, "correct it (python " + f"{path} shows where)") from error
    found = getattr(module, name, None)
    if found is None:
        raise UsageError(f"`{name}` in {path}", "nothing of that name", f"define {name} there")
    return found

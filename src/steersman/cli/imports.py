"""Modules that a person names because they register parts of their own (`core.register`), imported before a run is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steersman.cli.command import Command
from steersman.core.errors import UsageError

Modules = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="import", metavar="MODULE", help_behavior_hint="")
]
"""The option `--import MODULE`."""


@dataclass(frozen=True, kw_only=True)
class Extensible(Command):
    """A command that reads runs, which may hold parts of other people's: `load` comes before the call."""

    imports: Modules = ()
    """A module, or FILE.py, that registers parts of your own; a run never imports one by itself."""


def load(modules: Sequence[str], option: str = "--import") -> None:
    """Import each: the name of a module (also one in the working folder), or the path of a .py file; option: for which.

    Raises:
        UsageError: there is none, or it fails.
    """
    for name in modules:
        try:
            _file(Path(name)) if name.endswith(".py") else _module(name)
        except (Exception, SystemExit) as error:
            got = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"a module that can be imported for {option} {name}", got, "correct it, or its name") \
                from error


def _module(name: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(name)
    finally:
        sys.path.pop(0)


def _file(path: Path) -> None:
    if path.stem in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise

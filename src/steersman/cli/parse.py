"""Words -> a command, with tyro: types from annotations, help from docstrings, suggestions on typos."""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

import tyro

from steersman.cli.command import Command

CONFIG = (tyro.conf.FlagCreatePairsOff,)


def _wrapped(kind: type[Command]) -> str:
    """The help text, its paragraphs as wide as the terminal, at most 80."""
    wide = min(80, shutil.get_terminal_size((80, 24)).columns)
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(paragraph.split()), wide) for paragraph in paragraphs)


def listing(title: str, lines: Mapping[str, str]) -> str:
    """Names and what they are, as a block of `--help`."""
    wide = max(map(len, lines), default=0)
    return "\n".join([f"\n{title}:", *(f"  {name:<{wide}}  {line}" for name, line in lines.items()), ""])


def parse(kind: type[Command], name: str, words: Sequence[str]) -> Command:
    """The command that `words` describe. Leaves by SystemExit: 0 after `--help`, 2 after a usage error."""
    exact = kind.specialised(words)
    try:
        return tyro.cli(exact, prog=f"steersman {name}", description=_wrapped(kind), args=list(words), config=CONFIG)
    except SystemExit as stop:
        if not stop.code:
            lines = "\n".join(f"  {line}" for line in kind.EXAMPLE.splitlines())
            sys.stdout.write(f"{kind.epilogue()}\nexample:\n{lines}\n")
        raise

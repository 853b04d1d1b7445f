"""Words -> a command, with tyro: types from annotations, help from docstrings, suggestions on typos."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from steersman.cli.command import Command

CONFIG = (tyro.conf.FlagCreatePairsOff,)


def parse(kind: type[Command], name: str, words: Sequence[str]) -> Command:
    """The command that `words` describe. Leaves by SystemExit: 0 after `--help`, 2 after a usage error."""
    exact = kind.specialised(words)
    try:
        return tyro.cli(exact, prog=f"steersman {name}", args=list(words), config=CONFIG)
    except SystemExit as stop:
        if not stop.code:
            lines = "\n".join(f"  {line}" for line in kind.EXAMPLE.splitlines())
            sys.stdout.write(f"\nexample:\n{lines}\n")
        raise

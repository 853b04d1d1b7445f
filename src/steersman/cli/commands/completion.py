"""`steersman completion SHELL`: the script that teaches a shell the commands and their options."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from steersman.cli.command import Command, Done
from steersman.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print shell completion for bash or zsh, made from the commands themselves."""

    EXAMPLE: ClassVar[str] = (
        "steersman completion bash > ~/.local/share/bash-completion/completions/steersman\n"
        "steersman completion zsh > ~/.zfunc/_steersman        # with fpath+=~/.zfunc in ~/.zshrc"
    )

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """Which shell."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.cli.app import COMMANDS, command
        from steersman.cli.parse import CONFIG

        kinds = [
            Annotated[command(name), tyro.conf.subcommand(name=name, description=line)]
            for name, line in COMMANDS.items()
        ]
        union: Any = functools.reduce(lambda a, b: a | b, kinds)
        try:
            tyro.cli(union, prog="steersman", args=["--tyro-print-completion", self.shell], config=CONFIG)
        except SystemExit:
            sys.stdout.flush()
        return Done({"shell": self.shell})


COMMAND = Completion

"""`steersman completion SHELL`: the script that teaches a shell the commands and their options."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from steersman.cli.command import Command
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print shell completion for bash or zsh, made from the commands themselves. Other shells (fish, tcsh) are left
    out."""

    EXAMPLE: ClassVar[str] = (
        "steersman completion bash > ~/.local/share/bash-completion/completions/steersman\n"
        "steersman completion zsh > ~/.zfunc/_steersman        # with fpath+=~/.zfunc in ~/.zshrc"
    )

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """Which shell."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.cli.app import COMMANDS, command
        from steersman.cli.parse import CONFIG

        kinds: dict[str, Any] = {}
        groups: dict[str, list[Any]] = {}
        for name, line in COMMANDS.items():
            first, _, second = name.partition(" ")
            kind: Any = command(name)
            kind = Annotated[kind, tyro.conf.subcommand(name=second or first, description=line)]
            kinds[first] = kind
            if second:
                kinds[first] = _group(first, groups.setdefault(first, []), kind)
        try:
            words = ["--tyro-print-completion", self.shell]
            tyro.cli(_union(list(kinds.values())), prog="steersman", args=words, config=CONFIG)
        except SystemExit:
            sys.stdout.flush()
        return Done({"shell": self.shell})


def _group(name: str, members: list[Any], kind: Any) -> Any:
    """A group as one command more: a dataclass whose only field is one of its members."""
    members.append(kind)
    group = make_dataclass(name.title(), [("command", _union(members))])
    return Annotated[group, tyro.conf.subcommand(name=name)]


def _union(kinds: list[Any]) -> Any:
    return functools.reduce(lambda a, b: a | b, kinds)

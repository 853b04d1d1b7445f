"""What every command is: a frozen dataclass of its words, called with a terminal, that says how it ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import tyro

if TYPE_CHECKING:
    from steersman.cli.done import Done
    from steersman.cli.terminal import Terminal


def option(metavar: str | None = None) -> Any:
    """How an option is shown whose default needs no words: `path: Annotated[Path | None, option("FOLDER")] = None`."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """Words of one command. Its docstring is the help text; its fields are the options."""

    EXAMPLE: ClassVar[str]
    """One line that works, printed at the end of `--help`."""
    TOGETHER: ClassVar[bool] = False
    """Whether several processes may run it as one, started by torchrun."""

    json: Annotated[bool, option()] = False
    """End standard output with one JSON object; what is meant for people goes to standard error."""
    debug: Annotated[bool, option()] = False
    """Show the traceback of an error."""

    @abstractmethod
    def __call__(self, terminal: Terminal) -> Done: ...

    @classmethod
    def specialised(cls, words: Sequence[str]) -> type[Self]:
        """The class that parses these words: a sub-class where a word brings options of its own (`--recipe NAME`)."""
        return cls

    @classmethod
    def epilogue(cls) -> str:
        """What `--help` says before the example, e.g. the names that an option takes."""
        return ""

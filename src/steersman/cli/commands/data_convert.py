"""`steersman data convert SRC DST`: a log of one file format as a log of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import tyro

from steersman.cli.command import Command, Done, option
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError
from steersman.studio.quantities import duration, size


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Bring a log into another file format, whole or not at all.

    The name of DST decides its format (`--to` where it does not). What was inferred about the columns of SRC is said.
    """

    EXAMPLE: ClassVar[str] = "steersman data convert log.csv log.parquet --action torque"

    source: Annotated[str, tyro.conf.Positional, option("SRC")]
    """The log to read: a file, a folder, or a Minari dataset id."""
    target: Annotated[Path, tyro.conf.Positional, option("DST")]
    """The log to write; there must be nothing of this name."""
    to: Annotated[str, option("NAME")] = ""
    """The format to write, where the name of DST does not tell."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of a log is inferred from names, types and ranges, and noted."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import data

        if self.target.exists():
            raise UsageError(f"a new name for the log at {self.target}", "one that is in use", "choose another name")
        source = data.read(self.source, read_options(self.log))
        for note in source.notes:
            terminal.say(terminal.style(f"  ! {note}", "warn"))
        with Watcher(terminal) as watcher:
            done = data.convert(source, self.target, format=self.to or None,
                                progress=lambda steps, total: watcher.count("steps", steps, total))
        terminal.say(f"{done.path}: {done.format}, {done.episodes:,} episodes, {done.steps:,} steps, "
                     f"{size(done.bytes)}, {duration(done.seconds)}")
        return Done({"source": self.source, "from": source.format, **msgspec.to_builtins(done)})


COMMAND = Convert

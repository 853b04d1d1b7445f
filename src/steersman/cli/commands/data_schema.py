"""`steersman data schema PATH`: what each column of a log is, as TOML that people edit and hand back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DataSchema(Command):
    """Say what each column of a log is: role, unit, range, update period; and where time ends an episode.

    What nobody said is inferred. Edit the file and give it back with `--schema` to every command that takes a log.
    """

    EXAMPLE: ClassVar[str] = "steersman data schema pendulum.csv --out schema.toml"

    path: Annotated[str, tyro.conf.Positional, option("PATH")]
    """The log: CSV, Parquet, or another format with columns."""
    out: Annotated[Path | None, option("FILE")] = None
    """Where to write it (default: it is printed)."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of a log is inferred from names, types and ranges, and noted."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import data
        from steersman.runs.files import atomic_write

        if self.out is not None and self.out.exists():
            raise UsageError(f"a new name for the schema at {self.out}", "one that is in use", "choose another name")
        source = data.read(self.path, read_options(self.log))
        if source.schema is None:
            raise UsageError("a log with columns", f"{self.path}, a {source.format} log", "its file says it all")
        text = source.schema.toml((f"The columns of {self.path}", *source.notes))
        if self.out is None:
            terminal.say(text.rstrip())
        else:
            atomic_write(self.out, text.encode())
            terminal.say(f"{self.out}: {len(source.schema.columns)} columns")
            for note in source.notes:
                terminal.say(terminal.style(f"  ! {note}", "warn"))
        return Done({"path": self.path, "schema": msgspec.to_builtins(source.schema), "notes": list(source.notes)})

"""`steersman data convert SRC DST`: a log of one file format as a log of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError
from steersman.studio.quantities import duration, size


@dataclass(frozen=True, kw_only=True)
class DataConvert(Command):
    """Bring a log into another file format, whole or not at all.

    The name of DST decides its format (`--to` where it does not; `steersman data formats` lists them). What was
    inferred about the columns of SRC is said, and so is everything that does not survive.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman data convert log.csv log.parquet --action torque\n"
        "steersman data convert log.csv robot --to lerobot --period 0.05"
    )

    source: Annotated[str, tyro.conf.Positional, option("SRC")]
    """The log to read: a file, a folder, or a Minari dataset id."""
    target: Annotated[Path, tyro.conf.Positional, option("DST")]
    """The log to write; there must be nothing of this name."""
    to: Annotated[str, option("NAME")] = ""
    """The format to write, where the name of DST does not tell."""
    repair: Annotated[bool, option()] = False
    """Of an interrupted or damaged log, take the longest prefix that can be verified, and say what is lost."""
    period: Annotated[float | None, option("SECONDS")] = None
    """Bring the rows to an even rate: actions hold, vectors are interpolated, images are the nearest."""
    time_unit: Annotated[float, option("SECONDS")] = 1.0
    """Seconds in one unit of the time column (0.001 for milliseconds)."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of a log is inferred from names, types and ranges, and noted."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import data

        if self.target.exists():
            raise UsageError(f"a new name for the log at {self.target}", "one that is in use", "choose another name")
        options = read_options(self.log)
        repaired = data.repair(self.source, options) if self.repair else None
        source = repaired.source if repaired else data.read(self.source, options)
        for note in source.notes:
            terminal.say(terminal.style(f"  ! {note}", "warn"))
        even = None
        if self.period is not None:
            even = data.resample(source, self.period, self.time_unit)
            source = even.source
        with Watcher(terminal) as watcher:
            done = data.convert(source, self.target, format=self.to or None,
                                progress=lambda steps, total: watcher.count("steps", steps, total))
        for note in [*done.notes[len(source.notes):], *([even.account.words()] if even else []),
                     *((repaired.lost or ("nothing was lost",)) if repaired else ())]:
            terminal.say(terminal.style(f"  ! {note}", "warn"))
        terminal.say(f"{done.path}: {done.format}, {done.episodes:,} episodes, {done.steps:,} steps, "
                     f"{size(done.bytes)}, {duration(done.seconds)}")
        facts = {"source": self.source, "from": source.format, **msgspec.to_builtins(done)}
        facts |= {"lost": list(repaired.lost)} if repaired else {}
        return Done(facts | ({"resampled": even.account.facts()} if even else {}))

"""`steersman init --data PATH`: a recipe for a log, as a Python file that people read and edit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.logs import INFERRED, LogOptions, read_options, words_of
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Init(Command):
    """Propose a recipe for a log: encoder, history, horizon and sizes from what `steersman data doctor` measures.

    The file holds ordinary Python with the reasons beside each choice. Edit it, then train with it:
    `steersman train --recipe recipe.py --data PATH`.
    """

    EXAMPLE: ClassVar[str] = "steersman init --data pendulum.csv --out recipe.py"

    data: Annotated[str, option("PATH")] = ""
    """The log, in any format of `steersman data formats`."""
    out: Annotated[Path, option("FILE")] = Path("recipe.py")
    """The Python file to write; there must be nothing of this name."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of a log is inferred from names, types and ranges, and noted."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import data
        from steersman.data.doctor import examine
        from steersman.recipes.proposal import propose
        from steersman.runs.files import atomic_write

        if not self.data:
            raise UsageError("a log to propose a recipe for", "none", "give --data PATH")
        if self.out.suffix != ".py":
            raise UsageError("a name that ends in .py for the recipe", f"{self.out}", "choose another --out")
        if self.out.exists():
            raise UsageError("a new file for the recipe", f"{self.out}, which exists", "choose another --out")
        options = read_options(self.log)
        source = data.read(self.data, options)
        report = examine(self.data, options)
        atomic_write(self.out, propose(report, source.signature).encode())
        for finding in report.alarms:
            terminal.say(terminal.style(f"  ! {finding.what}", "warn"))
        terminal.say(report.verdict)
        recipe, log = shlex.quote(str(self.out)), shlex.quote(self.data)
        following = f"steersman train --recipe {recipe} --data {log}{words_of(self.log)} --out run"
        terminal.say(f"{self.out}: read it, edit it, then")
        terminal.say(f"  {following}")
        terminal.say("  steersman evaluate run --offline")
        return Done({"path": str(self.out), "data": self.data, "verdict": report.verdict, "next": following,
                     "alarms": [f.kind for f in report.alarms]})

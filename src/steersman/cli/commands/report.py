"""`steersman report RUN`: the self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal
from steersman.studio.quantities import size


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write a run's report: one HTML file with everything in it, to be opened, printed or sent.

    Shows what the run directory holds; nothing is computed again. What is missing is named with the command that
    makes it.
    """

    EXAMPLE: ClassVar[str] = "steersman report runs/two-rooms-1"

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    open: Annotated[bool, option()] = False
    """Open it in the browser."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.studio import build

        path = build(self.run)
        terminal.say(f"{path}  ({size(path.stat().st_size)})")
        if self.open:
            import webbrowser

            webbrowser.open(path.resolve().as_uri())
        return Done({"report": str(path), "bytes": path.stat().st_size, "run": str(self.run)})

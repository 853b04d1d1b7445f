"""`steersman data formats`: the file formats that can be read and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steersman.cli.command import Command
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class DataFormats(Command):
    """List the file formats of logs that can be read and written."""

    EXAMPLE: ClassVar[str] = "steersman data formats"

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.data import FORMATS

        lines = {f.name: (type(f).__doc__ or "").strip().splitlines()[0] for f in FORMATS}
        terminal.pairs(lines)
        return Done({"formats": lines})

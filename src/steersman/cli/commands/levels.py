"""`steersman levels RUN`: what changes in a run, driven by what, and how often: declared beside measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal

if TYPE_CHECKING:
    from steersman.core.ledger import Entry


_HEADER = ("level", "what changes", "energy", "reads", "declared", "measured", "writes", "against slowest")


@dataclass(frozen=True, kw_only=True)
class Levels(Command):
    """Show the levels of a run: what changes, the energy that it descends, what it may read, how often it changes.

    An agent is a nest of energy minimisers, each at its own frequency. A period counts data points from one update to
    the next: as declared, and as counted. The last column counts updates while the slowest level that changes is
    updated once. Training is counted up to the checkpoint, acting in the decisions that are still recorded.
    """

    EXAMPLE: ClassVar[str] = "steersman levels runs/pendulum"

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    checkpoint: str = "latest"
    """Which checkpoint: its name, or its step."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.runs import Run
        from steersman.runs.levels import levels_of

        found = levels_of(Run.open(self.run), self.checkpoint)
        for title, entries in (("training", found.training), ("acting", found.acting)):
            if entries:
                terminal.heading(title, "periods in data points")
                terminal.grid(_HEADER, _rows(entries))
        if not found.training:
            terminal.say("nothing was counted while training: the checkpoint was written by an older version")
        if not found.acting:
            terminal.say("nothing was counted while acting: no decision is recorded (steersman run)")
        return Done({"training": _facts(found.training), "acting": _facts(found.acting)})


def _rows(entries: Mapping[str, Entry]) -> list[tuple[str, ...]]:
    from steersman.runs.levels import against_slowest

    relative = against_slowest(entries)
    return [(name, entry.level.what, entry.level.energy, entry.level.context, _number(entry.level.period),
             _number(entry.period), f"{entry.writes:,}", _number(relative[name])) for name, entry in entries.items()]


def _number(value: float) -> str:
    return "never" if value == math.inf else f"{value:,.4g}"


def _facts(entries: Mapping[str, Entry]) -> dict[str, Any]:
    from steersman.runs.levels import against_slowest

    relative = against_slowest(entries)
    return {name: {
        "what": entry.level.what, "energy": entry.level.energy, "context": entry.level.context,
        "declared": _finite(entry.level.period), "measured": _finite(entry.period), "points": entry.points,
        "writes": entry.writes, "against_slowest": relative[name],
    } for name, entry in entries.items()}


def _finite(value: float) -> float | None:
    """JSON has no infinity: None is never."""
    return None if value == math.inf else value

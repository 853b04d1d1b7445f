"""`steersman evaluate RUN`: a frozen protocol, the random floor beside the agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from steersman.cli.command import Command, Done, option
from steersman.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Measure a trained agent under a frozen protocol: starts, goals, budgets, success test and seeds are fixed by it.

    The random floor is measured on the same starts; starts that already satisfy the goal are rejected; whole paths are
    checked. The table and films go into the run, for the report.
    """

    EXAMPLE: ClassVar[str] = "steersman evaluate runs/demo --protocol held-out --episodes 200 --seed 1 --json"

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    protocol: Annotated[str, option("NAME")] = ""
    """Which protocol (default: the recipe's own)."""
    episodes: int = 200
    """Episodes."""
    seed: int = 0
    """Starts, goals and planning."""
    checkpoint: str = "latest"
    """Which checkpoint acts."""

    def __call__(self, terminal: Terminal) -> Done:
        raise NotImplementedError


COMMAND = Evaluate

"""`steersman demo`: the main job, whole, on a world that ships with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """The main job, whole, in minutes on two cores.

    Makes a log of random wandering in two rooms (pixels; wall and door vary), learns a world model from it, plans to
    goals in the other room on layouts like those of the log and on layouts never seen, with and without a forbidden
    place on the way, and leaves a report.
    """

    EXAMPLE: ClassVar[str] = "steersman demo --seed 0 --json"

    seed: int = 0
    """All randomness starts here: log, training, layouts, planning."""
    out: Annotated[Path | None, option("RUN")] = None
    """The new run directory (default: a new one under runs/)."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.recipes.demo import demo
        from steersman.runs import new_run_path
        from steersman.runs.artefacts import Summary, Table, read_all
        from steersman.studio import build

        path = self.out or new_run_path("runs", "demo")
        terminal.after_interrupt = f"; what was written so far is in {path}"
        with Watcher(terminal) as watcher:
            facts = demo(path, self.seed, watcher)
        report = build(path)
        for table in read_all(path, Table)[0]:
            terminal.table(table)
        terminal.say()
        for summary in read_all(path, Summary)[0]:
            terminal.say(terminal.style(summary.learned, "bold"))
        terminal.say(f"report {report}")
        return Done(facts)

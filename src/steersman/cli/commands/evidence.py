"""`steersman evidence [NAME]`: the experiments behind the printed figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal
from steersman.studio.quantities import duration


@dataclass(frozen=True, kw_only=True)
class Evidence(Command):
    """Perform the experiment behind a figure that README, documentation or a note prints.

    Without a name: list the experiments. With one: run it, print its table (random floor, seeds and intervals beside
    each other), and leave a picture and `evidence.json` in its run directory.
    """

    EXAMPLE: ClassVar[str] = "steersman evidence pendulum --seed 0 --json"

    name: Annotated[str, tyro.conf.Positional, option("[NAME]")] = ""
    """Which experiment; none lists them."""
    seed: int = 0
    """All of its randomness starts here."""
    out: Annotated[Path | None, option("FOLDER")] = None
    """Its run directory (default: a new one under runs/)."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import evidence

        if not self.name:
            terminal.heading("experiments", "steersman evidence NAME [--seed N] [--json]")
            terminal.pairs([(name, line) for name, (_, line) in evidence.EXPERIMENTS.items()])
            return Done({"experiments": {name: line for name, (_, line) in evidence.EXPERIMENTS.items()}})
        function = evidence.experiment(self.name)
        from steersman.cli.progress import Watcher
        from steersman.runs import new_run_path

        path = self.out or new_run_path("runs", f"evidence-{self.name}")
        with Watcher(terminal) as watcher:
            context = evidence.Context(path, self.seed, say=watcher.say, progress=watcher)
            result, outcome = evidence.perform(self.name, function, context)
        for table in outcome.tables:
            terminal.table(table)
        terminal.say()
        terminal.say(f"{duration(result.seconds)}; report: {path / 'report' / 'report.html'}")
        return Done(msgspec.to_builtins(result))

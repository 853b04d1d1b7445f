"""`steersman evidence [NAME]`: the experiments behind the printed figures, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal
from steersman.studio.quantities import duration

if TYPE_CHECKING:
    from steersman.evidence import Experiment


@dataclass(frozen=True, kw_only=True)
class Evidence(Command):
    """Perform the experiment behind a figure that README, documentation or a note prints.

    Without a name: list the experiments. With one: perform its usual cells, each of at most six minutes on two cores,
    all of them within 25; print its table (random floor, seeds and intervals beside each other), and leave pictures
    and `evidence.json` in its run directory. Cells are kept there: stopped and called again, it goes on; a cell whose
    code or settings changed is performed again. A cell that fails is named, and the others go on.
    """

    EXAMPLE: ClassVar[str] = "steersman evidence pendulum --seed 0 --json"

    name: Annotated[str, tyro.conf.Positional, option("[NAME]")] = ""
    """Which experiment; none lists them."""
    seed: int = 0
    """All of its randomness starts here."""
    full: Annotated[bool, option()] = False
    """All cells, the long tail included."""
    cell: Annotated[str, option("ROW")] = ""
    """The cells of one row, of all rows below it, or one cell (ROW@SEED), with those that they need."""
    list: Annotated[bool, option()] = False
    """List the cells with what is kept of them; perform none."""
    keep_stale: Annotated[bool, option()] = False
    """Take cells from other code or settings as they are, marked."""
    out: Annotated[Path | None, option("FOLDER")] = None
    """Its run directory (default: runs/evidence-NAME-seed-N)."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import evidence

        if not self.name:
            terminal.heading("experiments", "steersman evidence NAME [--seed N] [--full] [--cell ROW] [--list] …")
            terminal.pairs([(name, line) for name, (_, line) in evidence.EXPERIMENTS.items()])
            return Done({"experiments": {name: line for name, (_, line) in evidence.EXPERIMENTS.items()}})
        experiment = evidence.experiment(self.name)
        path = self.out or Path("runs") / f"evidence-{self.name}-seed-{self.seed}"
        if self.list:
            return self._listed(terminal, experiment, path)
        from steersman.cli.progress import Watcher

        order = evidence.Order(self.seed, self.full, self.cell, self.keep_stale)
        terminal.after_interrupt = "; finished cells are kept, the same command goes on"
        with Watcher(terminal) as watcher:
            result, outcome = evidence.perform(experiment, path, order, say=watcher.say, progress=watcher)
        *tables, cells = outcome.tables
        for table in [*tables, cells] if result.failed or result.stale else tables:
            terminal.table(table)
        terminal.say()
        for note in () if result.failed or result.stale else cells.notes:
            terminal.say(note)
        terminal.say(f"{duration(result.seconds)}; report: {path / 'report' / 'report.html'}")
        return Done(msgspec.to_builtins(result), code=1 if result.failed else 0)

    def _listed(self, terminal: Terminal, experiment: Experiment, path: Path) -> Done:
        from steersman import evidence

        entries = evidence.survey(experiment.table(self.seed), path)
        terminal.heading(f"cells of {self.name}", f"seed {self.seed}, {path}")
        terminal.grid(("cell", "part", "stated", "state", "took", "when"), [
            (e.cell.name, "usual" if e.cell.usual else "full", duration(e.cell.seconds), e.state,
             duration(e.kept.seconds) if e.kept else "", e.kept.date[:16] if e.kept else "") for e in entries])
        return Done({"name": self.name, "seed": self.seed, "run": str(path), "cells": {
            e.cell.name: {"usual": e.cell.usual, "stated": e.cell.seconds, "state": e.state,
                          "seconds": e.kept.seconds if e.kept else None, "needs": [n.name for n in e.cell.needs]}
            for e in entries}})

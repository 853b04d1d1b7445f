"""`steersman data doctor PATH`: what is the matter with a log, and what it can teach, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.terminal import Terminal
from steersman.studio import quantities as q

if TYPE_CHECKING:
    from steersman.data.doctor import Report

_SIGNS = {"bad": ("✗", "bad"), "warn": ("!", "warn"), "note": ("·", "dim")}


@dataclass(frozen=True, kw_only=True)
class DataDoctor(Command):
    """Examine a log before anything is trained on it.

    Looks for what is broken (gaps, NaN, constant, copied and stuck columns, saturated actions, leakage), and measures
    by held-out regression what the action does, how soon, how deterministic the next step is and how far ahead one can
    see. Broken logs, too: what training would refuse is a finding here. Fails (exit code 1) if something must be
    repaired first.
    """

    EXAMPLE: ClassVar[str] = "steersman data doctor pendulum.csv --html pendulum.html"

    path: Annotated[str, tyro.conf.Positional, option("PATH")]
    """The log: a file or folder of any format of `steersman data formats`."""
    html: Annotated[Path | None, option("FILE")] = None
    """Write the page with pictures, too: one file that needs nothing else."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of a log is inferred from names, types and ranges, and noted."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.data.doctor import examine

        report = examine(self.path, read_options(self.log))
        _say(terminal, report)
        if self.html is not None:
            from steersman.runs.files import atomic_write
            from steersman.studio.diagnosis import diagnosis

            atomic_write(self.html, diagnosis(report).encode())
            terminal.say(f"page {self.html}")
        facts = msgspec.to_builtins(report) | {"alarms": len(report.alarms)}
        return Done(facts, code=1 if any(f.state == "bad" for f in report.findings) else 0)


def _say(terminal: Terminal, report: Report) -> None:
    from steersman.studio.diagnosis import headlines

    terminal.heading(f"{report.format} log {report.path}", f"examined in {q.duration(report.seconds)}")
    rate = [("rate", f"{report.rate:g} rows per unit of time")] if report.rate else []
    terminal.pairs([*((title, f"{value}  {note}") for title, value, note in headlines(report)), *rate])
    terminal.heading("findings" if report.findings else "nothing is the matter with its form")
    for finding in report.findings:
        sign, style = _SIGNS[finding.state]
        where = f" (row {', '.join(f'{r:,}' for r in finding.rows[:3])}…)" if finding.rows else ""
        terminal.say(f"  {terminal.style(sign, style)} {finding.what}{terminal.style(where, 'dim')}")
        if finding.fix:
            terminal.say(f"    {terminal.style('→ ' + finding.fix, style)}")
    if report.observations:
        terminal.heading("observations", "that are no columns of numbers")
        shape = ["×".join(map(str, o.shape)) for o in report.observations]
        terminal.grid(("name", "kind", "shape", "what was measured"), [
            (o.name, o.kind, size, o.words) for o, size in zip(report.observations, shape, strict=True)])
    if report.columns:
        _say_columns(terminal, report)
    if report.visibility is not None:
        terminal.heading("pictures and actions", "what pictures apart by so many rows tell of the action between them")
        terminal.pairs([(f"{s.rows} {'row' if s.rows == 1 else 'rows'}", f"R² {s.told:.2f} ± {s.error:.2f}")
                        for s in report.visibility.strides])
        terminal.say(f"  {report.visibility.words}")
        if report.visibility.growth is not None:
            terminal.say(f"  more of it: {report.visibility.growth.words}")
    terminal.heading("verdict")
    terminal.say(f"  {report.verdict}")
    for line in report.advice:
        terminal.say(f"  → {line}")
    terminal.say()


def _say_columns(terminal: Terminal, report: Report) -> None:
    effects = {e.name: e for e in report.dynamics.effects}
    rows = []
    for c in report.columns[:40]:
        e = effects.get(c.name)
        span = "" if c.low is None else f"{q.number(c.low)} to {q.number(c.high)}"
        told = [q.number(x, "share") for x in (e.alone, e.acted, e.past)] if e else ["", "", ""]
        rows.append((c.name, c.role, c.unit, span, *told))
    terminal.heading("columns", "not told of a step's change: by the observation alone, with the action, with the past")
    terminal.grid(("name", "role", "unit", "range", "alone", "action", "past"), rows)

"""What people see while a command works: lines, aligned tables, and at the end one JSON object for machines.

With --json, text for people goes to standard error. Knows artefacts; knows no command.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import msgspec

from steersman.cli.done import Done
from steersman.runs.artefacts import Figure, Table
from steersman.studio import quantities as q

_STYLES = {"bold": "1", "dim": "2", "good": "32", "warn": "33", "bad": "31", "accent": "36"}


class Terminal:
    """The stream for people, and what it can do."""

    def __init__(self, json: bool = False, stream: TextIO | None = None) -> None:
        self.json = json
        self.stream = stream or (sys.stderr if json else sys.stdout)
        self.interactive = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.interactive and not os.environ.get("NO_COLOR")
        self.after_interrupt = ""
        """What to add when the keyboard stops the command: how to go on."""

    @property
    def width(self) -> int:
        return shutil.get_terminal_size((100, 40)).columns if self.interactive else 100

    def style(self, text: str, *names: str) -> str:
        """Text in a style where the stream shows styles."""
        if not self.colour or not text or not any(names):
            return text
        return f"\x1b[{';'.join(_STYLES[name] for name in names)}m{text}\x1b[0m"

    def say(self, text: str = "") -> None:
        """One line, now."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def heading(self, text: str, aside: str = "") -> None:
        self.say()
        self.say(self.style(text, "bold") + (self.style(f"  {aside}", "dim") if aside else ""))

    def pairs(self, rows: Sequence[tuple[str, Any]] | Mapping[str, Any]) -> None:
        """Labels and values, aligned."""
        rows = [(k, v) for k, v in (rows.items() if isinstance(rows, Mapping) else rows) if v not in (None, "")]
        self._aligned([[(label, "dim"), (f"{value}", "")] for label, value in rows], (False, False))

    def grid(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of words under a header; columns of numbers (by their header) to the right."""
        lines = [[(name, "dim") for name in header]] if any(header) else []
        lines += [[(cell, "") for cell in row] for row in rows]
        self._aligned(lines, [name in ("size", "numbers", "value") for name in header])

    def table(self, table: Table) -> None:
        """A table of figures: agents bold, baselines plain, intervals dim."""
        setting = ", ".join(f"{k} {_plain(v)}" for k, v in list(table.protocol.items())[:4])
        self.heading(table.title, setting)
        places = {c.key: q.column_places(c, (row.figures.get(c.key) for row in table.rows)) for c in table.columns}
        spans = {c.key: any(_has_interval(row.figures.get(c.key)) for row in table.rows) for c in table.columns}
        lines, group = [[("", "dim")]], ""
        for column in table.columns:
            lines[0] += [(q.heading(column), "dim"), ("", "dim")][: 1 + spans[column.key]]
        for row in table.rows:
            if row.group and row.group != group:
                group = row.group
                lines.append([(group, "accent")])
            weight = "bold" if row.kind == "agent" else ""
            line = [("  " * bool(row.group) + row.label, weight)]
            for column in table.columns:
                figure, form = row.figures.get(column.key, Figure(value=None)), (column.form, places[column.key])
                line.append((q.number(figure.value, *form), weight))
                line += [(q.interval(figure, *form), "dim")] if spans[column.key] else []
            lines.append(line)
        self._aligned(lines, [False] + [True] * len(lines[0]))
        for note in table.notes:
            self.say(self.style(f"  {note}", "dim"))

    def _aligned(self, rows: Sequence[Sequence[tuple[str, str]]], right: Sequence[bool]) -> None:
        """Rows of cells (text, style), those of a column equally wide; a row may have fewer cells than another."""
        count = max(map(len, rows), default=0)
        widths = [max(cells(row[i][0]) for row in rows if i < len(row)) for i in range(count)]
        for row in rows:
            aligned = [self.style(pad(text, wide, to_the_right), style)
                       for (text, style), wide, to_the_right in zip(row, widths, right, strict=False)]
            self.say(("  " + "  ".join(aligned)).rstrip())

    def finish(self, done: Done) -> None:
        """The last line of standard output, if a machine asked for it."""
        if self.json:
            sys.stdout.write(msgspec.json.encode(done.facts, enc_hook=_plain).decode() + "\n")
            sys.stdout.flush()


def _has_interval(figure: Figure | None) -> bool:
    return figure is not None and figure.low is not None and figure.high is not None


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value if isinstance(value, (int, float)) else str(value)


def cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def pad(text: str, wide: int, right: bool = False) -> str:
    blank = " " * max(0, wide - cells(text))
    return blank + text if right else text + blank

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
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(_STYLES[name] for name in names)}m{text}\x1b[0m"

    def say(self, text: str = "") -> None:
        """One line, now."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def heading(self, text: str, aside: str = "") -> None:
        self.say()
        self.say(self.style(text, "bold") + (self.style(f"  {aside}", "dim") if aside else ""))

    def pairs(self, rows: Sequence[tuple[str, Any]] | Mapping[str, Any], indent: int = 2) -> None:
        """Labels and values, aligned."""
        rows = [(k, v) for k, v in (rows.items() if isinstance(rows, Mapping) else rows) if v not in (None, "")]
        wide = max((cells(label) for label, _ in rows), default=0)
        for label, value in rows:
            self.say(" " * indent + self.style(pad(label, wide), "dim") + f"  {value}")

    def grid(self, header: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> None:
        """Rows of words under a header; columns of numbers (by their header) to the right."""
        numeric = [name in ("size", "numbers", "value") for name in header]
        widths = [max(map(cells, column)) for column in zip(header, *rows, strict=True)]
        for row in [header, *rows] if any(header) else rows:
            aligned = [pad(cell, wide, right) for cell, wide, right in zip(row, widths, numeric, strict=True)]
            text = (" " * indent + "  ".join(aligned)).rstrip()
            self.say(self.style(text, "dim") if row is header else text)

    def table(self, table: Table) -> None:
        """A table of figures: agents bold, baselines plain, intervals dim."""
        setting = ", ".join(f"{k} {_plain(v)}" for k, v in list(table.protocol.items())[:4])
        self.heading(table.title, setting)
        places = {c.key: q.column_places(c, (row.figures.get(c.key) for row in table.rows)) for c in table.columns}
        spans = {c.key: any(_has_interval(row.figures.get(c.key)) for row in table.rows) for c in table.columns}
        header, lines = [""], []
        for column in table.columns:
            header += [q.heading(column), ""] if spans[column.key] else [q.heading(column)]
        for row in table.rows:
            line = [("  " if row.group else "") + row.label]
            for column in table.columns:
                figure = row.figures.get(column.key, Figure(value=None))
                line.append(q.number(figure.value, column.form, places[column.key]))
                if spans[column.key]:
                    line.append(q.interval(figure, column.form, places[column.key]))
            lines.append((row, line))
        self._figures(header, lines)
        for note in table.notes:
            self.say(self.style(f"  {note}", "dim"))

    def _figures(self, header: list[str], lines: list[tuple[Any, list[str]]]) -> None:
        widths = [max(map(cells, column)) for column in zip(header, *(line for _, line in lines), strict=True)]
        widths[0] = max([widths[0], *(cells(row.group) for row, _ in lines)])
        self.say(self.style("  " + "  ".join(pad(h, w, right=i > 0) for i, (h, w) in
                                             enumerate(zip(header, widths, strict=True))).rstrip(), "dim"))
        group = ""
        for row, line in lines:
            if row.group and row.group != group:
                group = row.group
                self.say(f"  {self.style(group, 'accent')}")
            parts = []
            for i, (cell, wide) in enumerate(zip(line, widths, strict=True)):
                text = pad(cell, wide, right=i > 0)
                is_interval = i > 0 and not header[i]
                parts.append(self.style(text, "dim") if is_interval else
                             self.style(text, "bold") if row.kind == "agent" else text)
            self.say(("  " + "  ".join(parts)).rstrip())

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

"""What an experiment is made of: cells, what a cell gets and gives back, and the summary of those that are there.

Knows no experiment, no torch, and not how cells are performed and kept (`performing`, `kept`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from steersman.core.errors import UsageError
from steersman.runs.artefacts import KINDS, Artefact, Table, image_bytes, read_all

R = TypeVar("R", bound=msgspec.Struct)

LONGEST = 360.0
"""Seconds that a cell may state, on two cores."""
_ROW = re.compile(r"[A-Za-z0-9][\w.=-]*(/[A-Za-z0-9][\w.=-]*)*", re.ASCII)

Figures = Mapping[str, Mapping[str, Any]]
"""{row: {key: number}}; the row "" stands for an experiment whose table has one row. A number may be None (not
measured) or a list of numbers (one a seed, a step, an episode)."""


def silent(message: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Cell:
    """One piece of an experiment that is performed in one go, kept, and never performed twice.

    row       what is measured: "pendulum/vicreg"; cells of one row differ in their seed
    perform   a function of a module: it gets a `Context` and returns what it `Found`
    seconds   what it takes on two cores, stated; at most 360
    seed      all of its randomness starts here
    settings  what else it depends on: a frozen msgspec Struct, or None
    needs     cells that are performed before it, once for all that need them; it reads what they left
    usual     whether the plain command performs it; else `--full`, or `--cell`, or a cell that needs it

    Raises:
        UsageError: a row that is no such name, a time that no cell may take, a function that cannot be named.
    """

    row: str
    perform: Callable[[Context], Found]
    seconds: float
    seed: int = 0
    settings: Any = None
    needs: tuple[Cell, ...] = ()
    usual: bool = True

    def __post_init__(self) -> None:
        if not _ROW.fullmatch(self.row):
            raise UsageError("a row of letters, digits, . _ - = and /", repr(self.row), "rename it")
        if not 0 < self.seconds <= LONGEST:
            got = f"{self.seconds:g} in {self.row}"
            raise UsageError(f"a cell of at most {LONGEST:g} seconds", got, "cut it into several cells")
        if "<" in getattr(self.perform, "__qualname__", "<"):
            raise UsageError(f"a function of a module that performs {self.row}", repr(self.perform),
                             "name a function and put what it depends on into settings")

    @property
    def name(self) -> str:
        """Row and seed: "pendulum/vicreg@1"."""
        return f"{self.row}@{self.seed}"

    @property
    def folder(self) -> str:
        """Name of the folder that it is kept in: "pendulum+vicreg@1"."""
        return self.name.replace("/", "+")


@dataclass(frozen=True)
class Found:
    """What a cell found.

    figures    {row: {key: number}}: of its own row, or of several
    record     what the summary wants besides (returns of every episode, …): a frozen msgspec Struct that JSON can hold
    artefacts  tables, pictures and films with their image files (name -> content), for the summary to show

    Files that the function left in its folder are kept as well, for the summary and for cells that need this one.
    """

    figures: Figures = field(default_factory=dict)
    record: msgspec.Struct | None = None
    artefacts: tuple[tuple[Artefact, Mapping[str, bytes]], ...] = ()


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that a cell left."""

    size: int
    sha256: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`cell.json`.

    row, seed, settings  of the cell
    figures    {row: {key: number}}
    record     what the cell recorded besides; null: nothing
    seconds    that it took
    date       when it was finished, UTC
    machine    system, processor and its name, cores
    versions   Python, torch, numpy
    hash       of code, settings, versions and needed cells
    files      everything else in the folder
    sha256     seal of this file
    """

    format: int = 1
    row: str
    seed: int
    settings: Any
    figures: dict[str, dict[str, Any]]
    record: Any
    seconds: float
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    hash: str
    files: dict[str, File]
    sha256: str = ""


@dataclass(frozen=True)
class Finished:
    """A cell with what is kept of it.

    folder  what it left: files that it wrote, artefacts
    stale   whether code, settings or versions are others by now
    """

    cell: Cell
    kept: Kept
    folder: Path
    stale: bool = False

    def record(self, kind: type[R]) -> R:
        """What the cell recorded besides its figures."""
        return msgspec.convert(self.kept.record, kind)

    def artefacts(self) -> Iterator[tuple[Artefact, dict[str, bytes]]]:
        """What the cell left for people to look at, with the image files."""
        for kind in KINDS:
            for artefact in read_all(self.folder, kind)[0]:
                yield artefact, {name: image_bytes(self.folder, kind, name) for name in artefact.images()}


@dataclass(frozen=True)
class Context:
    """What a cell may use.

    folder    its own, empty at first and kept with what is in it; nothing is written elsewhere
    seed      the cell's
    settings  the cell's
    needs     the cells that it needs, performed, in the order in which it names them; to be read, not to be changed
    say       tells people what is going on, one line a call
    progress  hand it to `training.train(progress=…)`; None when nobody watches
    """

    folder: Path
    seed: int
    settings: Any = None
    needs: tuple[Finished, ...] = ()
    say: Callable[[str], None] = silent
    progress: Callable[..., None] | None = None


@dataclass(frozen=True)
class Results:
    """The cells that there are results of, in the order of their declaration. Some may be missing: those that nobody
    asked for, or that failed. A summary shows what is there.

    seed      the experiment's
    finished  at least one
    """

    seed: int
    finished: tuple[Finished, ...]

    def __iter__(self) -> Iterator[Finished]:
        return iter(self.finished)

    def of(self, row: str) -> list[Finished]:
        """The seeds of a row that are there."""
        return [one for one in self.finished if one.cell.row == row]

    def below(self, row: str) -> list[Finished]:
        """Those of all rows that begin with `row` and a slash: of "pendulum", "pendulum/vicreg" and the like."""
        return [one for one in self.finished if one.cell.row.startswith(f"{row}/")]


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    figures    under the names that the documentation promises
    tables     the same for people: random floor, seeds and intervals beside each other
    artefacts  pictures and curves with their image files (name -> content)
    """

    figures: Figures
    tables: tuple[Table, ...] = ()
    artefacts: tuple[tuple[Artefact, Mapping[str, bytes]], ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A table of cells and its summary.

    cells    the experiment's seed -> its cells; a cell stands behind those that it needs
    summary  the results that are there -> what to print
    """

    name: str
    cells: Callable[[int], Sequence[Cell]]
    summary: Callable[[Results], Outcome]

    def table(self, seed: int) -> tuple[Cell, ...]:
        """The cells, those among them that are only needed included.

        Raises:
            UsageError: two cells of one name.
        """
        found: dict[str, Cell] = {}

        def add(cell: Cell) -> None:
            for need in cell.needs:
                add(need)
            if found.setdefault(cell.name, cell) != cell:
                raise UsageError(f"one cell {cell.name} of {self.name}", "two", "give them other rows or seeds")

        for cell in self.cells(seed):
            add(cell)
        return tuple(found.values())

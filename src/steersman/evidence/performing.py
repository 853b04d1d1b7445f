"""Perform an experiment: what is kept and fresh is skipped, the rest performed and kept one by one, then summed up.

A cell that fails loses only itself and those that need it. Knows no experiment, no torch.
"""

from __future__ import annotations

import difflib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import RunError, SteersmanError, StorageError, UsageError
from steersman.evidence import kept as keep
from steersman.evidence.cell import Cell, Context, Experiment, Figures, Finished, Kept, Outcome, Results, silent
from steersman.evidence.kept import Hashes, State
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table, write
from steersman.runs.files import atomic_write, remove
from steersman.studio import build


@dataclass(frozen=True)
class Order:
    """What is asked for: the usual cells, or all (`full`), or those of one row (`cell`) with what they need.

    cell        a row, its beginning up to a slash ("pendulum"), or one cell ("pendulum/vicreg@1")
    keep_stale  take stale cells as they are, and mark them
    """

    seed: int = 0
    full: bool = False
    cell: str = ""
    keep_stale: bool = False


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One performed experiment, as `evidence.json` and the last line of `--json` hold it.

    figures  {row: {key: number}}, or the keys directly where the table has one row
    seconds  of all cells that the figures rest on, whenever they were performed
    failed   cell -> why it failed; stale: cells whose code or settings are others by now. Left out where empty
    """

    name: str
    seed: int
    figures: dict[str, Any]
    seconds: float
    run: str
    failed: dict[str, str] = {}
    stale: list[str] = []


@dataclass(frozen=True)
class Entry:
    """A cell, and what is kept of it, if anything sound."""

    cell: Cell
    state: State
    hash: str
    kept: Kept | None = None
    words: str = ""


@dataclass
class _Session:
    """One performance of an experiment."""

    folder: Path
    order: Order
    say: Callable[[str], None]
    progress: Callable[..., None] | None
    hashes: Hashes = field(default_factory=Hashes)
    finished: dict[str, Finished] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def perform(
    experiment: Experiment, folder: Path, order: Order = Order(), *,
    say: Callable[[str], None] = silent, progress: Callable[..., None] | None = None,
) -> tuple[Result, Outcome]:
    """Perform what is asked for in the run directory `folder`, new or of the same experiment and seed; the result, and
    what to show: the last table is that of the cells themselves.

    Leaves the cells under `cells/`, the summary's tables and pictures, `evidence.json` and the report there. After
    Ctrl-C or kill -9 the same call goes on with the next cell.

    Raises:
        UsageError: no cell of the row that is asked for.
        RunError: something else is at `folder`. LockedError: another process performs it.
        StorageError: the disk refused what is not a cell's.
    """
    cells = experiment.table(order.seed)
    chosen = {cell.name for cell in choose(cells, order)}
    with _run(experiment.name, folder, order.seed) as run:
        session = _Session(folder, order, say, progress)
        entries = survey(cells, folder, session.hashes)
        left = [entry for entry in entries if entry.cell.name in chosen]
        for number, entry in enumerate(left, 1):
            _settle(session, entry, f"cell {number} of {len(left)}")
        for entry in entries:
            if entry.state == "kept" and entry.kept is not None and entry.cell.name not in chosen:
                session.finished[entry.cell.name] = Finished(entry.cell, entry.kept, place(folder, entry.cell))
        in_order = tuple(session.finished[c.name] for c in cells if c.name in session.finished)
        outcome = _summed(experiment, Results(order.seed, in_order), session)
        outcome = Outcome(outcome.figures, (*outcome.tables, _cells_table(cells, session)), outcome.artefacts)
        for table in outcome.tables:
            write(run.path, table)
        for artefact, images in outcome.artefacts:
            write(run.path, artefact, images)
        seconds = round(sum(one.kept.seconds for one in in_order), 2)
        stale = [one.cell.name for one in in_order if one.stale]
        result = Result(experiment.name, order.seed, _shown(outcome.figures), seconds, str(run.path), session.failed,
                        stale)
        run.write_json("evidence.json", result)
        build(run.path)
    return result, outcome


def place(folder: Path, cell: Cell) -> Path:
    """Where a cell is kept in the run directory `folder`."""
    return folder / "cells" / cell.folder


def choose(cells: Sequence[Cell], order: Order) -> list[Cell]:
    """The cells that are asked for, with all that they need, in order.

    Raises:
        UsageError: no cell of that row; the nearest is named.
    """
    wanted = [c for c in cells if order.full or c.usual]
    if order.cell:
        wanted = [c for c in cells if order.cell in (c.name, c.row) or c.row.startswith(f"{order.cell}/")]
        if not wanted:
            rows = list(dict.fromkeys(c.row for c in cells))
            near = difflib.get_close_matches(order.cell, rows, 1)
            fix = f"did you mean {near[0]!r}?" if near else "--list shows them"
            raise UsageError(f"a row of {', '.join(rows[:8])}{', …' * (len(rows) > 8)}", repr(order.cell), fix)
    names: set[str] = set()

    def add(cell: Cell) -> None:
        names.add(cell.name)
        for need in cell.needs:
            add(need)

    for cell in wanted:
        add(cell)
    return [c for c in cells if c.name in names]


def survey(cells: Sequence[Cell], folder: Path, hashes: Hashes | None = None) -> list[Entry]:
    """What is kept of each cell at `folder`, in order; hashes: of the code as it is now."""
    hashes = hashes or Hashes()
    found: dict[str, Entry] = {}
    for cell in cells:
        fresh = hashes.of(cell, [found[need.name].hash for need in cell.needs])
        try:
            kept = keep.read(place(folder, cell))
        except SteersmanError as error:
            found[cell.name] = Entry(cell, "damaged", fresh, words=error.got)
            continue
        state: State = "missing" if kept is None else "kept" if kept.hash == fresh else "stale"
        found[cell.name] = Entry(cell, state, fresh, kept)
    return list(found.values())


# Cells -----------------------------------------------------------------------------------------------------------


def _settle(session: _Session, entry: Entry, which: str) -> None:
    """Take a cell as it is kept, or perform it."""
    cell = entry.cell
    name, folder = cell.name, place(session.folder, cell)
    broken = [need.name for need in cell.needs if need.name in session.failed]
    if broken:
        session.failed[name] = f"not performed: it needs {', '.join(broken)}"
        return
    if entry.kept is not None and (entry.state == "kept" or session.order.keep_stale):
        session.finished[name] = Finished(cell, entry.kept, folder, entry.state == "stale")
        session.say(f"{which}: {name} is {'stale and kept all the same' if entry.state == 'stale' else 'kept'}")
        return
    why = {"stale": ", whose code or settings changed", "damaged": f", which was damaged ({entry.words})"}
    session.say(f"{which}: {name}{why.get(entry.state, '')}, about {cell.seconds:g} s")
    needs = tuple(session.finished[need.name] for need in cell.needs)
    report = session.folder / "failures" / f"{cell.folder}.txt"
    try:
        session.finished[name] = _performed(session, cell, needs, folder)
        remove(report)
    except Exception as error:
        words = _words(error)
        session.failed[name] = words
        session.say(f"{name} failed: {words}")
        with suppress(StorageError):  # a full disk is named already
            atomic_write(report, traceback.format_exc().encode())


def _words(error: Exception) -> str:
    """An error in one line."""
    return str(error) if isinstance(error, SteersmanError) else " ".join(f"{type(error).__name__}: {error}".split())


def _performed(session: _Session, cell: Cell, needs: tuple[Finished, ...], folder: Path) -> Finished:
    began = time.perf_counter()
    with keep.keeping(folder) as work:
        context = Context(work, cell.seed, cell.settings, needs, session.say, session.progress)
        found = cell.perform(context)
        for artefact, images in found.artefacts:
            write(work, artefact, images)
        mark = session.hashes.of(cell, [need.kept.hash for need in needs])
        kept = keep.write(work, cell, found, round(time.perf_counter() - began, 2), mark)
    return Finished(cell, kept, folder, any(need.stale for need in needs))


@contextmanager
def _run(name: str, folder: Path, seed: int) -> Iterator[Run]:
    """The experiment's run directory, open for writing."""
    recipe, seeds = f"evidence/{name}", {"seed": seed}
    if not (folder / "manifest.json").exists():
        with Run.create(folder, recipe=recipe, config={}, seeds=seeds, data={}) as run:
            yield run
        return
    run = Run.open(folder)
    if (run.manifest.recipe, run.manifest.seeds) != (recipe, seeds):
        got = f"{run.manifest.recipe} with {', '.join(f'{k} {v}' for k, v in run.manifest.seeds.items())}"
        raise RunError(f"a new folder, or {recipe} with seed {seed}, at {folder}", got, "choose another name")
    with run.writer():
        yield run


# Summing up ------------------------------------------------------------------------------------------------------


def _summed(experiment: Experiment, results: Results, session: _Session) -> Outcome:
    """The summary of what is there. Where cells failed, one that cannot do without them fails as well."""
    if not results.finished:
        return Outcome({})
    try:
        return experiment.summary(results)
    except Exception as error:
        if not session.failed:
            raise
        session.failed["summary"] = _words(error)
        return Outcome({})


def _shown(figures: Figures) -> dict[str, Any]:
    """Figures as they are printed: rows, or the keys of the only one. Numbers that are not finite are None."""
    plain: dict[str, Any] = keep.plain(figures)
    return dict(plain[""]) if list(plain) == [""] else plain


def _cells_table(cells: Sequence[Cell], session: _Session) -> Table:
    """What the figures rest on, cell by cell; failures and stale ones in words."""
    rows = [
        Row(label=f"{c.name}{' (stale)' * session.finished[c.name].stale}", figures={
            "seconds": Figure(value=session.finished[c.name].kept.seconds), "stated": Figure(value=c.seconds)})
        for c in cells if c.name in session.finished
    ]
    rows += [Row(label=f"{name} (failed)", figures={}) for name in session.failed]
    stale = [one.cell.name for one in session.finished.values() if one.stale]
    notes = [f"{name} failed: {words}." for name, words in session.failed.items()]
    if stale:
        notes.append(f"Stale, from other code or settings: {', '.join(stale)}.")
    missing = [c for c in cells if c.name not in session.finished and c.name not in session.failed]
    if missing:
        notes.append(f"{len(missing)} of {len(cells)} cells are not performed: --full performs them, or --cell ROW.")
    return Table(name="cells", title="Cells", order=1000, rows=tuple(rows), notes=tuple(notes), columns=(
        Column(key="seconds", title="took", form="seconds"), Column(key="stated", title="stated", form="seconds")))

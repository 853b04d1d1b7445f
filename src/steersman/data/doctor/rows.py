"""The rows of a log as they are, sound or not: columns of numbers, roles, episodes, time. What is broken becomes a
finding instead of an error, and is set aside, so that the rest can still be looked at.

Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steersman.core.errors import DataError
from steersman.data.doctor.pictures import Album
from steersman.data.doctor.report import Finding, some
from steersman.data.formats.cutting import fewest
from steersman.data.roles import settle
from steersman.data.schema import Column, Schema
from steersman.data.source import ReadOptions
from steersman.data.timing import Bounds, Spacing, clock, cut, held, rows_per_update, spacing, stretches

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """A log.

    schema   roles, as inferred or said; every column that is used is in `values`
    values   column -> (R,) float64, empty cells NaN
    number   (R,) row of the file that each row was
    bounds   episodes, cut at gaps in time
    recorded  episodes before they were cut
    time     (R,) or None
    spacing  of the time, or None
    every    column -> rows from one measurement to the next, where that is more than one
    images   name -> what is kept of its frames
    """

    schema: Schema
    values: dict[str, Array]
    number: Array
    bounds: Bounds
    recorded: Bounds
    time: Array | None = None
    spacing: Spacing | None = None
    every: dict[str, int] = field(default_factory=dict)
    images: dict[str, Album] = field(default_factory=dict)

    def matrix(self, names: Sequence[str]) -> Array:
        """(R, len(names)), empty cells between measurements held."""
        columns = [held(self.values[n], self.bounds) if n in self.every else self.values[n] for n in names]
        return np.stack(columns, 1) if columns else np.empty((len(self.number), 0))

    @cached_property
    def inner(self) -> Array:
        """(R,) bool: rows with a row before them in their episode."""
        inside = np.zeros(len(self.number), bool)
        for start, stop in self.bounds:
            inside[start + 1 : stop] = True
        return inside

    @cached_property
    def ends(self) -> tuple[Array, Array]:
        """(R,) the first and the last row of each row's episode; 0 outside of all."""
        first, last = np.zeros(len(self.number), int), np.zeros(len(self.number), int)
        for start, stop in self.bounds:
            first[start:stop], last[start:stop] = start, stop - 1
        return first, last

    def change(self, name: str) -> Array:
        """(R,) by how much a column differs from the row before; NaN where there is none, or a cell is empty."""
        with np.errstate(invalid="ignore"):
            change = np.diff(self.values[name], prepend=np.nan)
        change[~(self.inner & np.isfinite(change))] = np.nan
        return change

    @property
    def observed(self) -> tuple[str, ...]:
        """Observed columns of numbers."""
        return tuple(n for n in self.schema.of("observation") if n in self.values)

    @property
    def acted(self) -> tuple[str, ...]:
        return tuple(n for n in self.schema.action if n in self.values)


def lay_out(
    data: pa.Table, options: ReadOptions, where: str, albums: Mapping[str, Album] | None = None, more: bool = False
) -> tuple[Rows, list[Finding]]:
    """A table as rows, and what was the matter with its form. `albums`: images that the table does not hold; `more`: it
    is not all that is observed.

    Raises:
        DataError: not even two rows with a column of numbers.
    """
    findings: list[Finding] = []
    data = _without_duplicates(data, findings)
    values, images = _columns(data, findings)
    images |= albums or {}
    schema = _roles(data, values, images, options, where, findings, more)
    keys = [name for name in (schema.episode, schema.time) if name]
    number = np.arange(data.num_rows)
    code = _codes(data, schema.episode)
    time = _time(data, schema.time, findings)
    order = _order(code, time, schema.sort, findings) if keys else None
    if order is not None:
        number, code = number[order], code[order]
        values = {name: value[order] for name, value in values.items()}
        images = {name: album.ordered(order) for name, album in images.items()}
        time = None if time is None else time[order]
    recorded = tuple(pairwise([0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(code)])) if len(code) else ()
    recorded, time = _clocked(recorded, time, schema, number, findings)
    bounds, found = _gaps(recorded, time, schema, number, findings)
    bounds = _long_enough(bounds, recorded, number, fewest(schema), findings)
    if not bounds:
        raise DataError(f"episodes of at least {fewest(schema)} rows in {where}", "none", "record some steps")
    rows = Rows(schema, values, number, bounds, recorded, time, found, images=images)
    return replace(rows, every=_every(rows)), findings


# Columns ---------------------------------------------------------------------------------------------------------


def _without_duplicates(data: pa.Table, findings: list[Finding]) -> pa.Table:
    names = data.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        findings.append(Finding(
            kind="duplicate-names", state="bad", what=f"several columns are called {', '.join(twice)}",
            fix="rename them", columns=tuple(twice)))
        data = data.select([names.index(name) for name in dict.fromkeys(names)])
    return data


def _columns(data: pa.Table, findings: list[Finding]) -> tuple[dict[str, Array], dict[str, Album]]:
    values: dict[str, Array] = {}
    images: dict[str, Album] = {}
    for item in data.schema:
        column, kind = data[item.name], item.type
        if pa.types.is_fixed_size_binary(kind):
            sizes = tuple(int(n) for n in (item.metadata or {}).get(b"shape", b"").decode().split(",") if n.isdigit())
            if len(sizes) == 3 and int(np.prod(sizes)) == kind.byte_width:
                images[item.name] = Album.of(column.combine_chunks(), sizes)
        elif pa.types.is_boolean(kind):
            values[item.name] = column.cast(pa.int8()).cast(pa.float64()).to_numpy()
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            values[item.name] = column.cast(pa.float64(), safe=False).to_numpy()
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            numbers = _text(item.name, column, findings)
            if numbers is not None:
                values[item.name] = numbers
    return values, images


def _text(name: str, column: pa.ChunkedArray, findings: list[Finding]) -> Array | None:
    """Text that holds numbers, most of it at least; None if it is words."""
    values, wrong = _parsed(column)
    commas = len(wrong) >= 0.5 * max(len(values), 1)
    if commas:
        values, others = _parsed(pc.replace_substring(column.cast(pa.string()), ",", "."))
        if len(others) >= 0.05 * len(values):
            return None
    if len(wrong):
        word = f"such as {column[int(wrong[0])].as_py()!r:.40}"
        findings.append(Finding(
            kind="not-numbers", state="bad", columns=(name,), rows=some(wrong.tolist()), figures={"rows": len(wrong)},
            what=f"{name} is written with decimal commas ({word})" if commas else
                 f"{name} holds text in {len(wrong):,} rows among numbers ({word})",
            fix="write decimal points" if commas else "replace the text by numbers or empty cells"))
    return values


def _parsed(column: pa.ChunkedArray) -> tuple[Array, Array]:
    """Text as numbers where it is some, and the rows where it is not."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    number = pc.match_substring_regex(text, r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
    filled = pc.if_else(pc.fill_null(number, False), text, pa.scalar(None, pa.string()))
    values: Array = filled.cast(pa.float64()).to_numpy(zero_copy_only=False)
    words = pc.fill_null(pc.and_(pc.invert(number), pc.not_equal(text, "")), False)
    return values, np.flatnonzero(words.to_numpy(zero_copy_only=False))


def _roles(
    data: pa.Table, values: dict[str, Array], images: dict[str, Album], options: ReadOptions, where: str,
    findings: list[Finding], more: bool,
) -> Schema:
    plain = {name for name in data.column_names if not pa.types.is_nested(data.schema.field(name).type)}
    usable = [name for name in data.column_names if name in values or name in images]
    usable += [name for name in images if name not in usable]
    keys = [name for name in data.column_names if name in plain and name not in usable]
    try:
        schema, _ = settle([*keys, *usable], tuple(images), options, where, more)
    except DataError as error:
        findings.append(Finding(kind="roles", state="bad", what=str(error), fix=error.fix))
        columns = {name: Column(role="observation") for name in usable}
        return Schema(columns=columns, no_action=options.no_action)
    role = {name: "ignored" for name in keys if schema.columns[name].role in ("observation", "action", "exogenous")}
    changed = {name: msgspec.structs.replace(schema.columns[name], role=r) for name, r in role.items()}
    if role:
        findings.append(Finding(
            kind="words", state="note", columns=tuple(role), what=f"{', '.join(role)} holds words: it is not looked at",
            fix="give each word a number, if a model should know it"))
    return msgspec.structs.replace(schema, columns=schema.columns | changed)


# Episodes and time -----------------------------------------------------------------------------------------------


def _codes(data: pa.Table, column: str | None) -> Array:
    """(R,) a whole number for each episode, in order of appearance."""
    if column is None:
        return np.zeros(data.num_rows, int)
    codes = pc.fill_null(data[column].combine_chunks().dictionary_encode(null_encoding="encode").indices, -1)
    whole: Array = codes.to_numpy(zero_copy_only=False)
    return whole


def _time(data: pa.Table, column: str | None, findings: list[Finding]) -> Array | None:
    if column is None:
        return None
    try:
        time = clock(data[column])
    except (pa.ArrowException, TypeError, ValueError):
        findings.append(Finding(
            kind="time-not-numbers", state="bad", columns=(column,), what=f"the time column {column} holds no times",
            fix="name another time column (--time)"))
        return None
    empty = np.flatnonzero(~np.isfinite(time))
    if len(empty):
        findings.append(Finding(
            kind="missing-times", state="bad", columns=(column,), rows=some(empty.tolist()),
            what=f"{len(empty):,} rows have no time", fix="fill in the times or drop those rows",
            figures={"rows": len(empty)}))
        return None
    return time


def _order(code: Array, time: Array | None, asked: bool, findings: list[Finding]) -> Array | None:
    """Rows in the order of their episodes, if those are torn apart; None: they are in order."""
    first = np.flatnonzero(np.diff(code, prepend=code[0] - 1 if len(code) else 0))
    torn = len(first) - len(np.unique(code[first]))
    if not torn and not asked:
        return None
    if torn and not asked:
        findings.append(Finding(
            kind="interleaved-episodes", state="bad", rows=some(first[-torn:].tolist()),
            what=f"rows of one episode are not together: episodes come back {torn:,} times",
            fix="sort the rows (--sort), or give episodes different ids", figures={"times": torn}))
    order: Array = np.lexsort((time, code)) if time is not None else np.argsort(code, kind="stable")
    return order


def _clocked(
    recorded: Bounds, time: Array | None, schema: Schema, number: Array, findings: list[Finding]
) -> tuple[Bounds, Array | None]:
    """Time that stands still or goes back inside an episode."""
    if time is None:
        return recorded, None
    steps = np.diff(time)
    inside = np.ones(len(steps), bool)
    inside[[stop - 1 for _, stop in recorded if stop - 1 < len(steps)]] = False
    back, still = np.flatnonzero((steps < 0) & inside), np.flatnonzero((steps == 0) & inside)
    name = schema.time or ""
    starts = time[[start for start, _ in recorded]].min() if recorded else 0.0
    anew = back[time[back + 1] <= starts + 1e-9] if schema.episode is None else back[:0]
    if len(anew) and len(anew) == len(back):
        findings.append(Finding(
            kind="unmarked-episodes", state="bad", columns=(name,), rows=some(number[anew + 1].tolist()),
            what=f"{name} starts anew {len(anew):,} times, and no column tells the episodes apart",
            fix="add an episode column", figures={"times": len(anew)}))
        recorded = tuple(pairwise([0, *(anew + 1).tolist(), len(time)]))
        back = back[:0]
    if len(back):
        findings.append(Finding(
            kind="time-goes-back", state="bad", columns=(name,), rows=some(number[back + 1].tolist()),
            what=f"{name} goes back in {len(back):,} places inside an episode",
            fix="sort the rows (--sort), mark the episodes, or name another time column (--time)",
            figures={"rows": len(back)}))
    if len(still):
        findings.append(Finding(
            kind="repeated-times", state="bad", columns=(name,), rows=some(number[still + 1].tolist()),
            what=f"{name} stands still in {len(still):,} places: rows were written twice or the clock is too coarse",
            fix="drop the repeated rows, or log a finer clock", figures={"rows": len(still)}))
    return recorded, time


def _gaps(
    recorded: Bounds, time: Array | None, schema: Schema, number: Array, findings: list[Finding]
) -> tuple[Bounds, Spacing | None]:
    found = None if time is None else spacing(time, recorded)
    if time is None or found is None:
        return recorded, None
    name = schema.time or ""
    factor = found.gap if schema.gap is None else schema.gap
    period = schema.sampling_period or found.period
    if found.spread > 0.5:
        findings.append(Finding(
            kind="irregular-sampling", state="warn", columns=(name,),
            what=f"the time between rows varies: the middle four fifths of it span {found.spread:.0%} of the median",
            fix="record at a fixed rate, or resample: one action must act for one known time",
            figures={"spread": found.spread}))
    rates = _rates(recorded, time, name, number)
    if rates is not None:
        findings.append(rates)
    if not factor:
        return recorded, found
    bounds = cut(time, recorded, factor * period)
    if len(bounds) > len(recorded):
        starts = sorted({start for start, _ in bounds} - {start for start, _ in recorded})
        longest = max(time[s] - time[s - 1] for s in starts)
        findings.append(Finding(
            kind="gaps", state="warn", columns=(name,), rows=some(number[starts].tolist()),
            what=f"rows are missing in {len(starts):,} places (the longest gap is {longest / period:,.0f} periods of "
                 f"{period:g}); episodes end there",
            fix="find out why the recorder lost rows; what was lost cannot be learned from",
            figures={"gaps": len(starts), "longest": longest / period}))
    return bounds, found


def _rates(recorded: Bounds, time: Array, name: str, number: Array) -> Finding | None:
    """Whether some episodes, or long parts of them, were recorded at another steady rate than the rest."""
    total = sum(stop - start for start, stop in recorded)
    period, at, weight = [], [], []
    for a, b in stretches(recorded, 12):
        if b - a >= 6:
            low, middle, high = np.quantile(np.diff(time[a:b]), [0.2, 0.5, 0.8])
            if middle > 0 and high - low < 0.2 * middle:
                period.append(middle)
                at.append(a)
                weight.append(b - a)
    if len(period) < 4:
        return None
    periods, rows = np.array(period), np.array(weight)
    usual = float(np.median(np.repeat(periods, np.maximum(rows * 200 // total, 1))))
    odd = np.abs(np.log(periods / usual)) > 0.15
    if not odd.any():
        return None
    other = float(np.median(periods[odd]))
    return Finding(
        kind="rate-change", state="bad", columns=(name,), rows=some(number[np.array(at)[odd]].tolist()),
        what=f"{rows[odd].sum() / total:.0%} of the log is recorded every {other:.4g} instead of every {usual:.4g}: a "
             "step lasts longer or shorter there",
        fix="resample the log to one rate (data convert --period), or train on one of them",
        figures={"share": float(rows[odd].sum() / total), "period": other, "usual": usual})


def _long_enough(bounds: Bounds, recorded: Bounds, number: Array, least: int, findings: list[Finding]) -> Bounds:
    whole = set(recorded)
    lone = [start for start, stop in bounds if stop - start < least and (start, stop) in whole]
    if lone:
        findings.append(Finding(
            kind="one-row-episodes", state="bad", rows=some(number[lone].tolist()),
            what=f"{len(lone):,} episodes have a single row: no step can be learned from them", fix="drop them",
            figures={"episodes": len(lone)}))
    return tuple((start, stop) for start, stop in bounds if stop - start >= least)


def _every(rows: Rows) -> dict[str, int]:
    """Columns that are plainly measured less often than rows are written; none if all are (then rows are repeated)."""
    found = {}
    for name in rows.observed:
        stated = rows.schema.columns[name].update_period
        if stated is not None:
            period = 1.0 if rows.spacing is None else rows.schema.sampling_period or rows.spacing.period
            found[name] = max(1, round(stated / period))
        else:
            found[name] = rows_per_update(rows.values[name], rows.bounds)
    slow = {name: every for name, every in found.items() if every > 1}
    return slow if len(slow) < len(found) else {}

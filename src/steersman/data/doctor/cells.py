"""Single cells that are wrong: empty, out of range, codes for "no value", glitches, the next episode's first row.

Robust statistics: what is unusual is judged against the column's own habits, not against fixed sizes.

Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows

LARGEST = float(np.finfo(np.float32).max)


def missing(rows: Rows) -> Iterator[Finding]:
    """Cells that are empty, not a number, infinite, or too large for float32."""
    last = np.zeros(len(rows.number), bool)
    last[[stop - 1 for _, stop in rows.bounds]] = True
    last[[stop - 1 for _, stop in rows.recorded]] = True
    for name in (*rows.observed, *rows.acted, *(n for n in rows.schema.exogenous if n in rows.values)):
        if name in rows.every:
            continue
        bad = ~(np.abs(rows.values[name]) <= LARGEST)
        if rows.schema.columns[name].role != "observation":
            bad &= ~last
        at = np.flatnonzero(bad)
        if not len(at):
            continue
        share = len(at) / len(bad)
        endless = int(np.isinf(rows.values[name][at]).sum())
        what = "infinite" if endless == len(at) else "empty or not a number"
        yield Finding(
            kind="missing-values", state="bad", columns=(name,), rows=some(rows.number[at].tolist()),
            what=f"{name} is {what} in {len(at):,} rows ({share:.1%})",
            fix="repair those rows, or drop the column; if it is measured less often than rows are written, say so "
                "(update_period in the schema)",
            figures={"rows": len(at), "share": share})


def out_of_range(rows: Rows) -> Iterator[Finding]:
    """Values outside of the range that the schema states."""
    for name, column in rows.schema.columns.items():
        if column.range is None or name not in rows.values:
            continue
        low, high = column.range
        slack = 1e-5 * (high - low)
        outside = np.flatnonzero((rows.values[name] < low - slack) | (rows.values[name] > high + slack))
        if len(outside):
            yield Finding(
                kind="out-of-range", state="bad", columns=(name,), rows=some(rows.number[outside].tolist()),
                what=f"{name} leaves its range [{low:g}, {high:g}] in {len(outside):,} rows",
                fix="correct the log or the range", figures={"rows": len(outside)})


def codes(rows: Rows, name: str) -> Iterator[Finding]:
    """One value, met several times, far outside of all others, or leapt to from anywhere: a code for "no value" (-999,
    9999, 0 in kelvin, 0 in between)."""
    values = rows.values[name]
    good = values[np.isfinite(values)]
    for extreme, side in ((good.min(), 1), (good.max(), -1)):
        count = int((good == extreme).sum())
        rest = good[good != extreme]
        if count < 3 or count > 0.2 * len(good) or len(rest) < 20:
            continue
        nearest, far = (rest.min(), rest.max()) if side > 0 else (rest.max(), rest.min())
        if abs(nearest - extreme) > 2 * abs(far - nearest):
            yield _code(rows, name, extreme, rest)
            return
    yield from _dropouts(rows, name, good)


def _dropouts(rows: Rows, name: str, good: Array) -> Iterator[Finding]:
    """A value inside the range that comes back exactly, in a column whose other values hardly ever do, and that is
    entered by leaps."""
    sample = good[:: max(1, len(good) // 200_000)]
    levels, counts = np.unique(sample, return_counts=True)
    most = int(counts.argmax())
    if counts[most] < 5 or len(levels) < 0.3 * (len(sample) - counts[most]):
        return
    value, change = float(levels[most]), rows.change(name)
    here = rows.values[name] == value
    before = np.append(False, here[:-1])
    known = np.isfinite(change)
    leaps = [np.abs(change[edge & known]) for edge in (here & ~before, before & ~here)]  # there, and back
    usual = np.quantile(np.abs(change[known & ~here & ~before]), 0.95)
    if len(leaps[0]) >= 4 and here.mean() < 0.5 and min(np.median(x) if len(x) else 0 for x in leaps) > 3 * usual > 0:
        yield _code(rows, name, value, good[good != value])


def _code(rows: Rows, name: str, value: float, rest: Array) -> Finding:
    at = np.flatnonzero(rows.values[name] == value)
    return Finding(
        kind="sentinel-values", state="bad", columns=(name,), rows=some(rows.number[at].tolist()),
        what=f"{name} is exactly {value:g} in {len(at):,} rows, leaps there and back, and otherwise lies between "
             f"{rest.min():g} and {rest.max():g}: this looks like a code for a missing value",
        fix="make these cells empty and repair or drop the rows", figures={"value": float(value), "rows": len(at)})


def spikes(rows: Rows, name: str) -> Iterator[Finding]:
    """Values far off the line between their neighbours, there and back at once."""
    values, change = rows.values[name], rows.change(name)
    back = np.append(change[1:], np.nan)
    off = np.abs(change - back) / 2
    good = np.isfinite(off)
    if good.sum() < 50:
        return
    step = np.abs(change[np.isfinite(change)])
    usual, far = np.quantile(off[good], [0.9, 0.99])
    most = np.quantile(step, 0.99)
    if not usual > 0:
        return
    limit = max(min(12 * usual, max(3 * far, 1.3 * _span(values))), 5 * min(far, 4 * usual), 1.5 * most)
    with np.errstate(invalid="ignore"):
        at = np.flatnonzero((off > limit) & (np.abs(change + back) < 0.3 * np.abs(change)))
    count = int((values[at] == np.nanmin(values)).sum()), int((values[at] == np.nanmax(values)).sum())
    if not len(at) or len(at) > 0.05 * good.sum() or max(count) >= max(3, 0.5 * len(at)):
        return
    yield Finding(
        kind="spikes", state="warn", columns=(name,), rows=some(rows.number[at].tolist()),
        what=f"{name} leaps away and back within a row in {len(at):,} places, by up to "
             f"{off[at].max() / max(np.median(step), 1e-30):,.0f} times its usual change",
        fix="repair those rows: a glitch of the sensor is not the world's doing", figures={"rows": len(at)})


def _span(values: Array) -> float:
    return float(np.subtract(*np.nanquantile(values, [0.995, 0.005])))


def resets(rows: Rows, names: list[str]) -> Iterator[Finding]:
    """Last rows of episodes that lie where episodes begin: recorders that write the observation after a reset."""
    whole = [(start, stop) for start, stop in rows.recorded if stop - start >= 6]
    if len(whole) < 5 or not names:
        return
    begin, end = (np.array(x) for x in zip(*whole, strict=True))
    end = end - 1
    wide = np.zeros((len(whole), len(names)), bool)
    near = np.zeros_like(wide)
    for i, name in enumerate(names):
        values, change = rows.values[name], np.abs(rows.change(name))
        inner = change.copy()
        inner[end] = np.nan
        fine = inner[np.isfinite(inner)]
        if not len(fine):
            return
        wide[:, i] = change[end] > 2 * np.quantile(fine, 0.999)
        low, high = np.nanmin(values[begin]), np.nanmax(values[begin])
        slack = 0.02 * (high - low)
        near[:, i] = (values[end] >= low - slack) & (values[end] <= high + slack)
    hit = wide.any(1) & near.all(1)
    if hit.sum() >= max(3, 0.1 * len(whole)):
        yield Finding(
            kind="reset-rows", state="bad", rows=some(rows.number[end[hit]].tolist()), columns=tuple(names[:4]),
            what=f"the last row of {int(hit.sum()):,} of {len(whole):,} episodes leaps to where episodes begin: it is "
                 "the first observation of the next one",
            fix="drop the last row of each episode, or log the final observation before the reset",
            figures={"episodes": int(hit.sum())})

"""How a column behaves over many rows: constant, slow, stuck, coarse, at its end, starting anew, counting.

Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows

_TURNS = (2 * np.pi, 360.0, 1.0, 24.0, *(2.0**k for k in (8, 10, 12, 14, 15, 16, 24, 31, 32)))


def is_constant(rows: Rows, name: str) -> bool:
    values = rows.values.get(name)
    if values is None:
        return False
    good = values[np.isfinite(values)]
    return len(good) > 1 and bool(good.max() - good.min() <= 1e-12 * np.abs(good).max())


def constant(rows: Rows, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        role = rows.schema.columns[name].role
        fix = "let it vary in the log: a model cannot learn what it does" if role == "action" else "ignore the column"
        yield Finding(
            kind="constant-action" if role == "action" else "constant-column",
            state="bad" if role == "action" else "warn", columns=(name,),
            what=f"{name} never changes (it is {np.nanmin(rows.values[name]):g})", fix=fix)


def slow(rows: Rows) -> Iterator[Finding]:
    for name, every in rows.every.items():
        if rows.schema.columns[name].update_period is None:
            yield Finding(
                kind="slow-column", state="warn", columns=(name,),
                what=f"{name} is measured once in {every} rows; the rows between are no measurements",
                fix="nothing need be done: they are left out of losses; update_period in the schema makes sure",
                figures={"every": every})


def counter(rows: Rows, name: str) -> Iterator[Finding]:
    change = rows.change(name)
    change = change[np.isfinite(change)]
    if len(change) < 20:
        return
    middle = float(np.median(change))
    if middle != 0 and (np.abs(change - middle) <= 1e-4 * abs(middle)).mean() > 0.99:
        yield Finding(
            kind="counter", state="warn", columns=(name,),
            what=f"{name} grows by {middle:g} with every row: it counts rows or tells the time",
            fix=f"give it the role of time, or ignore it (--time {name})", figures={"step": middle})


def wrapped(rows: Rows, live: Sequence[str]) -> Iterator[Finding]:
    """Leaps from one end of the range to the other that nothing else takes part in."""
    leaps = {name: _leaps(rows, name) for name in live}
    for name, at in leaps.items():
        if not len(at):
            continue
        others = [o for o in live if o != name and o not in rows.every]
        together = [np.abs(rows.change(o)[at]) > 2 * _habit(rows, o) for o in others]
        if together and np.mean(together, 0).mean() > 0.3:
            continue
        values, change = rows.values[name], np.abs(rows.change(name))
        turn, span = float(np.median(change[at])), float(np.nanmax(values) - np.nanmin(values))
        known = any(abs(span - t) < 0.05 * t for t in _TURNS)
        even = np.ptp(change[at]) < 0.15 * span and len(at) >= 8
        if known or even:
            yield Finding(
                kind="wrapped-angle", state="warn", columns=(name,), rows=some(rows.number[at].tolist()),
                what=f"{name} leaps by {turn:.4g} in {len(at):,} places, from one end of its range to the other: an "
                     "angle or a count that starts anew",
                fix="log its sine and cosine instead (of a count: the sum)",
                figures={"rows": len(at), "turn": span})


def _leaps(rows: Rows, name: str) -> Array:
    """Rows that lie at the other end of the range than the row before, where rows otherwise move little."""
    values, change = rows.values[name], np.abs(rows.change(name))
    good = np.isfinite(change)
    span = float(np.nanmax(values) - np.nanmin(values))
    wide = good & (np.where(good, change, 0.0) > 0.75 * span)
    share = wide.sum() / max(good.sum(), 1)
    if wide.sum() < 2 or share > 0.25 or name in rows.every:
        return np.zeros(0, int)
    rest = change[good & ~wide]
    return np.flatnonzero(wide) if len(rest) > 20 and np.quantile(rest, 0.999) < 0.5 * span else np.zeros(0, int)


def _habit(rows: Rows, name: str) -> float:
    change = np.abs(rows.change(name))
    return float(np.quantile(change[np.isfinite(change)], 0.99))


def coarse(rows: Rows, names: Sequence[str]) -> Iterator[Finding]:
    """Columns that take few values on an even grid, so coarse that small motion is lost."""
    grids = {name: grid for name in names if (grid := _grid(rows, name)) is not None}
    if len(grids) == len(names) and all(step == round(step) for step, _, _ in grids.values()):
        return  # a world of whole numbers
    for name, (step, levels, still) in grids.items():
        if still > 0.1 or levels <= 24:
            yield Finding(
                kind="coarse-values", state="warn", columns=(name,),
                what=f"{name} takes only {levels:,} values, {step:g} apart, and stays at one in {still:.0%} of steps: "
                     "it is rounded so coarsely that small motion is lost",
                fix="log more digits, or a finer sensor", figures={"levels": levels, "step": step, "still": still})


def _grid(rows: Rows, name: str) -> tuple[float, int, float] | None:
    """Step, number of levels, and how often the column stays at one; None unless its values form an even grid."""
    values = rows.values[name]
    good = values[np.isfinite(values)]
    levels = np.unique(good[:: max(1, len(good) // 100_000)])
    if not 5 <= len(levels) <= min(300, 0.05 * len(good)):
        return None
    step = float(np.diff(levels).min())
    place = (levels - levels[0]) / step
    if np.abs(place - np.round(place)).max() > 0.02 or place[-1] > 20 * len(levels):
        return None
    change = rows.change(name)
    moved = np.abs(change[np.isfinite(change)]) / step
    still, some_moved = float((moved < 0.5).mean()), moved[moved >= 0.5]
    if not len(some_moved) or (step == round(step) and np.quantile(some_moved, 0.9) > 2.5):
        return None
    return step, len(levels), still


# Stretches of stillness ------------------------------------------------------------------------------------------


def stuck(rows: Rows, name: str) -> Iterator[Finding]:
    """A long stretch of one value in a column that otherwise changes with every row."""
    values, change = rows.values[name], rows.change(name)
    at = np.flatnonzero(np.isfinite(change))
    begin, length = dead(change[at] == 0, at)
    # pauses at the column's lowest or highest value are walls, unless there are few, and long ones
    ends = np.isin(values[begin], [np.nanmin(values), np.nanmax(values)])
    brief = ends & ((length < 50) | (len(begin) > 3) | _visited(values, values[begin], length))
    begin, length = begin[~brief], length[~brief]
    if len(begin):
        yield Finding(
            kind="stuck-sensor", state="warn", columns=(name,), rows=some(rows.number[begin].tolist()),
            what=f"{name} keeps one value for up to {int(length.max()) + 1:,} rows ({len(begin):,} times), and "
                 "otherwise changes with almost every row: a sensor or its line was dead",
            fix="drop those rows", figures={"stretches": len(begin), "longest": float(length.max() + 1)})


def _visited(values: Array, ends: Array, length: Array) -> Array:
    """Whether a value is often met outside of its long stretches."""
    return np.array([(values == v).sum() > 1.2 * (n + 1) for v, n in zip(ends, length, strict=True)], bool)


def per_episode(rows: Rows, name: str) -> bool:
    """Whether a column changes from episode to episode only: a goal, a setting."""
    change = rows.change(name)
    return len(rows.bounds) > 1 and bool((change[np.isfinite(change)] == 0).all())


def dead(still: Array, at: Array) -> tuple[Array, Array]:
    """Rows where long stretches of stillness begin, and how long they are; none where stillness is a habit.

    Long: at least 12 rows and six times what is usual; a habit: more than 3% of the other rows are still, too.
    """
    none = np.zeros(0, int)
    if len(still) < 100:
        return none, none
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(np.int8), [0]])))
    begin, length = edges[::2], edges[1::2] - edges[::2]
    long = length >= 12
    if not long.any():
        return none, none
    resting = (still.sum() - length[long].sum()) / max(len(still) - length[long].sum(), 1)
    habit = np.quantile(length[~long], 0.99) if (~long).any() else 1.0
    long &= length >= 6 * habit
    if resting > 0.03 or not long.any():
        return none, none
    return at[begin[long]], length[long]

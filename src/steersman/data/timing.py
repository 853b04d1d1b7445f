"""When the rows of a log were recorded, and when each column was really measured. Arrays only; knows no file, no role.

Shapes: R rows, N episodes; bounds are (start, stop) rows of each episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from steersman.core.recording import Array

Bounds = tuple[tuple[int, int], ...]
FEWEST = 8
"""Fewer intervals than this tell nothing about how regular time is."""


@dataclass(frozen=True)
class Spacing:
    """Time between rows.

    period  the median, in the unit of the time column (timestamps: seconds)
    spread  (q90 - q10) / period: 0 for a perfect clock
    gap     how many periods apart two rows of one recording may be; 0: too irregular to say, or too few rows
    """

    period: float
    spread: float
    gap: float


def clock(values: pa.ChunkedArray) -> Array:
    """A column of numbers or times as (R,) float64; dates and times in seconds, empty cells as NaN."""
    kind = values.type
    if pa.types.is_temporal(kind):
        array = values.to_numpy().astype("datetime64[ns]" if not pa.types.is_duration(kind) else "timedelta64[ns]")
        seconds: Array = np.where(np.isnat(array), np.nan, array.astype(np.int64) / 1e9)
        return seconds
    numbers: Array = values.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def intervals(time: Array, bounds: Bounds) -> Array:
    """Time from each row to the next of its episode, all episodes one after the other."""
    inside = np.ones(max(len(time) - 1, 0), bool)
    inside[[stop - 1 for _, stop in bounds if stop - 1 < len(inside)]] = False
    steps: Array = np.diff(time)[inside]
    return steps


def spacing(time: Array, bounds: Bounds) -> Spacing | None:
    """How regular time is; None if there are no two rows to compare.

    The gap is 1.5 periods where nine rows of ten keep the clock within a quarter of it (one lost row is a gap), 3 where
    they keep it within two thirds, else 0.
    """
    steps = intervals(time, bounds)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    if not len(steps):
        return None
    low, middle, high = np.quantile(steps, [0.1, 0.5, 0.9])
    spread = float((high - low) / middle)
    gap = 1.5 if spread <= 0.5 else 3.0 if spread <= 1.3 else 0.0
    return Spacing(float(middle), spread, gap if len(steps) >= FEWEST else 0.0)


def cut(time: Array, bounds: Bounds, longest: float) -> Bounds:
    """Episodes, cut wherever two rows are more than `longest` apart."""
    wide = np.flatnonzero(np.diff(time) > longest) + 1
    pieces: list[tuple[int, int]] = []
    for start, stop in bounds:
        inner = wide[np.searchsorted(wide, start, "right") : np.searchsorted(wide, stop)]
        edges = [start, *inner.tolist(), stop]
        pieces += pairwise(edges)
    return tuple(pieces)


def stretches(bounds: Bounds, shortest: int) -> Bounds:
    """Episodes, those cut into equal parts that are longer than a fortieth of all rows, or than `shortest`."""
    size = max(sum(stop - start for start, stop in bounds) // 40, shortest)
    found: list[tuple[int, int]] = []
    for start, stop in bounds:
        count = max(1, round((stop - start) / size))
        found += pairwise((start + np.arange(count + 1) * (stop - start) // count).tolist())
    return tuple(found)


# Columns that are measured less often than rows are written ----------------------------------------------------------


def held(values: Array, bounds: Bounds) -> Array:
    """Empty cells (NaN) filled with the last value before them in their episode; those before the first stay."""
    known = np.isfinite(values)
    if known.all():
        return values
    rows = np.arange(len(values))
    last = np.maximum.accumulate(np.where(known, rows, -1))
    first = np.repeat([start for start, _ in bounds], [stop - start for start, stop in bounds])
    return np.where(last >= first, values[last.clip(0)], np.nan)


def measured(values: Array, bounds: Bounds, every: int) -> Array:
    """(R,) bool: rows that hold a new measurement of a column that is measured once in `every` rows.

    Where cells are empty: the others. Where values repeat: a row whose value differs from the one before; a stretch of
    m equal values stands for round(m / every) measurements that happened to agree, at least for one.
    """
    known = np.isfinite(values)
    if not known.all():
        return known
    rows, length = _runs(values, bounds)
    count = np.maximum(np.round(length / every), 1)
    within = np.arange(len(values)) - rows
    fresh: Array = (within % every == 0) & (within < count * every)
    return fresh


def rows_per_update(values: Array, bounds: Bounds) -> int:
    """How many rows apart new measurements of a column are, if they plainly are; else 1.

    Plainly: a steady rhythm, at least 20 times, of cells that are filled (at least four in five intervals are alike) or
    of values that change (four in five stretches of equal values are alike, nine in ten last a multiple).
    """
    known = np.isfinite(values)
    if not known.all():
        at = np.flatnonzero(known)
        episode = np.searchsorted([start for start, _ in bounds], at, "right")
        apart = np.diff(at)[np.diff(episode) == 0]
        return _steady(apart, 0.8, 0.8)
    rows, length = _runs(values, bounds)
    first = np.unique(rows)
    starts, stops = np.array(bounds).T
    inner = ~np.isin(first, starts) & ~np.isin(first + length[first], stops)
    return _steady(length[first[inner]], 0.8, 0.9)


def _runs(values: Array, bounds: Bounds) -> tuple[Array, Array]:
    """For each row: where its stretch of equal values begins, and how long that is."""
    begins = np.ones(len(values), bool)
    begins[1:] = values[1:] != values[:-1]
    begins[[start for start, _ in bounds]] = True
    first = np.flatnonzero(begins)
    size = np.diff(np.append(first, len(values)))
    return np.repeat(first, size), np.repeat(size, size)


def _steady(apart: Array, alike: float, multiples: float) -> int:
    if len(apart) < 20:
        return 1
    counts = np.bincount(apart)
    every = int(counts.argmax())
    if every < 2 or counts[every] < alike * len(apart) or (apart % every == 0).mean() < multiples:
        return 1
    return every

"""Every check of single columns, of pairs of them and of repeated rows, one after the other; and each column described.

Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.data.doctor import acting, cells, levels, repeats, sensors
from steersman.data.doctor.report import ColumnFacts, Finding
from steersman.data.doctor.rows import Rows


def facts(rows: Rows) -> tuple[ColumnFacts, ...]:
    """Every column that is used, described."""
    found = []
    for name, column in rows.schema.columns.items():
        if name not in rows.values or column.role in ("ignored", "episode", "time"):
            continue
        values = rows.values[name]
        good = values[np.isfinite(values)]
        empty = 1 - len(good) / max(len(values), 1)
        if not len(good):
            found.append(ColumnFacts(name=name, role=column.role, unit=column.unit, empty=empty))
            continue
        low, high = float(good.min()), float(good.max())
        narrow = low < high and high - low < cells.LARGEST
        counts = np.histogram(good, 24, (low, high))[0] if narrow else np.array([])
        found.append(ColumnFacts(
            name=name, role=column.role, unit=column.unit, empty=empty, mean=float(good.mean()), std=float(good.std()),
            low=low, high=high, histogram=tuple(counts.tolist())))
    return tuple(found)


def examine(rows: Rows) -> Iterator[Finding]:
    """Findings about columns, one check after the other."""
    yield from cells.missing(rows)
    yield from cells.out_of_range(rows)
    constant = [n for n in (*rows.observed, *rows.acted, *rows.schema.exogenous) if sensors.is_constant(rows, n)]
    yield from sensors.constant(rows, constant)
    live = [n for n in rows.observed if n not in constant]
    acted = [n for n in rows.acted if n not in constant]
    yield from sensors.slow(rows)
    repeated = list(repeats.repeated_rows(rows, live))
    yield from repeated
    moving = [n for n in live if n not in rows.every and not sensors.per_episode(rows, n)]
    for name in moving:
        yield from cells.codes(rows, name)
        yield from cells.spikes(rows, name)
        if not repeated:
            yield from sensors.stuck(rows, name)
        yield from sensors.counter(rows, name)
    yield from sensors.coarse(rows, moving)
    yield from sensors.wrapped(rows, live)
    yield from cells.resets(rows, moving)
    yield from levels.examine(rows, moving, acted)
    yield from repeats.copies(rows, live)
    yield from acting.examine(rows, acted)
